"""`cortex.toml`: the gateway's configuration. Every key of the first generation works; the rest has a default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from cortex.config.catalogue import Catalogue
from cortex.config.entitlements import EntitlementsSection
from cortex.config.images import ImagesSection
from cortex.config.listen import Listen, ListenField
from cortex.config.loader import Section, load, read_toml, validate
from cortex.config.neuron import NeuronConfig
from cortex.config.rate import parse_rate
from cortex.config.responses import ResponsesSection
from cortex.config.trust import ConfigPath, Token, check_pair
from cortex.config.urls import BaseUrl
from cortex.wire.fleet import ONE_LINE


class NeuronRef(Section):
    """One `[[neurons]]` entry.

    tls_ca  who vouches for an https endpoint, or its very certificate; default: the operating system's authorities
    """

    name: str = Field(min_length=1, max_length=128, pattern=ONE_LINE)  # it travels in a header
    endpoint: BaseUrl
    token: Token | None = None
    token_file: Path | None = None
    tls_ca: ConfigPath | None = None


WaitPolicy = Literal["block", "fail-fast", "warm"]  # what a request does whose model is not loaded


class GatewaySection(Section):
    listen: ListenField = Listen("127.0.0.1", 31313)
    metrics_listen: ListenField = Listen("127.0.0.1", 31314)
    tls_cert: ConfigPath | None = None  # of `listen`, and of `metrics_listen`
    tls_key: ConfigPath | None = None
    metrics_tls: bool = True  # false: metrics in the clear although there is a certificate
    neuron_token: Token | None = None  # of every neuron that has none of its own
    neuron_token_file: Path | None = None
    neuron_tls_ca: ConfigPath | None = None
    poll_interval_secs: float = Field(10.0, gt=0)
    poll_timeout_secs: float = Field(5.0, gt=0)
    unhealthy_after: int = Field(3, ge=1)  # missed polls: one hiccup must not empty the routing table
    idle_timeout_secs: float = Field(300.0, gt=0)  # silence of an open answer, never its whole length
    load_timeout_secs: float = Field(1800.0, gt=0)  # how long a request waits for a cold load
    wait: WaitPolicy = "block"  # for requests that do not say x-cortex-wait
    max_swap_wait_secs: float = Field(60.0, gt=0)  # of a model whose place busy ones have: then they take nothing new
    keepalive_secs: float = Field(1.0, gt=0, le=15)  # SSE comments while a stream waits
    drain_secs: float = Field(30.0, ge=0)
    max_body_mb: int = Field(64, ge=1)

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        check_pair(self.tls_cert, self.tls_key)
        return self


class EvictionSection(Section):
    strategy: Literal["lru", "priority"] = "lru"
    defrag_after_cycles: int = Field(0, ge=0)


class SyncSection(Section):
    """`[sync]`: a model's files are copied to a neuron that lacks them, from one that has them, through this gateway.

    allow  by itself, when a request needs it
    rate   bytes a second of one copy; default: what the network gives
    """

    allow: bool = False
    rate: Annotated[int, BeforeValidator(parse_rate)] | None = None


class GatewayConfig(Section):
    """The whole file. `neuron` is read by `--role all` only: one file for a single host."""

    gateway: GatewaySection = GatewaySection()
    eviction: EvictionSection = EvictionSection()
    entitlements: EntitlementsSection = EntitlementsSection()
    responses: ResponsesSection = ResponsesSection()
    images: ImagesSection = ImagesSection()
    sync: SyncSection = SyncSection()
    neurons: tuple[NeuronRef, ...] = ()
    models_config: Path | None = None  # relative to this file; default: models.toml beside it, if there is one
    neuron: NeuronConfig | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [neuron.name for neuron in self.neurons]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"neurons: the name '{min(twice)}' is used twice")
        return self

    @property
    def trusted_neurons(self) -> tuple[NeuronRef, ...]:
        """The neurons, each with the token and the authority that hold for it."""
        return tuple(self.trusted(ref) for ref in self.neurons)

    def trusted(self, ref: NeuronRef) -> NeuronRef:
        general = self.gateway
        return ref.model_copy(
            update={"token": ref.token or general.neuron_token, "tls_ca": ref.tls_ca or general.neuron_tls_ca}
        )


def load_gateway_config(
    file: Path | None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> GatewayConfig:
    """`cortex.toml` and CORTEX_* variables. Raises ConfigError."""
    return load(
        GatewayConfig,
        file=file,
        env_prefix="CORTEX_",
        environ=os.environ if environ is None else environ,
        overrides=overrides,
    )


def load_catalogue(config: GatewayConfig, config_file: Path | None) -> Catalogue:
    """The catalogue that a gateway configuration names. A named file must exist; the default one may be absent. Raises ConfigError."""
    path = catalogue_path(config, config_file)
    if path is None or not (config.models_config or path.exists()):
        return Catalogue()
    return validate(Catalogue, read_toml(path), source=str(path))


def catalogue_path(config: GatewayConfig, config_file: Path | None) -> Path | None:
    """Where the catalogue is, or would be."""
    folder = config_file.resolve().parent if config_file else None
    if config.models_config:
        return config.models_config if folder is None else folder / config.models_config
    return folder / "models.toml" if folder else None
