"""The self-test's fleet: a gateway and two neurons as their own processes, as on three hosts, with no network but loopback."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ports import free_ports

from binary import selftest_client as client
from binary.selftest_check import WAIT_S, NotSo, until

TOKEN = "of-the-self-test"  # noqa: S105  for loopback, and a minute
HERE, THERE = "here", "there"
Process = subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class Fleet:
    """`here` has models, `there` has none and takes what it is sent. `url` is the gateway's, `host` and `port` that of `here`."""

    gateway: Process
    here: Process
    there: Process
    url: str
    host: str


@contextlib.contextmanager
def started(command: Sequence[str], home: Path, default_models: str) -> Iterator[Fleet]:
    """`home` has the models of `here` in `models`, and gets those of `there` in `there`."""
    port = free_ports(4)
    here, there = port + 2, port + 3
    (home / "there").mkdir()
    _write_neuron(home, HERE, here, home / "models", default_models)
    _write_neuron(home, THERE, there, home / "there", "[sync]\naccept = true\n")
    (home / "cortex.toml").write_text(
        f"[gateway]\nlisten = '127.0.0.1:{port}'\nmetrics_listen = '127.0.0.1:{port + 1}'\npoll_interval_secs = 1\n"
        f"[responses]\nstore = true\ndatabase = '{home}/responses.sqlite'\n"
        + "".join(
            f"[[neurons]]\nname = '{name}'\nendpoint = 'http://127.0.0.1:{at}'\ntoken = '{TOKEN}'\n"
            for name, at in ((HERE, here), (THERE, there))
        )
    )
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(_neuron(command, home, name)) for name in (HERE, THERE)}
        gateway = stack.enter_context(_role(command, "gateway", home / "cortex.toml"))
        for name, at in ((HERE, here), (THERE, there)):
            until(
                lambda at=at: client.fetched(f"http://127.0.0.1:{at}/health"),  # type: ignore[misc]
                f"neuron '{name}' answers",
                processes[name],
            )
        url = f"http://127.0.0.1:{port}"
        until(lambda: client.fetched(f"{url}/health"), "the gateway answers", gateway)
        yield Fleet(gateway, processes[HERE], processes[THERE], url, f"127.0.0.1:{here}")


def _write_neuron(home: Path, name: str, port: int, models: Path, more: str) -> None:
    (home / f"{name}.toml").write_text(
        f"port = {port}\ntoken = '{TOKEN}'\nmodels_dir = '{models}'\nruntime_dir = '{home}/run'\nstate_dir = '{home}/{name}-state'\n"
        + more
    )


def _neuron(command: Sequence[str], home: Path, name: str) -> contextlib.AbstractContextManager[Process]:
    return _role(command, "neuron", home / f"{name}.toml")


@contextlib.contextmanager
def _role(command: Sequence[str], role: str, file: Path) -> Iterator[Process]:
    own = {"CACHE_DIRECTORY": str(file.parent / "cache"), "CORTEX_LOG": "debug", "HF_HUB_OFFLINE": "1"}
    with file.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--role", role, "--config", str(file)], env={"PATH": "/usr/bin:/bin", **own}, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def engine_of(pid: int) -> int:
    """One of the neuron's children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if not children:
        raise NotSo("the neuron has no child, and so no engine")
    return int(children[0])


def images(*pids: int) -> set[str]:
    return {str(Path(f"/proc/{pid}/exe").readlink()) for pid in pids}


def ended(process: Process) -> int:
    process.terminate()
    return process.wait(timeout=WAIT_S)
