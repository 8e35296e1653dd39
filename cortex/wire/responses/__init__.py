"""OpenAI's Responses API, translated to chat completions and back. Pure: what is stored of it is stored elsewhere.

    request.py   a Responses request → a chat completions body
    items.py     input items → messages
    tools.py     functions, namespaces and tool_choice; names as the model sees them, and back
    output.py    output items and the events of their making
    response.py  the Response object, a whole answer → a Response
    stream.py    a stream → the official sequence of events
    memory.py    what a request wants of former responses, and what is kept of one
    failure.py   an error as `response.error`, with the codes that clients act on

What is not passed on: tools that OpenAI hosts and items of their history, custom (free-form) tools, encrypted reasoning,
item types that this API's reference does not know, `metadata`, and hints such as `verbosity` and `prompt_cache_key`.
"""

from cortex.wire.responses.memory import Kept, Wishes, item_page, wishes_of, with_history
from cortex.wire.responses.request import to_chat
from cortex.wire.responses.response import from_chat, new_id
from cortex.wire.responses.stream import StreamTranslator

__all__ = [
    "Kept",
    "StreamTranslator",
    "Wishes",
    "from_chat",
    "item_page",
    "new_id",
    "to_chat",
    "wishes_of",
    "with_history",
]
