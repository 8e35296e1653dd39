"""How many tokens at once, and how many in all, the library's fixed work buffers have room for. Pure.

The loaders of the "ggml" magic compute in static buffers of 256 MiB. gpt2, gptj, dolly-v2 and replit keep what every
layer makes until the end; gpt_neox, mpt and starcoder reuse a buffer from layer to layer. A graph that finds no room ends
the process. The counts below are the operations of those programs' graphs, rather too many than too few.
"""

from __future__ import annotations

from typing import NamedTuple

from cortex.neuron.gguf.header import Header

POOL_BYTES = 256 << 20
BATCHES = (64, 32, 16, 8, 4, 2, 1)  # above 64 a prompt gets hardly faster, and a client that left is noticed later
UNKNOWN_CONTEXT = 2048  # llama and falcon files do not say; their models were trained with at least as much
_NODE_BYTES = 32 << 10  # a layer's nodes themselves
_FIXED_BYTES = 16 << 20
_FLOAT = 4


class _Graph(NamedTuple):
    """What one layer makes: `rows` of the model's width a token, `scores` matrices of attention, and a copy of all values of so many bytes."""

    rows: int
    scores: int
    value_bytes: int
    reuses: bool


_GRAPHS = {
    "gpt2": _Graph(52, 1, 4, reuses=False),
    "gptj": _Graph(44, 1, 0, reuses=False),
    "dolly-v2": _Graph(64, 2, 2, reuses=False),
    "replit": _Graph(44, 5, 2, reuses=False),
    "gpt_neox": _Graph(64, 2, 2, reuses=True),
    "mpt": _Graph(44, 5, 2, reuses=True),
    "starcoder": _Graph(52, 2, 4, reuses=True),
}


class Workspace(NamedTuple):
    """What fits: tokens of one batch, tokens of context, and the bytes that are used then."""

    batch: int
    context: int
    bytes: int


def workspace(header: Header, wanted: int | None = None) -> Workspace:
    """The largest batch with which `wanted` tokens of context (else the model's own) fit; where none does, the most context."""
    own = header.context_length or UNKNOWN_CONTEXT
    context = min(wanted or own, header.context_length or wanted or own)
    graph = _GRAPHS.get(header.architecture)
    if graph is None:  # these allocate what they need
        return Workspace(BATCHES[0], context, BATCHES[0] * 64 * (header.embedding_length or 0) * _FLOAT)
    for batch in BATCHES:
        if (needed := _bytes(header, graph, batch, context)) <= POOL_BYTES:
            return Workspace(batch, context, needed)
    base = _bytes(header, graph, 1, 0)
    fitting = int((POOL_BYTES - base) / ((_bytes(header, graph, 1, context) - base) / context))
    return Workspace(1, max(0, min(context, fitting)), POOL_BYTES)


def _bytes(header: Header, graph: _Graph, batch: int, context: int) -> int:
    width, heads, layers = header.embedding_length or 0, header.head_count or 0, header.block_count or 0
    layer = batch * graph.rows * width * _FLOAT + batch * graph.scores * heads * context * _FLOAT
    layer += graph.value_bytes * width * context
    logits = 2 * batch * (header.vocab_size or 0) * _FLOAT
    kept = 1 if graph.reuses else layers
    return layer * kept + layers * _NODE_BYTES + logits + _FIXED_BYTES
