"""The families of legacy files: hyperparameters in the order of the file, and the tensors that their values demand. Tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# A dimension by its letter: E width, V vocabulary, C context, F feed-forward, K keys or values of all heads, Q those and the queries.
_GPT2 = {
    "model/ln_f/g": "E",
    "model/ln_f/b": "E",
    "model/wte": "E V",
    "model/wpe": "E C",
    "model/lm_head": "E V",
    "model/h{}/ln_1/g": "E",
    "model/h{}/ln_1/b": "E",
    "model/h{}/ln_2/g": "E",
    "model/h{}/ln_2/b": "E",
    "model/h{}/attn/c_attn/w": "E 3E",
    "model/h{}/attn/c_attn/b": "3E",
    "model/h{}/attn/c_proj/w": "E E",
    "model/h{}/attn/c_proj/b": "E",
    "model/h{}/mlp/c_fc/w": "E 4E",
    "model/h{}/mlp/c_fc/b": "4E",
    "model/h{}/mlp/c_proj/w": "4E E",
    "model/h{}/mlp/c_proj/b": "E",
}
_GPTJ = {
    "transformer.wte.weight": "E V",
    "transformer.ln_f.weight": "E",
    "transformer.ln_f.bias": "E",
    "lm_head.weight": "E V",
    "lm_head.bias": "V",
    "transformer.h.{}.ln_1.weight": "E",
    "transformer.h.{}.ln_1.bias": "E",
    "transformer.h.{}.attn.q_proj.weight": "E E",
    "transformer.h.{}.attn.k_proj.weight": "E E",
    "transformer.h.{}.attn.v_proj.weight": "E E",
    "transformer.h.{}.attn.out_proj.weight": "E E",
    "transformer.h.{}.mlp.fc_in.weight": "E 4E",
    "transformer.h.{}.mlp.fc_in.bias": "4E",
    "transformer.h.{}.mlp.fc_out.weight": "4E E",
    "transformer.h.{}.mlp.fc_out.bias": "E",
}
_NEOX = {
    "gpt_neox.embed_in.weight": "E V",
    "gpt_neox.final_layer_norm.weight": "E",
    "gpt_neox.final_layer_norm.bias": "E",
    "embed_out.weight": "E V",
    "gpt_neox.layers.{}.input_layernorm.weight": "E",
    "gpt_neox.layers.{}.input_layernorm.bias": "E",
    "gpt_neox.layers.{}.attention.query_key_value.weight": "E 3E",
    "gpt_neox.layers.{}.attention.query_key_value.bias": "3E",
    "gpt_neox.layers.{}.attention.dense.weight": "E E",
    "gpt_neox.layers.{}.attention.dense.bias": "E",
    "gpt_neox.layers.{}.post_attention_layernorm.weight": "E",
    "gpt_neox.layers.{}.post_attention_layernorm.bias": "E",
    "gpt_neox.layers.{}.mlp.dense_h_to_4h.weight": "E 4E",
    "gpt_neox.layers.{}.mlp.dense_h_to_4h.bias": "4E",
    "gpt_neox.layers.{}.mlp.dense_4h_to_h.weight": "4E E",
    "gpt_neox.layers.{}.mlp.dense_4h_to_h.bias": "E",
}
_MPT = {
    "transformer.wte.weight": "E V",
    "transformer.norm_f.weight": "E",
    "transformer.blocks.{}.norm_1.weight": "E",
    "transformer.blocks.{}.attn.Wqkv.weight": "E 3E",
    "transformer.blocks.{}.attn.out_proj.weight": "E E",
    "transformer.blocks.{}.norm_2.weight": "E",
    "transformer.blocks.{}.ffn.up_proj.weight": "E 4E",
    "transformer.blocks.{}.ffn.down_proj.weight": "4E E",
}
_LLAMA = {
    "tok_embeddings.weight": "E V",
    "norm.weight": "E",
    "output.weight": "E V",
    "layers.{}.attention_norm.weight": "E",
    "layers.{}.attention.wq.weight": "E E",
    "layers.{}.attention.wk.weight": "E K",
    "layers.{}.attention.wv.weight": "E K",
    "layers.{}.attention.wo.weight": "E E",
    "layers.{}.ffn_norm.weight": "E",
    "layers.{}.feed_forward.w1.weight": "E F",
    "layers.{}.feed_forward.w2.weight": "F E",
    "layers.{}.feed_forward.w3.weight": "E F",
}
_FALCON_BASE = {
    "transformer.word_embeddings.weight": "E V",
    "transformer.ln_f.weight": "E",
    "transformer.ln_f.bias": "E",
    "lm_head.weight": "E V",
    "transformer.h.{}.self_attention.query_key_value.weight": "E Q",
    "transformer.h.{}.self_attention.dense.weight": "E E",
    "transformer.h.{}.mlp.dense_h_to_4h.weight": "E 4E",
    "transformer.h.{}.mlp.dense_4h_to_h.weight": "4E E",
}
_FALCON_7B = _FALCON_BASE | {
    f"transformer.h.{{}}.input_layernorm.{part}": "E" for part in ("weight", "bias")
}  # one norm a layer
_FALCON_40B = _FALCON_BASE | {
    f"transformer.h.{{}}.{norm}.{part}": "E" for norm in ("ln_mlp", "ln_attn") for part in ("weight", "bias")
}
_OPTIONAL = frozenset({"model/lm_head"})  # tied to the embedding where it is missing
_ALWAYS_F32 = frozenset({"model/wpe"})  # and everything of one dimension


class Tensor(NamedTuple):
    """A tensor that must be there. `shape` as the file has it: the length of a row first."""

    name: str
    shape: tuple[int, ...]
    is_f32: bool
    optional: bool


@dataclass(frozen=True, slots=True)
class Family:
    """One way to write a file of a magic.

    fields   hyperparameters in order, each 32 bits; a float's name ends in "."
    counted  the vocabulary is preceded by its length once more
    scored   a score follows each token
    merged   BPE merges follow the vocabulary
    """

    name: str
    fields: tuple[str, ...]
    tensors: Mapping[str, str]
    counted: bool = False
    scored: bool = False
    merged: bool = False


def _family(name: str, fields: str, tensors: Mapping[str, str], **form: bool) -> Family:
    return Family(name, tuple(fields.split()), tensors, **form)


UNVERSIONED = (  # of the magic "lmgg", which does not say whose it is: the first tensor's name does
    _family("gpt2", "vocab context width heads layers ftype", _GPT2, counted=True),
    _family("gptj", "vocab context width heads layers rotary ftype", _GPTJ, counted=True),
    _family("gpt_neox", "vocab context width heads layers rotary parallel ftype", _NEOX),
    _family("mpt", "width context heads layers vocab alibi. clip. ftype", _MPT),
    _family("replit", "width context heads layers vocab ftype", _MPT, scored=True),
)
LLAMA = _family("llama", "vocab width multiple heads layers rotary ftype", _LLAMA, scored=True)
FALCON = _family("falcon", "vocab width heads heads_kv layers kind ftype merges", _FALCON_7B, scored=True, merged=True)


@dataclass(frozen=True, slots=True)
class Numbers:
    """Hyperparameters. `rows` are the dimensions by their letters."""

    values: Mapping[str, int | float]
    rows: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> int:
        return int(self.values[name])

    def get(self, name: str) -> int | None:
        return int(self.values[name]) if name in self.values else None


def demanded(family: Family, numbers: Numbers) -> Iterator[Tensor]:
    """Every tensor that a file with these numbers has."""
    table = _FALCON_40B if family is FALCON and is_falcon_40b(numbers) else family.tensors
    for name, dimensions in table.items():
        shape = tuple(numbers.rows[letter] for letter in dimensions.split())
        is_f32 = len(shape) == 1 or name in _ALWAYS_F32
        for layer in range(numbers["layers"]) if "{}" in name else ("",):
            yield Tensor(name.format(layer), shape, is_f32, name in _OPTIONAL)


def is_falcon_40b(numbers: Numbers) -> bool:
    """The number of layers decides where it is one of the two models', else the file's own word."""
    return {32: False, 60: True}.get(numbers["layers"], numbers["kind"] == 40)


def rows(numbers: Numbers, *, grouped: int = 1) -> dict[str, int]:
    """The dimensions. `grouped`: heads that share a key (llama 2 70B, of which the file says nothing)."""
    width, heads = numbers["width"], numbers["heads"]
    head = width // heads
    keys = numbers.get("heads_kv") or heads // grouped
    return {
        "E": width,
        "3E": 3 * width,
        "4E": 4 * width,
        "V": numbers["vocab"],
        "C": numbers.get("context") or 0,
        "F": _feed_forward(numbers, grouped=grouped),
        "K": keys * head,
        "Q": (2 * keys + heads) * head,
    }


def _feed_forward(numbers: Numbers, *, grouped: int) -> int:
    """llama's: two thirds of four widths (1.3 times that in the 70B), rounded up to a multiple."""
    if (multiple := numbers.get("multiple")) is None:
        return 0
    raw = 2 * (4 * numbers["width"]) // 3
    if grouped == 8 and numbers["layers"] == 80:
        raw = int(1.3 * raw)
    return -(-raw // multiple) * multiple
