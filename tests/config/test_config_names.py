"""Keys and values of a configuration that would do harm only later: they are named at once."""

from __future__ import annotations

import pytest

from cortex.config.catalogue import Catalogue
from cortex.config.gateway import GatewayConfig, load_gateway_config
from cortex.config.loader import ConfigError, validate


def test_a_table_in_the_environment_is_no_value() -> None:
    """`CORTEX_GATEWAY` and `CORTEX_GATEWAY__LISTEN` contradict one another, and the error names the one that is wrong."""
    environ = {"CORTEX_GATEWAY": "127.0.0.1:1", "CORTEX_GATEWAY__LISTEN": "127.0.0.1:2"}
    with pytest.raises(ConfigError, match="CORTEX_GATEWAY__LISTEN: 'gateway' is a value already"):
        load_gateway_config(None, environ)


@pytest.mark.parametrize("endpoint", ["http://a b:1", "http://a\\tb:1", "http://a:1\\n"])
def test_a_neurons_endpoint_has_no_blanks(endpoint: str) -> None:
    """What a connection cannot be made to is refused with the file, and not in the middle of taking it over."""
    with pytest.raises(ConfigError, match=r"(?s)neurons\.0\.endpoint: .* is not a base URL"):
        _gateway({"neurons": [{"name": "a", "endpoint": endpoint.encode().decode("unicode_escape")}]})


def test_a_neurons_name_is_one_line() -> None:
    """It travels in a header of every answer."""
    with pytest.raises(ConfigError, match=r"neurons\.0\.name"):
        _gateway({"neurons": [{"name": "a\nb", "endpoint": "http://a:1"}]})


def test_a_profiles_id_can_be_asked_for() -> None:
    """A neuron takes names of up to 512 letters."""
    assert validate(Catalogue, {"models": [{"id": "x" * 512}]}, source="models.toml").models[0].load_request()
    with pytest.raises(ConfigError, match=r"models\.0\.id"):
        validate(Catalogue, {"models": [{"id": "x" * 513}]}, source="models.toml")


def _gateway(values: dict[str, object]) -> GatewayConfig:
    return validate(GatewayConfig, values, source="cortex.toml")
