"""What roles say of themselves and are told by hand: `wire.fleet` as JSON Schema, and what is put around it."""

from __future__ import annotations

from cortex.wire.fleet import (
    Activation,
    Announcement,
    Discovery,
    Health,
    Job,
    KeepRequest,
    LoadRequest,
    ModelEntry,
    UnloadRequest,
    YieldRequest,
)
from cortex.wire.openapi.schema import (
    COUNT,
    FLAG,
    INTEGER,
    NAME,
    NUMBER,
    OBJECT,
    TEXT,
    Schemas,
    array,
    nullable,
    of_models,
    ref,
    said,
    word,
)
from cortex.wire.sync import Arrived, Hashing, Offer, Receive, Receiving

_VERSION = said(
    {"package_version": NAME, "kind": word("binary", "source"), "python": NAME, "platform": NAME, "harnesses": OBJECT},
    dict.fromkeys(("git_sha", "llama_cpp", "flavour", "backends", "built_at"), nullable(TEXT)),
)
_CONDITION = word("ok", "impaired", "degraded")
_LOCATION = said({"node": NAME, "status": NAME}, {"vram_estimate_mb": INTEGER})
_MODEL = said(
    {"id": NAME, "object": word("model"), "created": INTEGER, "owned_by": NAME, "loaded": FLAG},
    {
        "type": word("model"),
        "display_name": TEXT,
        "created_at": TEXT,
        "feasible_on": array(NAME),
        "locations": array(_LOCATION),
        "capabilities": nullable(array(NAME)),
        "context_length": INTEGER,
        "max_model_len": INTEGER,
        "max_input_tokens": INTEGER,
        "cost": OBJECT,
        "aliases": array(NAME),
    },
)
_PLAN = said(
    {
        "model": TEXT,
        "model_id": TEXT,
        "verdict": word("serve", "wait", "load", "queue", "reject"),
        "why": TEXT,
        "nodes": array(said({"node": NAME, "candidate": FLAG}, {"why": TEXT, "need_mb": nullable(INTEGER)})),
    },
    {"node": NAME, "status": INTEGER, "code": nullable(TEXT)},
)

SCHEMAS: Schemas = {
    **of_models(
        Activation,
        Announcement,
        Discovery,
        Health,
        Job,
        KeepRequest,
        LoadRequest,
        ModelEntry,
        UnloadRequest,
        YieldRequest,
    ),
    **of_models(Arrived, Hashing, Offer, Receive, Receiving),
    "Version": _VERSION,
    "Model": _MODEL,
    "ModelList": said(
        {"object": word("list"), "data": array(ref("Model"))},
        {"has_more": FLAG, "first_id": nullable(TEXT), "last_id": nullable(TEXT)},
    ),
    "FleetHealth": said({"status": _CONDITION, "nodes": said({"healthy": COUNT, "total": COUNT})}),
    "FleetStatus": said(
        {
            "status": _CONDITION,
            "version": ref("Version"),
            "config": OBJECT,
            "nodes": array(said({"name": NAME, "endpoint": NAME, "healthy": FLAG, "models": array(ref("ModelEntry"))})),
        }
    ),
    "Plan": _PLAN,
    "Loaded": said({"status": word("loaded")}, {"node": NAME, "job_id": TEXT, "notes": array(TEXT)}),
    "Loading": said({"status": word("loading"), "job": ref("Job")}, {"node": NAME}),
    "Pushed": said({"status": word("pushed", "present"), "node": NAME}, {"from": NAME}),
    "Pushing": said(
        {"status": word("pushing", "preparing"), "node": NAME, "from": NAME},
        {"job": ref("Job"), "bytes_done": COUNT, "bytes_total": COUNT},
    ),
    "Unloaded": said({"status": word("unloaded")}, {"nodes": array(NAME)}),
    "KeptModel": said({"status": word("kept"), "ttl": NUMBER}),
    "Yielding": said({"status": word("yielding"), "seconds": NUMBER}),
    "Drained": said({"draining": FLAG, "in_flight": nullable(NUMBER)}, {"node": NAME}),
    "Joined": said({"status": word("joined", "configured", "left")}),
    "Models": array(ref("ModelEntry")),
    "Jobs": array(ref("Job")),
    "Endpoint": said({"url": NAME}),
    "OpenApi": said({"openapi": NAME, "info": OBJECT, "paths": OBJECT, "components": OBJECT}),
}
