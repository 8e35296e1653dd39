"""The harnesses of this host: who serves a model, and whether its engines can run here and use the GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cortex import errors
from cortex.neuron.gguf import Header
from cortex.neuron.hardware.watch import HardwareWatch
from cortex.neuron.harness import choice
from cortex.neuron.harness.base import Harness
from cortex.neuron.models.source import LocalModel
from cortex.wire.fleet import LoadRequest

ON_PROCESSOR = "with gpu_layers = 0 the model runs on the processor"


class Harnesses(Mapping[str, Harness]):
    """By name, in the order in which they are tried."""

    def __init__(self, known: Mapping[str, Harness], hardware: HardwareWatch) -> None:
        self._known = known
        self._hardware = hardware

    def __getitem__(self, name: str) -> Harness:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def chosen(self, request: LoadRequest, model: LocalModel) -> Harness:
        """Who serves it. Raises CortexError when nobody does."""
        return choice.choose(request.harness, model.header, self)

    def first_for(self, model: LocalModel) -> Harness | None:
        """Who would serve it without a wish."""
        return next((harness for harness in self.values() if harness.cannot_serve(model.header) is None), None)

    @property
    def gpus_unavailable(self) -> str | None:
        """Why models are not put on this host's GPUs: the first harness's reason, which serves most of them. None: they are, or there are none."""
        nvidia = self._hardware.nvidia
        if reason := self._hardware.unavailable_reason:
            return reason
        first = self._first_on_gpus
        return first.cannot_use(nvidia.devices, nvidia.cuda_version) if first else None

    @property
    def foreign_gpus(self) -> Mapping[int, str]:
        """GPUs that models are not put on, by index, with the reason: the first harness has no code for them."""
        first = self._first_on_gpus
        return first.foreign_gpus(self._hardware.nvidia.devices) if first else {}

    @property
    def _first_on_gpus(self) -> Harness | None:
        return next((each for each in self.values() if each.processor_reason() is None), None)

    def check(self, request: LoadRequest, harness: Harness, header: Header) -> str | None:
        """Its engines must be able to run here: no SIGILL, and no processor that stands in silently for a GPU.

        Returns why this model runs on the processor by itself, without a wish for GPU layers.
        """
        if reason := self._hardware.facts.cpu_unsupported_reason:
            raise errors.invalid_request(reason, code="cpu_unsupported", status=422)
        if reason := harness.problem:
            raise errors.invalid_request(reason, code="harness_unusable", status=422)
        if request.gpu_layers == 0:
            return None
        wanted = request.gpu_layers is not None
        reason = harness.processor_reason(header)
        if reason and not wanted:
            return reason
        if not reason and (unavailable := self._hardware.unavailable_reason):
            raise errors.unavailable(f"{unavailable}; {ON_PROCESSOR}", code="cuda_unavailable", retry_after=30)
        nvidia = self._hardware.nvidia
        if not reason and (nvidia.devices or wanted or harness.backends):
            reason = harness.cannot_use(nvidia.devices, nvidia.cuda_version)
        if reason:
            raise errors.invalid_request(f"{reason}; {ON_PROCESSOR}", code="cuda_unsupported", status=422)
        return None
