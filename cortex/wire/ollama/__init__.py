"""Ollama's API, translated to OpenAI's and back. Pure.

    request.py   chat, generate and embed requests → OpenAI bodies
    keep_alive.py   how long a model is to stay, in seconds
    answer.py    a whole answer → Ollama's object
    stream.py    a stream → lines of JSON (NDJSON)
    models.py    the models of the fleet as tags, as what runs, and as what is shown

A stream is what a request gets that does not say `"stream": false`. `options` that say how a model is loaded (`num_ctx`,
`num_gpu`, …) are left out: a request reloads no model.
"""

from cortex.wire.ollama.answer import Clock, from_completion, from_embeddings, loaded, unloaded
from cortex.wire.ollama.models import VERSION, running, shown, tags
from cortex.wire.ollama.request import Asked, read_chat, read_embed, read_generate
from cortex.wire.ollama.stream import StreamTranslator

__all__ = [
    "VERSION",
    "Asked",
    "Clock",
    "StreamTranslator",
    "from_completion",
    "from_embeddings",
    "loaded",
    "read_chat",
    "read_embed",
    "read_generate",
    "running",
    "shown",
    "tags",
    "unloaded",
]
