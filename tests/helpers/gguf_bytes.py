"""GGUF files byte by byte, so that a test can get one wrong on purpose."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

U8, U32, F32, BOOL, STRING, ARRAY, U64 = 0, 4, 6, 7, 8, 9, 10
CODES = {U8: "<B", U32: "<I", F32: "<f", BOOL: "<?", U64: "<Q"}
HOSTILE = 1 << 60

LLAMA = {
    "general.architecture": "llama",
    "general.name": "tiny",
    "llama.context_length": 2048,
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.chat_template": "{{ messages }}",
}


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def value(content: object, kind: int = U32) -> bytes:
    """A value with its type in front: str, list of str, list of int (elements of `kind`), bool, float, int (as `kind`)."""
    if isinstance(content, str | bytes):
        return struct.pack("<I", STRING) + text(content)
    if isinstance(content, list):
        element = STRING if content and isinstance(content[0], str | bytes) else kind
        packed = b"".join(text(item) if element == STRING else struct.pack(CODES[element], item) for item in content)
        return struct.pack("<IIQ", ARRAY, element, len(content)) + packed
    kind = BOOL if isinstance(content, bool) else F32 if isinstance(content, float) else kind
    return struct.pack("<I", kind) + struct.pack(CODES[kind], content)


def pair(key: str | bytes, content: object, kind: int = U32) -> bytes:
    return text(key) + value(content, kind)


def pairs(facts: dict[str, object]) -> list[bytes]:
    return [pair(key, content) for key, content in facts.items()]


def tensor(name: str, shape: Sequence[int], type_id: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, type_id, offset)


def gguf(
    facts: Sequence[bytes],
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    key_count: int | None = None,
    tensor_count: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A whole file; the counts can lie."""
    tensor_count = len(tensors) if tensor_count is None else tensor_count
    key_count = len(facts) if key_count is None else key_count
    head = magic + struct.pack("<IQQ", version, tensor_count, key_count) + b"".join([*facts, *tensors])
    return head + b"\0" * (-len(head) % alignment) + data


def tiny(weights: int = 64, **more: object) -> bytes:
    """A file with a sound header and one tensor of `weights` f32; `general__name="x"` sets the fact `general.name`."""
    facts = LLAMA | {key.replace("__", "."): content for key, content in more.items()}
    return gguf(pairs(facts), [tensor("token_embd.weight", [weights])], bytes(4 * weights))


def write_tiny(path: Path, **more: object) -> Path:
    """`tiny` at `path`; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiny(64, **more))
    return path
