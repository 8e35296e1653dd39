"""The tokens with which a code model is told to fill in the middle of a text, as its vocabulary spells them."""

from __future__ import annotations

import struct
from io import FileIO

from cortex.neuron.gguf.facts import Facts

Fim = tuple[str, str, str]  # what stands before the prefix, before the suffix, and where the middle begins

MAX_VOCABULARY = 1 << 25  # bytes that are looked through; the largest real one has 5 MiB
_KNOWN: tuple[Fim, ...] = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # noqa: RUF001  DeepSeek writes them so
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),  # GLM
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # CodeLlama
)


def fim_tokens(file: FileIO, facts: Facts) -> Fim | None:
    """None for a model that was not taught so. Moves the file's position."""
    start, end = facts.spans.get("tokenizer.ggml.tokens", (0, 0))
    if end == start:
        return None
    file.seek(start)
    vocabulary = file.read(min(end - start, MAX_VOCABULARY))
    return next((known for known in _KNOWN if all(_entry(text) in vocabulary for text in known)), None)


def _entry(text: str) -> bytes:
    """A string as the file has it, length first: no part of a longer one."""
    return struct.pack("<Q", len(text.encode())) + text.encode()
