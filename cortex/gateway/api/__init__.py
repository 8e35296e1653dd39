"""What clients ask the gateway; the routes are in `gateway.app`.

inference.py  chat, completions, embeddings, rerank: passed on
messages.py   Anthropic: /v1/messages and count_tokens, translated
responses.py  OpenAI: /v1/responses, translated
ollama.py     /api/*, translated
translated.py   what these have in common
reading.py    large requests, read in a thread
fitting.py    errors of a model that cannot do what was asked name one that can
dialects.py   the routes of all of these
tokens.py     tokenize, detokenize, apply-template, input_tokens
models.py     /v1/models: everything that the fleet serves or could serve
listing.py    its entries, made anew where something has changed
plan.py       what would happen to a request, and why
status.py     health, version, the fleet in full, jobs
admin.py      loads and unloads by hand
openapi.py    every route, described
"""
