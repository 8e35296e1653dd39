"""What a header means: metadata that decides how a model is served, and the sum of its tensors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path

from cortex.neuron.gguf.cursor import Cursor, GGUFError, opened
from cortex.neuron.gguf.facts import MAX_LAYERS, Facts, read_facts
from cortex.neuron.gguf.fim import Fim, fim_tokens
from cortex.neuron.gguf.tables import FILE_TYPES
from cortex.neuron.gguf.tensors import Tensors, read_tensors

MAGIC = b"GGUF"
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 20

_POOLING = {0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank"}  # llama.h `llama_pooling_type`
_ENCODERS = frozenset(
    {
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "llama-embed",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "t5encoder",
    }
)


# Every n-th layer attends to everything and the others to a window, in files of before `sliding_window_pattern`
# (llama.cpp's loaders of these architectures; others ignore a window without a pattern).
_WINDOW_PERIODS = {"cohere2": 4, "gemma2": 2, "gemma3": 6, "gpt-oss": 2}


@dataclass(frozen=True, slots=True)
class Split:
    """The file is part `number` (from 0) of `count`. Only part 0 has the model's metadata."""

    number: int
    count: int


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one file. None is "the file does not say"; sizes are in bytes, lengths in tokens or elements.

    kind           `general.type`: "model", "mmproj", "adapter", "imatrix", …
    architecture   `general.architecture`; empty in the further parts of a split model
    head_count     attention heads; the largest layer's, where layers differ
    head_count_kv  key/value heads of every layer, or one number for all
    key_length, value_length   elements of one head's key and value
    quant          the file type's name ("Q4_K_M"), else the tensor type with most bytes
    pooling        "none", "mean", "cls", "last", "rank"
    sliding_window             tokens that a layer with a window attends to
    sliding_window_pattern     which layers have one: every n-th has none, or one flag for each
    full_attention_interval    every n-th layer attends, the others are recurrent (Qwen3-Next and its kin)
    classifies     the model ends in a classifier: it ranks
    tensor_bytes   bytes of this file's tensors; the file's own when a tensor has a type that is not known here
    fim            tokens that ask for the middle of a text, where the model was taught so
    container      "gguf", or the format of before: "ggml", "ggmf", "ggjt", "ggcc" (see `cortex.neuron.ggml`)
    """

    version: int
    kind: str
    architecture: str
    name: str | None
    basename: str | None
    size_label: str | None
    tokenizer_model: str | None
    chat_template: str | None = field(repr=False)  # some KiB of Jinja
    context_length: int | None
    block_count: int | None
    embedding_length: int | None
    head_count: int | None
    head_count_kv: int | tuple[int, ...] | None
    key_length: int | None
    value_length: int | None
    vocab_size: int | None
    expert_count: int | None
    sliding_window: int | None
    full_attention_interval: int | None
    quant: str | None
    pooling: str | None
    classifies: bool
    split: Split | None
    tensor_count: int
    tensor_bytes: int
    file_bytes: int
    container: str = "gguf"
    sliding_window_pattern: int | tuple[int, ...] | None = None
    fim: Fim | None = None

    @property
    def is_legacy(self) -> bool:
        return self.container != "gguf"

    @property
    def is_mmproj(self) -> bool:
        """The projector of a vision or audio model: it goes with a model and is none itself."""
        return self.architecture == "clip" or self.kind == "mmproj"

    @property
    def is_adapter(self) -> bool:
        return self.kind == "adapter"

    @property
    def is_rerank(self) -> bool:
        return self.pooling == "rank" or self.classifies

    @property
    def is_embedding(self) -> bool:
        """The file says that it embeds: it pools, or its architecture is an encoder's."""
        return not self.is_rerank and (self.pooling in ("mean", "cls", "last") or self.architecture in _ENCODERS)

    @property
    def kv_heads(self) -> tuple[int, ...]:
        """Key/value heads, layer by layer; 0 for a layer without attention. Empty when the file does not say."""
        if isinstance(self.head_count_kv, tuple):
            return self.head_count_kv
        every = self.full_attention_interval or 1
        heads = self.head_count_kv or 0
        return tuple(heads if (layer + 1) % every == 0 else 0 for layer in range(self.block_count or 0))

    @property
    def slides(self) -> tuple[bool, ...]:
        """Whether a layer attends to a window alone, layer by layer."""
        layers, pattern = range(self.block_count or 0), self.sliding_window_pattern
        if not self.sliding_window:
            return (False,) * len(layers)
        if isinstance(pattern, tuple) and pattern:
            return tuple(layer < len(pattern) and bool(pattern[layer]) for layer in layers)
        period = pattern if isinstance(pattern, int) else _WINDOW_PERIODS.get(self.architecture, 1)
        return tuple(period == 0 or layer % period < period - 1 for layer in layers)


def read_header(path: Path) -> Header:
    """Read the header of the GGUF file at `path`. Blocks (some ms for a large vocabulary); raises GGUFError, nothing else."""
    with opened(path) as (file, size):
        return _read(file, size)


