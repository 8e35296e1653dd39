"""Files, environment and flags → what a role runs with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cortex.cli.outcome import Exit, Failure
from cortex.cli.parser import parse
from cortex.cli.roles import Settings, joined, settings
from cortex.config.gateway import GatewayConfig, NeuronRef
from cortex.config.listen import Listen
from cortex.config.neuron import NeuronConfig


def resolve(*arguments: str, **environ: str) -> Settings:
    return settings(parse(arguments), environ)


def of_all(tmp_path: Path, text: str, *arguments: str, **environ: str) -> Settings:
    file = tmp_path / "cortex.toml"
    file.write_text(text)
    return resolve("--role", "all", "--config", str(file), *arguments, **environ)


@pytest.mark.parametrize(
    ("arguments", "gateway", "neuron"),
    [
        (["--role", "gateway"], Listen("127.0.0.1", 31313), None),
        (["serve", "-p", "1"], Listen("127.0.0.1", 1), None),
        (["serve", "--listen", "[::1]:2"], Listen("::1", 2), None),
        (["--role=neuron"], None, Listen("127.0.0.1", 13131)),
        (["neuron", "-p", "3"], None, Listen("127.0.0.1", 3)),
        (["neuron", "--listen", "127.0.0.2:4"], None, Listen("127.0.0.2", 4)),
        (["--role", "all", "--port", "5"], Listen("127.0.0.1", 5), Listen("127.0.0.1", 13131)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flags_choose_roles_and_addresses(arguments: list[str], gateway: Any, neuron: Any) -> None:
    """Without a file every role has its defaults; with --role all the address is the gateway's."""
    found = resolve(*arguments)
    assert (found.gateway and found.gateway.gateway.listen) == gateway
    assert (found.neuron and found.neuron.listen) == neuron


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    """The three sources of a neuron's port and folder, each stronger than the one before."""
    file = tmp_path / "neuron.toml"
    file.write_text("port = 1\nmodels_dir = '/srv'\n[limits]\ndrain_secs = 7\n")
    arguments = ["neuron", "-c", str(file)]
    assert resolve(*arguments).neuron == resolve(*arguments, NEURON_PORT="1").neuron
    with_environ = resolve(*arguments, NEURON_PORT="2", NEURON_LIMITS__DRAIN_SECS="8").neuron
    assert with_environ
    assert (with_environ.port, with_environ.limits.drain_secs) == (2, 8)
    with_flags = resolve(*arguments, "-p", "3", "--models-dir", str(tmp_path), NEURON_PORT="2").neuron
    assert with_flags
    assert (with_flags.port, with_flags.models_dir, with_flags.limits.drain_secs) == (3, tmp_path, 7)


def test_one_file_configures_both_roles(tmp_path: Path) -> None:
    """--role all reads the neuron from the gateway's file; NEURON_* and --models-dir win over it."""
    text = "[gateway]\nlisten = '127.0.0.1:1'\n[neuron]\nport = 2\nmodels_dir = '/srv'\n"
    found = of_all(tmp_path, text, "--models-dir", str(tmp_path), NEURON_PORT="3")
    assert found.gateway
    assert found.neuron
    assert found.gateway.gateway.listen.port == 1
    assert (found.neuron.port, found.neuron.models_dir) == (3, tmp_path)


def test_the_catalogue_is_beside_the_file(tmp_path: Path) -> None:
    """models.toml next to cortex.toml is read without being named."""
    (tmp_path / "models.toml").write_text("[[models]]\nid = 'org/x'\n")
    assert [profile.id for profile in of_all(tmp_path, "").catalogue.models] == ["org/x"]


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("127.0.0.1", "http://127.0.0.1:4"),
        ("0.0.0.0", "http://127.0.0.1:4"),
        ("::", "http://[::1]:4"),
        ("10.0.0.5", "http://10.0.0.5:4"),
    ],
)
def test_the_own_neuron_joins_an_empty_fleet(host: str, endpoint: str) -> None:
    """--role all adds its neuron as `local`, at an address that can be connected to; a named fleet stays as it is."""
    local = NeuronRef(name="local", endpoint=endpoint)
    assert joined(GatewayConfig(), NeuronConfig(), Listen(host, 4)).neurons == (local,)
    named = GatewayConfig(neurons=(NeuronRef(name="beast", endpoint="http://10.0.0.9:13131"),))
    assert joined(named, NeuronConfig(), Listen(host, 4)) is named


def test_every_mistake_of_a_file_is_named(tmp_path: Path) -> None:
    """A wrong key in either half is a failure with exit code 2 that names the nearest key."""
    with pytest.raises(Failure, match=r"neuron\.model_dir: unknown key; did you mean 'models_dir'") as raised:
        of_all(tmp_path, "[gateway]\nlisen = 'x:1'\n[neuron]\nmodel_dir = '/srv'\n")
    assert "gateway.lisen: unknown key; did you mean 'listen'" in str(raised.value)
    assert raised.value.code is Exit.usage
