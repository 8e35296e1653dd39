"""Error bodies as JSON Schema, one for each dialect. What they say and when is `wire.errors`."""

from __future__ import annotations

from cortex.wire.openapi.schema import NAME, TEXT, Schemas, nullable, said, word

SCHEMAS: Schemas = {
    "OpenAiError": said(
        {"error": said({"message": NAME, "type": NAME, "code": nullable(NAME), "param": nullable(TEXT)})}
    ),
    "AnthropicError": said({"type": word("error"), "error": said({"type": NAME, "message": NAME}), "request_id": TEXT}),
    "OllamaError": said({"error": NAME}),
}
