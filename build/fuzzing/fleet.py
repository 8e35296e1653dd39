"""A gateway and a neuron as processes, with what they need in one folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from helpers.described_fleet import CATALOGUE, LOADED, scripted_folder
from helpers.roles import Role, running_role
from helpers.scripted_gguf import write_scripted_model

LOAD_S = 60.0
TOKEN = "shared"  # noqa: S105  of neurons that join: no secret here


@dataclass(frozen=True)
class Target:
    """A role that runs, and how it is put back to work after what was done to it."""

    name: str
    role: Role
    undrain: str
    client: httpx.Client = field(repr=False)

    @property
    def document(self) -> dict[str, Any]:
        told: dict[str, Any] = self.client.get("/openapi.json").json()
        return told

    def mend(self) -> None:
        """Not drained, and every model in memory."""
        self.client.post(self.undrain).raise_for_status()
        for model in LOADED:
            self.client.post("/models/load", json=model).raise_for_status()


@contextlib.contextmanager
def targets(folder: Path) -> Iterator[dict[str, Target]]:
    """`gateway` and `neuron`. Nothing here reaches a network."""
    scripted = folder / "scripted.gguf"
    write_scripted_model(scripted)
    models, state = scripted_folder(scripted, folder / "models"), folder / "state"
    neuron_toml = _write(
        folder / "neuron.toml",
        f'models_dir = "{models}"\nstate_dir = "{state}"\nruntime_dir = "{folder}"\nport = 0\n[hub]\nenabled = false\n',
    )
    with contextlib.ExitStack() as stack:
        environ = {"HF_HUB_OFFLINE": "1", "HOME": str(folder), "XDG_STATE_HOME": str(state)}
        neuron = stack.enter_context(running_role("--role", "neuron", "-c", neuron_toml, **environ))
        _write(folder / "models.toml", _catalogue())
        cortex_toml = _write(
            folder / "cortex.toml",
            f'models_config = "models.toml"\n[gateway]\nlisten = "127.0.0.1:0"\nneuron_token = "{TOKEN}"\n'
            f'[responses]\nstore = true\n[[neurons]]\nname = "local"\nendpoint = "{neuron.url}"\n',
        )
        gateway = stack.enter_context(running_role("--role", "gateway", "-c", cortex_toml, **environ))
        found = {}
        for name, role, undrain in (("neuron", neuron, "/undrain"), ("gateway", gateway, "/nodes/local/undrain")):
            client = stack.enter_context(httpx.Client(base_url=role.url, timeout=LOAD_S, trust_env=False))
            found[name] = Target(name, role, undrain, client)
            found[name].mend()
        yield found


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _catalogue() -> str:
    profiles = [
        "[[models]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in profile.items())
        for profile in CATALOGUE["models"]
    ]
    aliases = "".join(f"{alias} = {_toml(model)}\n" for alias, model in CATALOGUE["aliases"].items())
    return "\n".join([*profiles, "[aliases]", aliases])


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
