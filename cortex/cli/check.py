"""`cortex config check FILE`: read a file as a role would, and name every mistake in it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cortex.cli.outcome import Exit, Failure
from cortex.config.catalogue import Catalogue
from cortex.config.gateway import GatewayConfig, load_catalogue
from cortex.config.loader import ConfigError, load, read_toml
from cortex.config.neuron import NeuronConfig

Kind = type[GatewayConfig] | type[NeuronConfig] | type[Catalogue]
KINDS: dict[str, Kind] = {"cortex": GatewayConfig, "neuron": NeuronConfig, "models": Catalogue}


def check(args: argparse.Namespace) -> int:
    file: Path = args.file
    if not file.is_file():
        raise Failure(f"there is no file '{file}'", Exit.usage)
    try:
        print(f"{file}: {describe(file)}")
    except ConfigError as error:
        raise Failure(str(error)) from error
    return Exit.ok


def describe(file: Path) -> str:
    """What a file says, in one line. Raises ConfigError. The environment is left out: the file itself is checked."""
    checked = load(kind_of(file, read_toml(file)), file=file, env_prefix="", environ={})
    match checked:
        case GatewayConfig():
            catalogue = load_catalogue(checked, file)
            return (
                f"a gateway's configuration, without mistakes: listens on {checked.gateway.listen}, "
                f"{len(checked.neurons)} neurons, {len(catalogue.models)} models"
            )
        case NeuronConfig():
            return f"a neuron's configuration, without mistakes: listens on {checked.listen}"
        case Catalogue():
            return f"a catalogue, without mistakes: {len(checked.models)} models, {len(checked.aliases)} aliases"


def kind_of(file: Path, values: dict[str, Any]) -> Kind:
    """Which file this is: by its name if that is the usual one, else by the kind that knows most of its keys."""
    if file.stem in KINDS:
        return KINDS[file.stem]
    return max(KINDS.values(), key=lambda kind: len(values.keys() & kind.model_fields.keys()))
