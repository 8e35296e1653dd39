"""Formats and nothing else: no asyncio, no sockets, no framework.

fleet.py    what a neuron tells a gateway (and what scripts of the first generation read)
sse.py      server-sent events: find event borders in a byte stream, encode events and comments
errors.py   a CortexError as a body in the client's dialect, and another's error as one
error_table.py  what the codes of errors mean
openapi/    the API in all dialects as OpenAPI documents tell it
fields.py   read a client's JSON so that an error names the place
chat/       OpenAI chat completions, the one dialect that engines speak
anthropic/  Messages ↔ chat completions
responses/  Responses ↔ chat completions
ollama/     Ollama's API ↔ chat completions
"""
