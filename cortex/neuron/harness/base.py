"""What every harness can say about a model and a request, at the neuron and without its library. All of it is pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cortex.errors import CortexError
from cortex.neuron.engine.spec import EngineSpec, Mode
from cortex.neuron.gguf import Header
from cortex.neuron.harness.backends import Backends
from cortex.wire.fleet import Device, LoadSettings


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model's files are. `weights` is the first part of a split model; the bytes are those of all parts."""

    weights: Path
    mmproj: Path | None = None
    draft: Path | None = None
    mmproj_bytes: int = 0
    draft_bytes: int = 0


@dataclass(frozen=True, slots=True)
class HostShare:
    """What of this host the engine may use.

    cores            physical cores that this process may use
    devices          GPU indices as the neuron counts them; empty: the processor
    uuids            of these devices, for CUDA, which may count otherwise; empty: not all are known
    shares           which part of the model each of them takes, together 1
    other_gpus       whether the harness has GPUs that the neuron cannot see: their memory is its own affair
    freest           the position in `devices` of the one with the most free memory
    memory_free_mb   host memory, MiB; None: not told
    fitting_context  tokens whose KV cache still fits beside the weights; None: not known
    max_in_flight    requests that are let through at once; None: as many as there are slots
    """

    cores: int
    devices: tuple[int, ...] = ()
    uuids: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    freest: int = 0
    other_gpus: bool = False
    memory_free_mb: int | None = None
    fitting_context: int | None = None
    max_in_flight: int | None = None


class Translation(Protocol):
    """An engine's event stream → what one client asked for. Pure; it lives as long as one answer.

    whole     the client gets one JSON answer, from `end`; otherwise events, from `push`
    begun     the first token has come: from then on the engine is never silent for long
    failure   the engine said that it failed; nothing more will come
    """

    @property
    def whole(self) -> bool: ...

    @property
    def begun(self) -> bool: ...

    @property
    def failure(self) -> CortexError | None: ...

    def push(self, events: bytes) -> bytes:
        """Whole events of the engine → bytes for the client, b"" when there are none yet."""

    def end(self) -> bytes:
        """The engine's stream has ended: what is left for the client. Raises CortexError when the answer is not whole."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as the engine is to have it. `translation` None: its answer passes as it is."""

    body: dict[str, Any]
    translation: Translation | None = None


class Harness(Protocol):
    """The adapter to one inference library.

    other_gpus  GPUs that it has and the neuron does not watch, as it lists them
    problem     why it can start no engine at all, as a sentence; None: nothing speaks against it
    backends    what its engines put into their library; None: they use it as it is
    """

    name: str

    @property
    def problem(self) -> str | None: ...

    @property
    def backends(self) -> Backends | None: ...

    @property
    def other_gpus(self) -> tuple[str, ...]: ...

    def version(self) -> str | None:
        """The library's version; None when this installation does not have it."""

    def cannot_serve(self, header: Header) -> str | None:
        """Why this harness cannot serve such a file, as a sentence; None when nothing speaks against it."""

    def processor_reason(self, header: Header | None = None) -> str | None:
        """Why its engines compute on the processor, whatever GPUs the host has, as a sentence; None: they use GPUs.

        `header` None: with any file.
        """

    def cannot_use(self, devices: Sequence[Device], cuda_version: str | None = None) -> str | None:
        """Why its engines can compute on none of these GPUs, as a sentence; None when they can, or when none is there or missed.

        `cuda_version` is the driver's, `13.0`; None: it does not tell.
        """

    def foreign_gpus(self, devices: Sequence[Device]) -> Mapping[int, str]:
        """Those of these GPUs that its engines have no code for, by index, with the reason as a sentence. The others are used."""

    def mode(self, header: Header, settings: LoadSettings) -> Mode:
        """What the model is for: what was asked, else what its header says."""

    def engine_spec(
        self,
        *,
        alias: str,
        files: ModelFiles,
        header: Header,
        settings: LoadSettings,
        host: HostShare,
        socket_path: Path,
    ) -> EngineSpec:
        """Every decision about one engine. Raises CortexError (400) for settings that contradict one another."""

    def capabilities(self, header: Header, mode: Mode, *, vision: bool) -> tuple[str, ...]:
        """What a client may ask of it: chat, completions, tools, vision, embeddings, rerank."""

    def prepare(self, path: str, body: dict[str, Any], spec: EngineSpec) -> Prepared:
        """Check and mend a request; its body is the very same object when nothing had to be. Raises CortexError, which names the field."""

    def engine_error(self, status: int, body: bytes) -> CortexError:
        """An engine's error answer, as a client of this API expects it."""
