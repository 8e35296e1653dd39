"""What would end the process is refused before the library sees the file. Pure, over what the readers found.

The rules are those of the llama.cpp of September 2023 inside ctransformers 0.2.27, which checks little: unknown types
index past a table, a byte without a token throws through C, a tensor that is not expected stops the load without a reason.
Legacy files were held against their hyperparameters by `cortex.neuron.ggml`; here are their vocabularies.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable

from cortex.neuron.gguf.contents import F32, I32, U32, Contents

BYTE = 6  # token types of GGUF
_TYPES = {0: 1, 1: 1, 2: 32, 3: 32, 6: 32, 7: 32, 8: 32, 10: 256, 11: 256, 12: 256, 13: 256, 14: 256}  # → block
_BYTE_TOKEN = re.compile(rb"<0x[0-9A-Fa-f]{2}>")
_MAX_LAYERS = 80  # a graph of that ggml has at most 4,096 nodes
_LEGAL_IN_UTF8 = [byte for byte in range(256) if byte < 0x80 or 0xC2 <= byte <= 0xF4]
_LAYER = {
    "attn_norm": "E",
    "attn_q": "E E",
    "attn_k": "E K",
    "attn_v": "E K",
    "attn_output": "E E",
    "ffn_norm": "E",
    "ffn_gate": "E F",
    "ffn_down": "F E",
    "ffn_up": "E F",
}
_NUMBERS = (
    "llama.context_length",
    "llama.embedding_length",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    "llama.block_count",
)


def problems_of_gguf(contents: Contents) -> Iterable[str]:
    """Why this llama GGUF is nothing for the library; nothing when it can be loaded."""
    wrong = [*_number_problems(contents)]
    yield from wrong or (*_vocabulary_problems(contents), *_tensor_problems(contents))


def problems_of_llama_bytes(tokens: Collection[bytes]) -> Iterable[str]:
    """A legacy llama falls back to single bytes, as tokens of their own."""
    known = frozenset(tokens)
    missing = [byte for byte in _LEGAL_IN_UTF8 if byte and bytes([byte]) not in known]
    if missing:
        yield _no_byte(missing)


def _no_byte(missing: list[int]) -> str:
    return f"its vocabulary has no token for {len(missing)} bytes that occur in text, the first is 0x{missing[0]:02X}"


def _number_problems(contents: Contents) -> Iterable[str]:
    for key in _NUMBERS:
        kind, value = contents.scalars.get(key, (None, None))
        if kind != U32 or not isinstance(value, int) or not 1 <= value < 1 << 20:
            yield f"{key} is {value!r}, and a 32-bit number of at least 1 belongs there"
            return
    if contents.scalars.get("llama.attention.layer_norm_rms_epsilon", (None,))[0] != F32:
        yield "llama.attention.layer_norm_rms_epsilon is no 32-bit float"
    heads, width = contents.number("llama.attention.head_count") or 1, contents.number("llama.embedding_length") or 1
    keys = contents.number("llama.attention.head_count_kv") or heads
    if width % heads or heads % keys:
        yield f"{width} numbers cannot be shared out to {heads} heads and {keys} keys"
    rotated = contents.number("llama.rope.dimension_count")
    if rotated is not None and rotated != width // heads:
        yield f"it rotates {rotated} of each head's {width // heads} numbers, and the library all of them"
    if (scaling := contents.scalars.get("llama.rope.scaling.type", (0, b"none"))[1]) != b"none":
        yield f"it needs rope scaling ({scaling!r}), which the library would leave out"
    if (contents.number("llama.block_count") or 0) > _MAX_LAYERS:
        yield f"it has more than {_MAX_LAYERS} layers"
    if (contents.number("llama.expert_count") or 0) > 0:
        yield "it is a mixture of experts, which came later"


def _vocabulary_problems(contents: Contents) -> Iterable[str]:
    tokens = contents.strings.get("tokenizer.ggml.tokens", ())
    kinds = contents.numbers.get("tokenizer.ggml.token_type", ())
    scores = contents.numbers.get("tokenizer.ggml.scores", ())
    if contents.scalars.get("tokenizer.ggml.model", (0, None))[1] != b"llama":
        yield "its vocabulary is not SentencePiece's (tokenizer.ggml.model is not llama)"
        return
    if not len(tokens) == len(kinds) == len(scores) or not tokens:
        yield f"it has {len(tokens)} tokens, {len(kinds)} token types and {len(scores)} scores"
        return
    types = contents.element_types
    if types["tokenizer.ggml.scores"] != F32 or types["tokenizer.ggml.token_type"] not in (I32, U32):
        yield "scores or token types are stored as numbers of another kind"
    known = frozenset(tokens)
    missing = [byte for byte in _LEGAL_IN_UTF8 if not _has_byte(byte, known)]
    if missing:
        yield _no_byte(missing)
    for name, default in (("bos", 1), ("eos", 2), ("unknown", 0)):
        number = contents.number(f"tokenizer.ggml.{name}_token_id")
        if not 0 <= (default if number is None else number) < len(tokens):
            yield f"its {name} token {number} is not in the vocabulary"
    yield from _malformed_bytes(tokens, kinds)


def _has_byte(byte: int, known: Collection[bytes]) -> bool:
    """As a byte token; a printable character may also be one of the text, and the space is U+2581."""
    if b"<0x%02X>" % byte in known:
        return True
    return "\u2581".encode() in known if byte == 0x20 else 0x21 <= byte <= 0x7E and bytes([byte]) in known


def _malformed_bytes(tokens: Iterable[bytes], kinds: Iterable[int | float]) -> Iterable[str]:
    """The library reads the two digits of every byte token, whatever stands there."""
    for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        if kind == BYTE and not _BYTE_TOKEN.fullmatch(token):
            yield f"token {number} is said to be a byte, and is {token!r}"
            return


def _tensor_problems(contents: Contents) -> Iterable[str]:
    wanted = _wanted(contents)
    missing = sorted(wanted.keys() - contents.tensors.keys())
    if "output.weight" in missing:
        yield "it has no output matrix of its own (output.weight), which the library does not make up for"
    elif missing:
        yield f"{len(missing)} tensors are missing, the first is '{missing[0]}'"
    if surplus := sorted(contents.tensors.keys() - wanted.keys()):
        yield f"it has {len(surplus)} tensors that the llama of 2023 did not have, the first is '{surplus[0]}'"
    if missing or surplus:
        return
    for name, (shape, kind) in contents.tensors.items():
        allowed = {0: 1} if len(wanted[name]) == 1 else _TYPES
        if kind not in allowed or shape[0] % allowed[kind] or shape != wanted[name] or not math.prod(shape):
            yield f"the tensor '{name}' has shape {shape} and type {kind}, and shape {wanted[name]} belongs there"
            return


def _wanted(contents: Contents) -> dict[str, tuple[int, ...]]:
    def number(key: str) -> int:
        return contents.number(f"llama.{key}") or 0

    width, heads = number("embedding_length"), number("attention.head_count")
    sizes = {
        "E": width,
        "K": width // heads * (number("attention.head_count_kv") or heads),
        "F": number("feed_forward_length"),
        "V": len(contents.strings.get("tokenizer.ggml.tokens", ())),
    }
    table = {"token_embd.weight": "E V", "output_norm.weight": "E", "output.weight": "E V"}
    table |= {
        f"blk.{layer}.{name}.weight": form for layer in range(number("block_count")) for name, form in _LAYER.items()
    }
    return {name: tuple(sizes[letter] for letter in form.split()) for name, form in table.items()}
