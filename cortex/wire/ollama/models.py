"""The models of a fleet in Ollama's shapes, from what `/v1/models` lists and, where it is known, `size_bytes`, `quant`, `held_mb`.

`expires` of one that runs is when it is to leave, in Unix seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

Entry = Mapping[str, Any]

VERSION = "0.13.0"  # whose API this is: clients ask for a least one
FOR_EVER = "2318-01-01T00:00:00Z"  # what Ollama says of a model that does not expire
_FOR_EVER_S = datetime.fromisoformat(FOR_EVER).timestamp()
_ARCHITECTURE = "cortex"  # clients read `<architecture>.context_length`, whatever it is called
_CAPABILITIES = {
    "chat": "completion",
    "completions": "completion",
    "tools": "tools",
    "vision": "vision",
    "embeddings": "embedding",
}


def tags(entries: Iterable[Entry]) -> dict[str, Any]:
    """`/api/tags`: everything that could be asked for."""
    return {"models": [_listed(entry) for entry in entries]}


def running(entries: Iterable[Entry]) -> dict[str, Any]:
    """`/api/ps`: what is in memory."""
    return {"models": [_running(entry) for entry in entries if entry["loaded"]]}


def _running(entry: Entry) -> dict[str, Any]:
    held = entry.get("held_mb", 0) * 1024 * 1024
    more = {
        "expires_at": _time(entry.get("expires")),
        "size_vram": held,
        "context_length": entry.get("context_length", 0),
    }
    return _listed(entry) | {"size": held} | more


def _time(seconds: float | None) -> str:
    """Clocks end somewhere, and an operator's idle time may lie beyond."""
    if seconds is None or not 0 <= seconds < _FOR_EVER_S:
        return FOR_EVER
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _listed(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry["id"],
        "model": entry["id"],
        "modified_at": entry["created_at"],
        "size": entry.get("size_bytes", 0),
        "digest": hashlib.sha256(entry["id"].encode()).hexdigest(),  # of the name: it tells models apart, no more
        "details": _details(entry),
    }


def _details(entry: Entry) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "",
        "families": [],
        "parameter_size": "",
        "quantization_level": entry.get("quant", ""),
    }


def shown(entry: Entry) -> dict[str, Any]:
    """`/api/show`"""
    context = {f"{_ARCHITECTURE}.context_length": entry["context_length"]} if "context_length" in entry else {}
    words = {_CAPABILITIES[word] for word in entry["capabilities"] or () if word in _CAPABILITIES}
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(entry),
        "model_info": {"general.architecture": _ARCHITECTURE, **context},
        "capabilities": sorted(words) or ["completion"],
        "modified_at": entry["created_at"],
    }
