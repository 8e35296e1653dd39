"""Tokens and certificates in configurations: where they come from, and that they never show."""

from __future__ import annotations

from pathlib import Path

import pytest

from cortex.config.gateway import GatewayConfig, load_gateway_config
from cortex.config.loader import ConfigError
from cortex.config.neuron import NeuronConfig, load_neuron_config

SECRET = "1234567890123456"  # a token of digits stays a text


def neuron(folder: Path, text: str, **environ: str) -> NeuronConfig:
    file = folder / "neuron.toml"
    file.write_text(text)
    return load_neuron_config(file, environ=environ)


def gateway(folder: Path, text: str, **environ: str) -> GatewayConfig:
    file = folder / "cortex.toml"
    file.write_text(text)
    return load_gateway_config(file, environ)


def test_a_token_comes_from_the_file_a_token_file_or_the_environment(tmp_path: Path) -> None:
    """The environment wins, a token file lies beside the configuration, and its line break is not part of it."""
    (tmp_path / "token").write_text(f"{SECRET}\n")
    texts = [f"token = '{SECRET}'", "token_file = 'token'", f"token_file = '{tmp_path}/token'"]
    found = [neuron(tmp_path, text).token for text in texts]
    found += [neuron(tmp_path, "token = 'other'", NEURON_TOKEN=SECRET).token]
    found += [neuron(tmp_path, "token = 'other'", NEURON_TOKEN_FILE="token").token]
    assert [token.get_secret_value() if token else None for token in found] == [SECRET] * 5


def test_a_neurons_token_is_its_own_or_the_one_for_all(tmp_path: Path) -> None:
    """`[[neurons]]` entries win over `[gateway]`; the authority of https likewise."""
    (tmp_path / "token").write_text(SECRET)
    text = """
    [gateway]
    neuron_token_file = "token"
    neuron_tls_ca = "fleet.crt"
    [[neurons]]
    name = "a"
    endpoint = "https://10.0.0.1:1"
    [[neurons]]
    name = "b"
    endpoint = "https://10.0.0.2:1"
    token = "of-its-own"
    tls_ca = "/etc/b.crt"
    """
    a, b = gateway(tmp_path, text).trusted_neurons
    assert a.token
    assert b.token
    assert (a.token.get_secret_value(), b.token.get_secret_value()) == (SECRET, "of-its-own")
    assert (a.tls_ca, b.tls_ca) == (tmp_path / "fleet.crt", Path("/etc/b.crt"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("token = ''", "token: a token is printable ASCII"),
        ("token = 'two words'", "token: a token is printable ASCII"),
        ('token = "a\\nb"', "token: a token is printable ASCII"),
        ("token = 'x'\ntoken_file = 'token'", "say token or token_file, not both"),
        ("token_file = 'absent'", "token_file: .*absent cannot be read: No such file"),
        ("token_file = 'empty'", "token_file: .*empty is empty"),
        ("tls_cert = 'a.crt'", "tls_key: is missing"),
        ("tls_key = 'a.key'", "tls_cert: is missing"),
        ("host = '0.0.0.0'", "set token_file, or insecure = true"),
    ],
)
def test_a_mistake_about_trust_is_named(tmp_path: Path, text: str, says: str) -> None:
    """What was wrong, under which key, and what would be right."""
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigError, match=says):
        neuron(tmp_path, text)


@pytest.mark.parametrize(
    "more", ["", "unknown_key = 1\n", "port = 'x'\n", "tls_key = 'x'\n", "token_file = 'absent'\n"]
)
def test_a_token_is_never_shown(tmp_path: Path, more: str) -> None:
    """Neither by a configuration's own text, nor by any complaint about it."""
    try:
        shown = repr(neuron(tmp_path, f"{more}token = '{SECRET} blank'"))
    except ConfigError as error:
        shown = str(error)
    assert SECRET not in shown
    assert SECRET not in repr(neuron(tmp_path, f"token = '{SECRET}'"))


@pytest.mark.parametrize("begin", ["http://", "http:/", "http:", "htp://h/", ""])
def test_an_endpoint_carries_no_password(tmp_path: Path, begin: str) -> None:
    """A URL with a password is refused without being repeated."""
    with pytest.raises(ConfigError, match="carries no user and no password") as raised:
        gateway(tmp_path, f"[[neurons]]\nname = 'a'\nendpoint = '{begin}me:{SECRET}@10.0.0.1:1'\n")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("key", ["token = 'x'", "token_file = 't'", "insecure = true"])
def test_beyond_loopback_wants_a_word(tmp_path: Path, key: str) -> None:
    """A token, its file, or `insecure` opens a neuron to the network."""
    (tmp_path / "t").write_text("x")
    assert neuron(tmp_path, f"host = '0.0.0.0'\n{key}").listen.host == "0.0.0.0"
