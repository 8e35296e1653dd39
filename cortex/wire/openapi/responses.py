"""OpenAI's Responses, as `wire.responses` reads and writes them."""

from __future__ import annotations

from cortex.wire.openapi.schema import (
    ANYTHING,
    COUNT,
    FLAG,
    INTEGER,
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

_PART = tagged(
    {
        "input_text": asked({"text": TEXT}),
        "output_text": asked({"text": TEXT}),
        "refusal": asked({"refusal": TEXT}),
        "input_image": asked({"image_url": NAME}, {"detail": TEXT}),
    }
)
_CONTENT = either(TEXT, array(_PART))
_SAID = asked(
    {"role": word("user", "assistant", "system", "developer"), "content": _CONTENT}, {"type": word("message")}
)
_TEXTS = array(asked({"text": TEXT}, {"type": TEXT}))
_CALL = asked({"call_id": NAME, "name": NAME, "arguments": TEXT}, {"namespace": TEXT, "id": TEXT, "status": TEXT})
_ITEM = either(
    _SAID,
    tagged(
        {
            "function_call": _CALL,
            "function_call_output": asked({"call_id": NAME, "output": _CONTENT}),
            "reasoning": asked({}, {"summary": _TEXTS, "content": _TEXTS, "encrypted_content": TEXT}),
        },
        "web_search_call",
    ),
)
_FUNCTION = asked({"name": NAME}, {"description": TEXT, "parameters": OBJECT, "strict": FLAG})
_TOOL = tagged(
    {
        "function": _FUNCTION,
        "namespace": asked({"name": NAME}, {"description": TEXT, "tools": array(tagged({"function": _FUNCTION}))}),
        "custom": asked({"name": NAME}),
    },
    "web_search",
    "image_generation",
    "local_shell",
)
_CHOICE = either(word("auto", "none", "required"), tagged({"function": asked({"name": NAME}, {"namespace": TEXT})}))
_FORMAT = tagged(
    {"json_schema": asked({"name": NAME, "schema": OBJECT}, {"description": TEXT, "strict": FLAG})},
    "text",
    "json_object",
)
_EFFORT = word("none", "minimal", "low", "medium", "high", "xhigh", "max")
_REQUEST = asked(
    {"model": NAME},
    {
        "input": either(TEXT, array(_ITEM)),
        "instructions": TEXT,
        "max_output_tokens": at_least(1),
        "stream": FLAG,
        "store": FLAG,
        "tools": array(_TOOL),
        "tool_choice": _CHOICE,
        "parallel_tool_calls": FLAG,
        "reasoning": asked({}, {"effort": _EFFORT, "summary": word("auto", "concise", "detailed", "none")}),
        "text": asked({}, {"format": _FORMAT, "verbosity": TEXT}),
        "temperature": within(0, 2),
        "top_p": within(0, 1),
        "top_logprobs": within(0, 20, "integer"),
        "include": array(TEXT),
        "previous_response_id": TEXT,
        "metadata": ANYTHING,
        "prompt_cache_key": ANYTHING,
    },
)

# ---- answers

_USAGE = said(
    {
        "input_tokens": COUNT,
        "input_tokens_details": said({"cached_tokens": COUNT}),
        "output_tokens": COUNT,
        "output_tokens_details": said({"reasoning_tokens": COUNT}),
        "total_tokens": COUNT,
    }
)
_STATUS = word("in_progress", "completed", "incomplete")
_OUTPUT_TEXT = tagged({"output_text": said({"text": TEXT, "annotations": array(OBJECT), "logprobs": array(OBJECT)})})
_THOUGHT = tagged({"reasoning_text": said({"text": TEXT}), "summary_text": said({"text": TEXT})})
_OUTPUT = tagged(
    {
        "message": said({"id": NAME, "status": _STATUS, "role": word("assistant"), "content": array(_OUTPUT_TEXT)}),
        "reasoning": said({"id": NAME, "summary": array(_THOUGHT)}, {"content": array(_THOUGHT), "status": _STATUS}),
        "function_call": said(
            {"id": NAME, "call_id": NAME, "name": NAME, "arguments": TEXT, "status": _STATUS}, {"namespace": TEXT}
        ),
    }
)
_RESPONSE = said(
    {
        "id": {"type": "string", "pattern": "^resp_"},
        "object": word("response"),
        "created_at": INTEGER,
        "status": word("in_progress", "completed", "incomplete", "failed"),
        "model": NAME,
        "output": array(_OUTPUT),
        "error": nullable(said({"code": NAME, "message": NAME})),
        "incomplete_details": nullable(said({"reason": word("max_output_tokens", "content_filter")})),
        "usage": nullable(_USAGE),
        "tools": array(OBJECT),
        "parallel_tool_calls": FLAG,
    }
)
_LIFECYCLE = ("created", "in_progress", "completed", "incomplete", "failed")
_AT: Schemas = {"item_id": NAME, "output_index": COUNT}
_IN: Schemas = {**_AT, "content_index": COUNT}
_SUMMARY: Schemas = {**_AT, "summary_index": COUNT}
_STEPS: Schemas = {
    "output_item.added": said({"output_index": COUNT, "item": _OUTPUT}),
    "output_item.done": said({"output_index": COUNT, "item": _OUTPUT}),
    "content_part.added": said({**_IN, "part": either(_OUTPUT_TEXT, _THOUGHT)}),
    "content_part.done": said({**_IN, "part": either(_OUTPUT_TEXT, _THOUGHT)}),
    "output_text.delta": said({**_IN, "delta": TEXT, "logprobs": array(OBJECT)}),
    "output_text.done": said({**_IN, "text": TEXT, "logprobs": array(OBJECT)}),
    "reasoning_text.delta": said({**_IN, "delta": TEXT}),
    "reasoning_text.done": said({**_IN, "text": TEXT}),
    "reasoning_summary_part.added": said({**_SUMMARY, "part": _THOUGHT}),
    "reasoning_summary_part.done": said({**_SUMMARY, "part": _THOUGHT}),
    "reasoning_summary_text.delta": said({**_SUMMARY, "delta": TEXT}),
    "reasoning_summary_text.done": said({**_SUMMARY, "text": TEXT}),
    "function_call_arguments.delta": said({**_AT, "delta": TEXT}),
    "function_call_arguments.done": said({**_AT, "arguments": TEXT}),
}
_EVENTS: Schemas = {
    **{f"response.{what}": said({"response": ref("Response")}) for what in _LIFECYCLE},
    **{f"response.{what}": step for what, step in _STEPS.items()},
}

SCHEMAS: Schemas = {
    "ResponsesRequest": _REQUEST,
    "Response": _RESPONSE,
    "DeletedResponse": said({"id": NAME, "object": word("response"), "deleted": FLAG}),
    "InputItems": said(
        {"object": word("list"), "data": array(OBJECT), "has_more": FLAG},
        {"first_id": nullable(TEXT), "last_id": nullable(TEXT)},
    ),
    "ResponseEvent": {
        **tagged(_EVENTS),
        "type": "object",
        "required": ["sequence_number"],
        "properties": {"sequence_number": COUNT},
    },
}
