"""OpenAI's Responses API, translated to chat completions and back. Pure, and without a store: every request brings its history.

    request.py   a Responses request → a chat completions body
    items.py     input items → messages
    tools.py     functions, namespaces and tool_choice; names as the model sees them, and back
    output.py    output items and the events of their making
    response.py  the Response object, a whole answer → a Response
    stream.py    a stream → the official sequence of events
    failure.py   an error as `response.error`, with the codes that clients act on

What is not passed on: tools that OpenAI hosts and items of their history, custom (free-form) tools, encrypted reasoning,
item types that this API's reference does not know, `metadata`, and hints such as `verbosity` and `prompt_cache_key`.
"""

from cortex.wire.responses.request import to_chat
from cortex.wire.responses.response import from_chat
from cortex.wire.responses.stream import StreamTranslator

__all__ = ["StreamTranslator", "from_chat", "to_chat"]
