"""Anthropic's Messages API, translated to chat completions and back. Pure.

    request.py   a Messages (or count_tokens) request → a chat completions body
    content.py   messages and their blocks
    tools.py     tool definitions and tool_choice
    ids.py       tool call ids, reversibly and without a table
    answer.py    a whole answer → a Message
    stream.py    a stream → Anthropic's events

What is not passed on: Claude Code's billing header (it changes with every request and would void the prompt cache),
blocks and fields that this API's reference does not know, tools that run on Anthropic's servers, signatures of
thinking, `metadata` and `cache_control`.
"""

from cortex.wire.anthropic.answer import from_chat
from cortex.wire.anthropic.request import count_to_chat, to_chat
from cortex.wire.anthropic.stream import StreamTranslator

__all__ = ["StreamTranslator", "count_to_chat", "from_chat", "to_chat"]
