"""Files that no harness serves, whatever its library: said in one place, in the same words by all of them. Pure."""

from __future__ import annotations

from cortex.neuron.gguf import Header


def no_model(header: Header) -> str | None:
    """Why a GGUF file is no model that could be loaded, as a sentence; None when it is one."""
    if header.is_mmproj:
        return "it is the projector of a vision or audio model; load the model that it belongs to"
    if header.is_adapter:
        return "it is an adapter (LoRA), and no model by itself"
    if header.kind != "model" and not (header.split and header.split.number):
        return f"it holds '{header.kind}', and no model"
    if header.split and header.split.number:
        return f"it is part {header.split.number + 1} of {header.split.count}; load the first part"
    return None if header.tensor_count else "it has no weights (a vocabulary alone)"
