"""`neuron.toml`: a model host's configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from cortex.config.listen import Listen
from cortex.config.loader import Section, load
from cortex.config.trust import ConfigPath, Token, check_pair
from cortex.config.urls import BaseUrl
from cortex.wire.fleet import LoadRequest, LoadSettings

HarnessName = Literal["auto", "candle", "llamacpp", "ctransformers"]  # candle: the first generation's word for auto


class HarnessRef(Section):
    """One `[[harnesses]]` entry. Without any, every harness of this build is used."""

    name: HarnessName


class CandleSection(Section):
    """`[harness.candle]`, kept for files of the first generation: where its Hugging Face cache is."""

    hf_cache: Path | None = None


class LlamaCppSection(Section):
    """`[harness.llamacpp]`.

    server_binary  a llama-server to use instead of the built-in engine, for a build that knows this host's GPUs
    backends       folder that build/backends made: code for newer processors and NVIDIA's GPUs, for the built-in engine
    """

    server_binary: ConfigPath | None = None
    backends: ConfigPath | None = None

    @model_validator(mode="after")
    def _one_engine(self) -> Self:
        if self.server_binary and self.backends:
            raise ValueError(
                "backends: is for the built-in engine, which server_binary replaces; leave one of them out"
            )
        return self


class CTransformersSection(Section):
    """`[harness.ctransformers]`.

    cuda_libraries  folder with NVIDIA's libcudart.so.12, libcublasLt.so.12 and libcublas.so.12, with which legacy models can use a GPU
    """

    cuda_libraries: ConfigPath | None = None


class HarnessSections(Section):
    candle: CandleSection = CandleSection()
    llamacpp: LlamaCppSection = LlamaCppSection()
    ctransformers: CTransformersSection = CTransformersSection()


class DefaultModel(LoadSettings, Section):
    """One `[[default_models]]` entry: loaded at start, and its settings hold for whoever loads the model on this host."""

    model_id: str = Field(min_length=1, max_length=512)
    harness: HarnessName = "auto"
    quant: str | None = None
    source: str | None = None
    tensor_parallel: int | None = Field(None, ge=1)
    devices: tuple[int, ...] | None = None

    def load_request(self) -> LoadRequest:
        return LoadRequest(**self.model_dump(exclude_none=True), devices_required=self.devices is not None)


class LimitsSection(Section):
    memory_mb: int | None = Field(
        None, gt=0
    )  # what models may take of a host without a GPU; default: what the host has
    load_secs: float = Field(300.0, gt=0)  # for a load, plus 20 s per GiB of the file; extended while bytes move
    drain_secs: float = Field(30.0, ge=0)
    max_body_mb: int = Field(64, ge=1)


class AdmissionSection(Section):
    """Defaults for every model; a load request may say otherwise."""

    max_in_flight: int | None = Field(None, ge=1)  # default: the model's parallel slots
    max_queue_depth: int = Field(32, ge=0)
    max_wait_secs: float = Field(30.0, gt=0)
    max_per_principal: int | None = Field(None, ge=1)  # of a key's requests at once; the rest of them wait
    idle_timeout_secs: float = Field(300.0, gt=0)


class HubSection(Section):
    """Where missing models come from. `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE` and `HF_TOKEN` are honoured as the library does."""

    enabled: bool = True


class SyncSection(Section):
    """`[sync]`: files of models that gateways copy from one neuron to another. Both wants a token.

    offer   give the files of the models here to whoever shows it
    accept  take files of models that are not here, into `models_dir`
    """

    offer: bool = True
    accept: bool = False


class JoinSection(Section):
    """Gateways that this neuron tells of itself. Both sides need the same token.

    name      what it is called there; default: the host's name
    endpoint  where gateways reach it; default: the address that they hear it from, with its port
    tls_ca    who vouches for gateways with https
    """

    gateways: tuple[BaseUrl, ...] = ()
    name: str | None = Field(None, min_length=1, max_length=128)
    endpoint: BaseUrl | None = None
    interval_secs: float = Field(5.0, ge=0.1, le=60)
    tls_ca: ConfigPath | None = None


class NeuronConfig(Section):
    host: str = "127.0.0.1"
    port: int = Field(13131, ge=0, le=65535)
    token: Token | None = None  # what gateways, and whoever else asks, must show
    token_file: Path | None = None
    insecure: bool = False  # listen beyond loopback without a token: to be said in so many words
    tls_cert: ConfigPath | None = None
    tls_key: ConfigPath | None = None
    models_dir: Path | None = None
    runtime_dir: Path | None = (
        None  # default: $RUNTIME_DIRECTORY, else $XDG_RUNTIME_DIR/cortex, else a private temporary folder
    )
    state_dir: Path | None = None  # default: $STATE_DIRECTORY, else $XDG_STATE_HOME/cortex, else ~/.local/state/cortex
    harnesses: tuple[HarnessRef, ...] = ()
    harness: HarnessSections = HarnessSections()
    default_models: tuple[DefaultModel, ...] = ()
    limits: LimitsSection = LimitsSection()
    admission: AdmissionSection = AdmissionSection()
    hub: HubSection = HubSection()
    join: JoinSection = JoinSection()
    sync: SyncSection = SyncSection()

    @property
    def listen(self) -> Listen:
        return Listen(self.host, self.port)

    @model_validator(mode="after")
    def _exposure_is_deliberate(self) -> Self:
        if not (self.listen.is_loopback or self.insecure or self.token or self.token_file):
            raise ValueError(
                f"host: '{self.host}' opens this neuron to the network, where anybody may load models; "
                "set token_file, or insecure = true if that network is trusted"
            )
        check_pair(self.tls_cert, self.tls_key)
        if self.join.gateways and not (self.token or self.token_file):
            raise ValueError(
                "join: wants token_file, the same token as the gateway's neuron_token; without one nobody joins"
            )
        if self.sync.accept and not (self.token or self.token_file):
            raise ValueError("sync.accept: wants token_file: nobody else may write files here")
        if self.sync.accept and self.models_dir is None:
            raise ValueError("sync.accept: wants models_dir, where the files are to go")
        return self


def load_neuron_config(
    file: Path | None, overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> NeuronConfig:
    """`neuron.toml` and NEURON_* variables. Raises ConfigError."""
    return load(
        NeuronConfig,
        file=file,
        env_prefix="NEURON_",
        environ=os.environ if environ is None else environ,
        overrides=overrides,
    )
