"""Anthropic's Messages, as `wire.anthropic` reads and writes them."""

from __future__ import annotations

from cortex.wire.openapi.schema import (
    ANYTHING,
    COUNT,
    FLAG,
    NAME,
    OBJECT,
    TEXT,
    Schemas,
    array,
    asked,
    at_least,
    either,
    nullable,
    ref,
    said,
    tagged,
    within,
    word,
)

# ---- requests

_TEXT_BLOCK = asked({"text": TEXT})
_IMAGE = asked({"source": tagged({"base64": asked({"media_type": NAME, "data": NAME}), "url": asked({"url": NAME})})})
_SIMPLE: Schemas = {"text": _TEXT_BLOCK, "image": _IMAGE}
_SIMPLE_CONTENT = either(TEXT, array(tagged(_SIMPLE)))
_DOCUMENT = asked(
    {"source": tagged({"text": asked({"data": TEXT}), "content": asked({"content": _SIMPLE_CONTENT})})},
    {"title": TEXT, "context": TEXT},
)
_RESULT = asked({"tool_use_id": NAME}, {"content": _SIMPLE_CONTENT, "is_error": FLAG})
_FOREIGN = ("redacted_thinking", "server_tool_use", "web_search_tool_result")  # accepted, and passed over
_BLOCKS: Schemas = {
    "user": tagged({**_SIMPLE, "document": _DOCUMENT, "tool_result": _RESULT}),
    "assistant": tagged(
        {
            "text": _TEXT_BLOCK,
            "thinking": asked({"thinking": TEXT}, {"signature": TEXT}),
            "tool_use": asked({"id": NAME, "name": NAME, "input": OBJECT}),
        },
        *_FOREIGN,
    ),
    "system": tagged({"text": _TEXT_BLOCK}),
}
_MESSAGE = either(
    *(asked({"role": word(role), "content": either(TEXT, array(block))}) for role, block in _BLOCKS.items())
)
_SERVER_TOOL = {
    "type": "string",
    "pattern": "^(web_search|web_fetch|code_execution)_[0-9]{8}$",
    "examples": ["web_search_20250305"],
}
_TOOL = either(
    asked({"name": NAME, "input_schema": OBJECT}, {"description": TEXT, "type": word("custom")}),
    asked({"name": NAME, "type": _SERVER_TOOL}),
)
_BOUND: Schemas = {"disable_parallel_tool_use": FLAG}
_CHOICE = tagged({"auto": asked({}, _BOUND), "any": asked({}, _BOUND), "tool": asked({"name": NAME}, _BOUND)}, "none")
_THINKING = tagged({"enabled": asked({}, {"budget_tokens": at_least(1)})}, "adaptive", "between_tools", "disabled")
_FORMAT = tagged({"json_schema": asked({"schema": OBJECT})})
_OUTPUT = asked({}, {"effort": word("low", "medium", "high", "xhigh", "max"), "format": _FORMAT})
_PROMPT: tuple[Schemas, Schemas] = (
    {"model": NAME, "messages": array(ref("Turn"), least=1)},
    {
        "system": either(TEXT, array(_BLOCKS["system"])),
        "tools": array(_TOOL),
        "tool_choice": _CHOICE,
        "thinking": _THINKING,
        "output_config": _OUTPUT,
        "output_format": _FORMAT,
        "context_management": ANYTHING,
    },
)
_REQUESTS: Schemas = {
    "Turn": _MESSAGE,
    "CountTokensRequest": asked(*_PROMPT),
    "MessagesRequest": asked(
        {**_PROMPT[0], "max_tokens": at_least(1)},
        {
            **_PROMPT[1],
            "stream": FLAG,
            "temperature": within(0, 2),
            "top_p": within(0, 1),
            "top_k": COUNT,
            "stop_sequences": array(NAME),
            "metadata": ANYTHING,
        },
    ),
}

# ---- answers

_USAGE = said(
    {
        "input_tokens": COUNT,
        "output_tokens": COUNT,
        "cache_creation_input_tokens": COUNT,
        "cache_read_input_tokens": COUNT,
    }
)
_REASON = nullable(word("end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"))
_STOPPED: Schemas = {"stop_reason": _REASON, "stop_sequence": nullable(TEXT)}
_BLOCK = tagged(
    {
        "text": said({"text": TEXT}),
        "thinking": said({"thinking": TEXT, "signature": TEXT}),
        "tool_use": said({"id": NAME, "name": NAME, "input": OBJECT}),
    }
)
_DELTA = tagged(
    {
        "text_delta": said({"text": TEXT}),
        "thinking_delta": said({"thinking": TEXT}),
        "signature_delta": said({"signature": TEXT}),
        "input_json_delta": said({"partial_json": TEXT}),
    }
)
_EVENT = either(
    tagged(
        {
            "message_start": said({"message": ref("Message")}),
            "content_block_start": said({"index": COUNT, "content_block": _BLOCK}),
            "content_block_delta": said({"index": COUNT, "delta": _DELTA}),
            "content_block_stop": said({"index": COUNT}),
            "message_delta": said({"delta": said(_STOPPED), "usage": _USAGE}),
        },
        "message_stop",
        "ping",
    ),
    ref("AnthropicError"),
)
_ANSWERS: Schemas = {
    "Message": said(
        {
            "id": {"type": "string", "pattern": "^msg_"},
            "type": word("message"),
            "role": word("assistant"),
            "model": NAME,
            "content": array(_BLOCK),
            **_STOPPED,
            "usage": _USAGE,
        }
    ),
    "MessageEvent": _EVENT,
    "CountedTokens": said({"input_tokens": COUNT}, {"context_management": said({"original_input_tokens": COUNT})}),
}

SCHEMAS: Schemas = {**_REQUESTS, **_ANSWERS}
