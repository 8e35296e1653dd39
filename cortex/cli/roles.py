"""Files, environment and flags → what a role runs with. No I/O but the reading of configuration.

Precedence, from strong to weak: flags, NEURON_* (for the neuron), CORTEX_*, the file, defaults.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cortex.cli.outcome import Exit, Failure
from cortex.config.catalogue import Catalogue
from cortex.config.gateway import GatewayConfig, NeuronRef, catalogue_path, load_catalogue, load_gateway_config
from cortex.config.listen import Listen
from cortex.config.loader import ConfigError, from_environment, read_toml
from cortex.config.neuron import NeuronConfig, load_neuron_config
from cortex.config.trust import token_files


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process runs: a gateway, a neuron, or both."""

    gateway: GatewayConfig | None = None
    catalogue: Catalogue = field(default_factory=Catalogue)
    neuron: NeuronConfig | None = None


def settings(args: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """Raises Failure with every mistake named."""
    try:
        match args.role:
            case "neuron":
                return Settings(neuron=load_neuron_config(args.config, _neuron_flags(args), environ))
            case "gateway":
                if args.models_dir:
                    raise Failure("--models-dir is a neuron's: a gateway reads no model files", Exit.usage)
                return _with_gateway(args, load_gateway_config(args.config, environ))
            case _:
                return _both(args, environ)
    except ConfigError as error:
        raise Failure(str(error), Exit.usage) from error


def _both(args: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """`--role all`: port and address are the gateway's, the folder is the neuron's."""
    folder = {"models_dir": args.models_dir.absolute()} if args.models_dir else {}
    overrides = {"neuron": {**from_environment("NEURON_", environ), **folder}}
    return _with_gateway(args, load_gateway_config(args.config, environ, overrides))


def _with_gateway(args: argparse.Namespace, config: GatewayConfig) -> Settings:
    listen = _listen(args, config.gateway.listen)
    config = config.model_copy(update={"gateway": config.gateway.model_copy(update={"listen": listen})})
    return Settings(
        gateway=config,
        catalogue=load_catalogue(config, args.config),
        neuron=(config.neuron or NeuronConfig()) if args.role == "all" else None,
    )


def _neuron_flags(args: argparse.Namespace) -> dict[str, Any]:
    flags: dict[str, Any] = {"port": args.port, "models_dir": args.models_dir and args.models_dir.absolute()}
    if args.listen:
        flags |= _listen(args, None)._asdict()
    return {name: value for name, value in flags.items() if value is not None}


def _listen(args: argparse.Namespace, configured: Listen | None) -> Listen:
    """The address to listen on: --listen whole, --port on the configured host."""
    if args.listen and args.port is not None:
        raise Failure("say --listen or --port, not both", Exit.usage)
    if args.listen or configured is None:
        try:
            return Listen.parse(args.listen)
        except ValueError as error:
            raise Failure(f"--listen: {error}", Exit.usage) from error
    return configured if args.port is None else Listen(configured.host, args.port)


def joined(config: GatewayConfig, neuron: NeuronConfig, bound: Listen) -> GatewayConfig:
    """The gateway's configuration with the neuron of the same process in it, unless other neurons are named."""
    if config.neurons:
        return config
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bound.host, bound.host)  # all addresses: the nearest one
    scheme = "https" if neuron.tls_cert else "http"
    local = NeuronRef(
        name="local",
        endpoint=f"{scheme}://{Listen(host, bound.port)}",
        token=neuron.token,
        tls_ca=config.gateway.neuron_tls_ca or neuron.tls_cert,
    )
    return config.model_copy(update={"neurons": (local,)})


def watched_files(args: argparse.Namespace, environ: Mapping[str, str], found: Settings) -> tuple[Path, ...]:
    """Every file that `settings` read or that its result names: when one of them changes, it is to be read again."""
    if args.config is None:
        return ()
    folder = args.config.resolve().parent
    files = [args.config, *(folder / name for name in token_files(read_toml(args.config)))]
    files += [
        folder / name for prefix in ("CORTEX_", "NEURON_") for name in token_files(from_environment(prefix, environ))
    ]
    if found.gateway:
        general = found.gateway.gateway
        files += [catalogue_path(found.gateway, args.config), general.tls_cert, general.tls_key, general.neuron_tls_ca]
        files += [ref.tls_ca for ref in found.gateway.trusted_neurons]
    if found.neuron:
        files += [found.neuron.tls_cert, found.neuron.tls_key, found.neuron.join.tls_ca]
    return tuple(dict.fromkeys(file for file in files if file))


def source(file: Path | None) -> str:
    return f"configuration from {file}" if file else "no configuration file given: defaults, on loopback only"