def _read(file: FileIO, file_bytes: int) -> Header:
    cursor = Cursor(file, file_bytes)
    version = read_version(cursor)
    tensor_count, key_count = cursor.u64("the number of tensors"), cursor.u64("the number of keys")
    facts = read_facts(cursor, key_count)
    tensors = read_tensors(cursor, tensor_count)
    _check_extent(tensors, cursor.offset, facts, file_bytes)
    return replace(_header(version, facts, tensors, file_bytes), fim=fim_tokens(file, facts))


def read_version(cursor: Cursor) -> int:
    magic = cursor.take(4, "the magic")
    if magic != MAGIC:
        raise GGUFError(f"it begins with {magic!r}, and a GGUF file with {MAGIC!r}", 0)
    version = int.from_bytes(cursor.take(4, "the version"), "little")
    if version and not version & 0xFFFF:
        raise GGUFError("it is big-endian, which no engine here reads", 4)
    if version not in (2, 3):
        raise GGUFError(f"it has GGUF version {version}, and versions 2 and 3 are known", 4)
    return version


def _check_extent(tensors: Tensors, end_of_header: int, facts: Facts, file_bytes: int) -> None:
    """All tensors must lie in the file: this is what a download that broke off looks like."""
    alignment = facts.count("general.alignment", MAX_ALIGNMENT) or DEFAULT_ALIGNMENT
    if alignment & (alignment - 1):
        raise facts.error("general.alignment", f"is {alignment}, which is no power of two")
    start = -(-end_of_header // alignment) * alignment
    if tensors.count and start + tensors.end > file_bytes:
        raise GGUFError(
            f"the file is cut off: tensor '{tensors.last}' ends at byte {start + tensors.end}, the file at {file_bytes}",
            file_bytes,
        )
    if tensors.bytes > max(0, file_bytes - start):
        raise GGUFError(f"tensors overlap: they claim {tensors.bytes} bytes, the file has {file_bytes - start}", start)


def _header(version: int, facts: Facts, tensors: Tensors, file_bytes: int) -> Header:
    architecture = facts.text("general.architecture") or ""
    split = _split(facts)
    kind = facts.text("general.type") or "model"
    if not architecture and kind == "model" and not (split and split.number):
        raise GGUFError("it names no architecture (general.architecture): this is no model")

    def count(key: str) -> int | None:
        return facts.count(f"{architecture}.{key}")

    heads = facts.per_layer(f"{architecture}.attention.head_count")
    head_count = max(heads, default=0) if isinstance(heads, tuple) else heads
    blocks = facts.count(f"{architecture}.block_count", MAX_LAYERS)
    width = count("embedding_length")
    head_length = width // head_count if width and head_count else None
    return Header(
        version=version,
        kind=kind,
        architecture=architecture,
        name=facts.text("general.name"),
        basename=facts.text("general.basename"),
        size_label=facts.text("general.size_label"),
        tokenizer_model=facts.text("tokenizer.ggml.model"),
        chat_template=facts.text("tokenizer.chat_template"),
        context_length=count("context_length"),
        block_count=blocks,
        embedding_length=width,
        head_count=head_count,
        head_count_kv=_kv_heads(facts, architecture, head_count),
        key_length=_either(count("attention.key_length"), head_length),
        value_length=_either(count("attention.value_length"), head_length),
        vocab_size=_either(count("vocab_size"), facts.array_lengths.get("tokenizer.ggml.tokens")),
        expert_count=count("expert_count"),
        sliding_window=count("attention.sliding_window"),
        sliding_window_pattern=facts.per_layer(f"{architecture}.attention.sliding_window_pattern"),
        full_attention_interval=count("full_attention_interval"),
        quant=_quant(facts, tensors),
        pooling=_POOLING.get(-1 if (pooling := count("pooling_type")) is None else pooling),
        classifies=tensors.classifies,
        split=split,
        tensor_count=tensors.count,
        tensor_bytes=file_bytes if tensors.unsized else tensors.bytes,
        file_bytes=file_bytes,
    )


def _either(said: int | None, otherwise: int | None) -> int | None:
    return otherwise if said is None else said


def _kv_heads(facts: Facts, architecture: str, head_count: int | None) -> int | tuple[int, ...] | None:
    """Models of before grouped attention have as many key/value heads as heads, and say nothing."""
    said = facts.per_layer(f"{architecture}.attention.head_count_kv")
    return head_count if said is None else said


def _split(facts: Facts) -> Split | None:
    number, count = facts.count("split.no"), facts.count("split.count")
    if not count or count == 1:
        return None
    if number is None or number >= count:
        raise facts.error("split.count", f"is {count}, but this is part {number} (counted from 0)")
    return Split(number, count)


def _quant(facts: Facts, tensors: Tensors) -> str | None:
    file_type = facts.count("general.file_type")
    return FILE_TYPES.get(-1 if file_type is None else file_type, tensors.largest_type)
