"""cortex: one executable, two roles, one OpenAI- and Anthropic-compatible endpoint over a fleet of model hosts.

Where things live, in the order in which a request meets them:

    cli/         the command line: roles, status, models, load, unload, pull, validate, version
    web/         Sanic in one place: applications, the one exception handler, HTTP/1.1, streams to clients
    gateway/     the control plane: ① api (in), ② routing (pure), fleet (what is known), ③ proxy (out)
    neuron/      the host: ④ api, hardware, models (slots, sources, admission), ⑤ harness, ⑥ engine
    net/         the data plane's connection pool and relay, used by both roles
    wire/        pure formats: what gateway and neuron say to one another, SSE, error bodies
    config/      cortex.toml, neuron.toml, models.toml as types that cannot be wrong
    errors.py    an error knows its status, code and Retry-After; one table
    tasks.py     the only place that starts a task
    log.py       one line per request, JSON or text

`gateway` and `neuron` never import one another. `wire` and `gateway.routing` do no I/O. A test holds these rules.
"""

__version__ = "0.1.0"
