"""What clients ask the gateway; the routes are in `gateway.app`.

inference.py  chat, completions, embeddings, rerank: passed on
models.py     /v1/models: everything that the fleet serves or could serve
plan.py       what would happen to a request, and why
status.py     health, version, the fleet in full, jobs
admin.py      loads and unloads by hand
"""
