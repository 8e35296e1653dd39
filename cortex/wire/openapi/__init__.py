"""The API as OpenAPI 3.1 tells it: what may be asked, what is answered, in every dialect. Descriptions, and no checks.

    schema.py      JSON Schema in few words
    operation.py   one route, and the document that a role's routes make
    chat.py, anthropic.py, responses.py, ollama.py    each dialect's bodies, as `wire` and the harnesses read and write them
    errors.py      each dialect's error bodies
    fleet.py       what roles say of themselves, derived from `wire.fleet`

What is described is held against what is read, sent and answered by tests/wire/test_openapi*.py and `build/test fuzz`.
A role's routes stand beside its handlers: `gateway.api.openapi`, `neuron.api.openapi`.
"""
