"""The packaged configuration files: loaded as they are, and complete, also in what they comment out."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from cortex.config.catalogue import Catalogue
from cortex.config.gateway import GatewayConfig
from cortex.config.neuron import NeuronConfig

SAMPLES = Path(__file__).parents[2] / "rpm"
KINDS: dict[str, type[BaseModel]] = {
    "cortex.toml": GatewayConfig,
    "neuron.toml": NeuronConfig,
    "models.toml": Catalogue,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_sample_is_valid_as_it_is_shipped(name: str) -> None:
    """A packaged file loads unchanged."""
    KINDS[name].model_validate(tomllib.loads((SAMPLES / name).read_text()))


def test_samples_listen_on_this_host_only() -> None:
    """A package's services may start by being installed: what has no token and no keys yet is not for the network."""
    gateway = GatewayConfig.model_validate(tomllib.loads((SAMPLES / "cortex.toml").read_text())).gateway
    neuron = NeuronConfig.model_validate(tomllib.loads((SAMPLES / "neuron.toml").read_text()))
    assert all(listen.is_loopback for listen in (gateway.listen, gateway.metrics_listen, neuron.listen))
    assert not neuron.insecure


@pytest.mark.parametrize("name", KINDS)
def test_a_sample_is_valid_with_everything_uncommented(name: str) -> None:
    """What a sample only suggests is right as well: every commented line of TOML counts."""
    lines = (SAMPLES / name).read_text().splitlines()
    text = "\n".join(re.sub(r"^# (?=\[|[a-z0-9_]+ = )", "", line) for line in lines)
    loaded = KINDS[name].model_validate(tomllib.loads(text))
    assert set(_keys_of(KINDS[name])) - set(_keys_in(text)) == set()
    assert loaded != KINDS[name]()


def _keys_in(text: str) -> list[str]:
    tables = re.findall(r"^\[+([a-z_.]+)\]+", text, re.MULTILINE)
    return re.findall(r"(?:^|[{,] )([a-z0-9_]+) = ", text, re.MULTILINE) + [
        part for name in tables for part in name.split(".")
    ]


def _keys_of(kind: type[BaseModel]) -> list[str]:
    """Every key that a file of this kind may have, at any depth. The [neuron] table has a file of its own."""
    keys = []
    for name, field in kind.model_fields.items():
        keys.append(name)
        if name != "neuron":
            keys += [key for inner in _models_in(field.annotation) for key in _keys_of(inner)]
    return keys


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _models_in(inner)]
