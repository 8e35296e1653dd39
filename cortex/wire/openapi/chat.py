"""OpenAI's chat completions, completions, embeddings and rerank, and questions about a vocabulary.

What these requests may hold is checked where the model is, by its harness: `neuron.harness.requests` has the rules.
"""

from __future__ import annotations

from cortex.wire.openapi.schema import (
    ANYTHING,
    COUNT,
    FLAG,
    INTEGER,
    NAME,
    NUMBER,
    OBJECT,
    TEXT,
    Schema,
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

_FUNCTION: Schema = asked({"name": NAME}, {"description": TEXT, "parameters": OBJECT, "strict": FLAG})
_CALL: Schema = asked({"type": word("function"), "function": asked({"name": NAME, "arguments": TEXT})}, {"id": TEXT})
_PART: Schema = tagged(
    {
        "text": asked({"text": TEXT}),
        "image_url": asked({"image_url": asked({"url": NAME}, {"detail": TEXT})}),
        "input_audio": asked({"input_audio": OBJECT}),
    }
)
_MESSAGE: Schema = asked(
    {"role": word("system", "developer", "user", "assistant", "tool", "function")},
    {
        "content": either(TEXT, array(_PART)),
        "name": TEXT,
        "reasoning_content": TEXT,
        "tool_calls": array(_CALL),
        "tool_call_id": TEXT,
    },
)
_BOUND: Schema = either(at_least(1), {"const": -1, "description": "no bound of the client's"})
_BIAS: Schema = either(NUMBER, {"const": False, "description": "never"})
_PAIR: Schema = {"type": "array", "prefixItems": [ANYTHING, _BIAS], "minItems": 2, "maxItems": 2}
_GENERATION: Schemas = {
    "stream": FLAG,
    "stream_options": asked({}, {"include_usage": FLAG}),
    "temperature": within(0, 2),
    "top_p": within(0, 1),
    "frequency_penalty": within(-2, 2),
    "presence_penalty": within(-2, 2),
    "max_tokens": _BOUND,
    "max_completion_tokens": _BOUND,
    "n_predict": _BOUND,
    "stop": either(NAME, array(NAME)),
    "seed": within(-(2**63), 2**63 - 1, "integer"),
    "logit_bias": either({"type": "object", "additionalProperties": _BIAS}, array(_PAIR)),
    "n": at_least(1),
}
_RESPONSE_FORMAT: Schema = tagged(
    {"json_schema": asked({"json_schema": asked({"schema": OBJECT}, {"name": TEXT, "strict": FLAG})})},
    "text",
    "json_object",
)
_CHOICE: Schema = either(
    word("none", "auto", "required"), asked({"type": word("function"), "function": asked({"name": NAME})})
)
_PROMPT: Schema = either(TEXT, array(either(TEXT, COUNT, array(COUNT, least=1)), least=1))
_EMBEDDED: Schema = either(NAME, array(NAME, least=1), array(COUNT, least=1), array(array(COUNT, least=1), least=1))

_REQUESTS: Schemas = {
    "ChatMessage": _MESSAGE,
    "ChatRequest": asked(
        {"model": NAME, "messages": array(ref("ChatMessage"), least=1)},
        {
            **_GENERATION,
            "logprobs": FLAG,
            "top_logprobs": within(0, 20, "integer"),
            "tools": array(asked({"type": word("function"), "function": _FUNCTION})),
            "tool_choice": _CHOICE,
            "parallel_tool_calls": FLAG,
            "chat_template_kwargs": OBJECT,
            "response_format": _RESPONSE_FORMAT,
            "reasoning_effort": TEXT,
        },
    ),
    "CompletionRequest": asked(
        {"model": NAME, "prompt": _PROMPT},
        {**_GENERATION, "echo": FLAG, "logprobs": within(0, 20, "integer"), "suffix": TEXT},
    ),
    "EmbeddingsRequest": asked(
        {"model": NAME, "input": _EMBEDDED}, {"encoding_format": word("float", "base64"), "dimensions": ANYTHING}
    ),
    "RerankRequest": asked(
        {"model": NAME, "query": NAME, "documents": array(TEXT, least=1)},
        {"top_n": within(0, 2**31 - 1, "integer")},
    ),
    "TokenizeRequest": asked(
        {"model": NAME, "content": TEXT}, {"add_special": FLAG, "parse_special": FLAG, "with_pieces": FLAG}
    ),
    "DetokenizeRequest": asked({"model": NAME, "tokens": array(COUNT)}),
}

# ---- answers

_USAGE: Schema = said(
    {"prompt_tokens": COUNT, "total_tokens": COUNT},
    {"completion_tokens": COUNT, "prompt_tokens_details": said({}, {"cached_tokens": COUNT})},
)
_REASON: Schema = word("stop", "length", "tool_calls", "content_filter")
_ANSWERED_CALL: Schema = said(
    {"id": NAME, "type": word("function"), "function": said({"name": NAME, "arguments": TEXT})}
)
_CALL_DELTA: Schema = said(
    {"index": COUNT}, {"id": TEXT, "type": TEXT, "function": said({}, {"name": TEXT, "arguments": TEXT})}
)
_SAYING: Schemas = {"role": word("assistant"), "content": nullable(TEXT), "reasoning_content": nullable(TEXT)}
_ENVELOPE: Schemas = {"id": NAME, "created": INTEGER, "model": TEXT}
_LOGPROBS: Schema = nullable(OBJECT)

_ANSWERS: Schemas = {
    "Usage": _USAGE,
    "ChatCompletion": said(
        {
            **_ENVELOPE,
            "object": word("chat.completion"),
            "choices": array(
                said(
                    {
                        "index": COUNT,
                        "message": said(
                            {"role": word("assistant"), "content": nullable(TEXT)},
                            {"reasoning_content": nullable(TEXT), "tool_calls": array(_ANSWERED_CALL)},
                        ),
                        "finish_reason": _REASON,
                    },
                    {"logprobs": _LOGPROBS},
                ),
                least=1,
            ),
            "usage": ref("Usage"),
        }
    ),
    "ChatChunk": said(
        {
            **_ENVELOPE,
            "object": word("chat.completion.chunk"),
            "choices": array(
                said(
                    {"index": COUNT, "delta": said({}, {**_SAYING, "tool_calls": array(_CALL_DELTA)})},
                    {"finish_reason": nullable(_REASON), "logprobs": _LOGPROBS},
                )
            ),
        },
        {"usage": nullable(ref("Usage"))},
    ),
    "Completion": said(
        {
            **_ENVELOPE,
            "object": word("text_completion"),
            "choices": array(
                said({"index": COUNT, "text": TEXT}, {"finish_reason": nullable(_REASON), "logprobs": _LOGPROBS})
            ),
        },
        {"usage": nullable(ref("Usage"))},
    ),
    "Embeddings": said(
        {
            "object": word("list"),
            "model": TEXT,
            "data": array(
                said({"object": word("embedding"), "index": COUNT, "embedding": either(array(NUMBER), TEXT)})
            ),
            "usage": ref("Usage"),
        }
    ),
    "Ranking": said({"model": TEXT, "results": array(said({"index": COUNT, "relevance_score": NUMBER}))}),
    "Tokens": said({"tokens": array(either(COUNT, said({"id": COUNT, "piece": either(TEXT, array(COUNT))})))}),
    "Detokenized": said({"content": TEXT}),
    "Prompt": said({"prompt": TEXT}),
    "InputTokens": said({"input_tokens": COUNT}),
}

SCHEMAS: Schemas = {**_REQUESTS, **_ANSWERS}
