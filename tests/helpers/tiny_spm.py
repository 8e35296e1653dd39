"""A llama of one layer with a SentencePiece vocabulary, as GGUF: 0.2 MB, weights all zero. It loads, and says nothing of sense."""

from __future__ import annotations

from helpers.gguf_bytes import F32, U32, gguf, pair, tensor

WIDTH, HEADS, HIDDEN, CONTEXT = 64, 4, 128, 256
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6


def vocabulary() -> list[tuple[bytes, int]]:
    special = [(b"<unk>", _UNKNOWN), (b"<s>", _CONTROL), (b"</s>", _CONTROL)]
    single = [(b"<0x%02X>" % byte, _BYTE) for byte in range(256)]
    words = ["\u2581", "a", "b", "\u2581a", "ab", "\u2581ab", "é", "</", "s>", "</s"]
    return [*special, *single, *((word.encode(), _NORMAL) for word in words)]


def facts(**more: object) -> dict[str, tuple[object, int]]:
    """Every key with its value and type; `general__name="x"` sets the fact `general.name`."""
    tokens = vocabulary()
    known: dict[str, tuple[object, int]] = {
        "general.architecture": ("llama", U32),
        "llama.context_length": (CONTEXT, U32),
        "llama.embedding_length": (WIDTH, U32),
        "llama.feed_forward_length": (HIDDEN, U32),
        "llama.attention.head_count": (HEADS, U32),
        "llama.attention.head_count_kv": (2, U32),
        "llama.block_count": (1, U32),
        "llama.rope.dimension_count": (WIDTH // HEADS, U32),
        "llama.attention.layer_norm_rms_epsilon": (1e-5, F32),
        "tokenizer.ggml.model": ("llama", U32),
        "tokenizer.ggml.tokens": ([token for token, _ in tokens], U32),
        "tokenizer.ggml.scores": ([0.0 for _ in tokens], F32),
        "tokenizer.ggml.token_type": ([kind for _, kind in tokens], U32),
        "tokenizer.ggml.bos_token_id": (1, U32),
        "tokenizer.ggml.eos_token_id": (2, U32),
    }
    return known | {key.replace("__", "."): (value, _kind(value)) for key, value in more.items()}


def _kind(value: object) -> int:
    return F32 if isinstance(value, list) and value and isinstance(value[0], float) else U32


def shapes() -> dict[str, tuple[int, ...]]:
    size, half = len(vocabulary()), WIDTH // 2
    layer = {
        "attn_norm": (WIDTH,),
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (WIDTH, half),
        "attn_v": (WIDTH, half),
        "attn_output": (WIDTH, WIDTH),
        "ffn_norm": (WIDTH,),
        "ffn_gate": (WIDTH, HIDDEN),
        "ffn_down": (HIDDEN, WIDTH),
        "ffn_up": (WIDTH, HIDDEN),
    }
    table: dict[str, tuple[int, ...]] = {"token_embd.weight": (WIDTH, size), "output_norm.weight": (WIDTH,)}
    table |= {"output.weight": (WIDTH, size)}
    return table | {f"blk.0.{name}.weight": shape for name, shape in layer.items()}


def tiny_spm(
    wanted: dict[str, tuple[int, ...]] | None = None, *, types: dict[str, int] | None = None, **more: object
) -> bytes:
    """A whole file. `types`: tensor types other than F32 (their bytes are still counted as F32)."""
    tensors, offset = [], 0
    for name, shape in (shapes() if wanted is None else wanted).items():
        tensors.append(tensor(name, shape, (types or {}).get(name, 0), offset))
        size = 4
        for length in shape:
            size *= length
        offset += size
    pairs = [pair(key, value, kind) for key, (value, kind) in facts(**more).items()]
    return gguf(pairs, tensors, bytes(offset))
