"""Which harness serves a file: the one that was asked for, or the first that can. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from cortex import errors
from cortex.neuron.gguf import Header
from cortex.neuron.harness.backends import Backends
from cortex.neuron.harness.base import Harness
from cortex.neuron.harness.ctransformers import CTransformers
from cortex.neuron.harness.ctransformers_cuda import NO_CUDA, CudaLibrary
from cortex.neuron.harness.llamacpp import LlamaCpp
from cortex.neuron.harness.no_model import no_model
from cortex.neuron.harness.server_binary import ServerBinary

AUTO = ("auto", "candle")  # candle: what clients of the first generation send


def available(
    server: ServerBinary | None = None, cuda: CudaLibrary = NO_CUDA, backends: Backends | None = None
) -> dict[str, Harness]:
    """The harnesses whose library this installation has, in the order in which "auto" tries them.

    `server` is the operator's own, `cuda` what legacy models have for GPUs, `backends` what the built-in engine has for this host.
    """
    known: tuple[Harness, ...] = (LlamaCpp(server, backends), CTransformers(cuda))
    return {harness.name: harness for harness in known if harness.version() is not None}


def choose(asked: str, header: Header, harnesses: Mapping[str, Harness]) -> Harness:
    """Raises CortexError: 422 with every harness's reason when none can serve the file, 400 for a name that is not there."""
    if asked in AUTO:
        candidates = list(harnesses.values())
    elif asked in harnesses:
        candidates = [harnesses[asked]]
    else:
        raise errors.invalid_request(
            f"harness '{asked}' is not available on this neuron; it has {', '.join(harnesses) or 'none'}, and auto",
            code="unknown_harness",
            param="harness",
        )
    reasons = {harness.name: harness.cannot_serve(header) for harness in candidates}
    for harness in candidates:
        if reasons[harness.name] is None:
            return harness
    raise errors.invalid_request(
        f"this file cannot be served: {_refused(header, reasons) or 'no harness is installed'}",
        code="unsupported_model",
        status=422,
    )


def why(asked: str, header: Header, harnesses: Mapping[str, Harness]) -> str:
    """Who serves a file and why, or why nobody does: one sentence for people."""
    reasons = {name: harness.cannot_serve(header) for name, harness in harnesses.items()}
    refused = _refused(header, reasons)
    able = [name for name, reason in reasons.items() if reason is None]
    if asked in reasons and asked not in AUTO:
        return "it was asked for" if asked in able else refused
    if not able:
        return refused or "no harness is installed"
    others = f" ({refused})" if refused else ""
    return f"the only one that can{others}" if len(able) == 1 else f"the first of {', '.join(able)} that can{others}"


def _refused(header: Header, reasons: Mapping[str, str | None]) -> str:
    """Each harness's reason under its name; what is no model for any of them is said once."""
    common = None if header.is_legacy else no_model(header)
    return common or "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if reason)
