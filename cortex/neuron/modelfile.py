"""The header of a model file of any format that some engine here reads; its first bytes tell which."""

from __future__ import annotations

from pathlib import Path

from cortex.neuron.ggml import MAGICS, read_legacy
from cortex.neuron.gguf import Header, read_header
from cortex.neuron.gguf.cursor import opened


def read_model_header(path: Path) -> Header | None:
    """The file's header; None for a `.bin` that is none of the known formats: many files are called so. Raises GGUFError."""
    with opened(path) as (file, _):
        magic = file.read(4)
    if magic in MAGICS:
        return read_legacy(path).header
    if path.suffix.lower() == ".bin" and magic != b"GGUF":
        return None
    return read_header(path)
