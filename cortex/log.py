"""Logging: text for people, JSON for collectors, one line per request at its end.

`CORTEX_LOG=debug` (or `info`, `warning`) sets the level, `CORTEX_LOG_FORMAT=json` the form. No prompt, no key and no
header value is ever logged.
"""

from __future__ import annotations

import logging
import os
import sys
import uuid
from typing import Any

import orjson

access = logging.getLogger("cortex.access")
_QUIET = (
    "httpx",
    "httpcore",
    "sanic",
    "sanic.root",
    "sanic.error",
    "sanic.server",
    "huggingface_hub",
    "filelock",
    "asyncio",
)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts (epoch seconds), level, logger, message, and what was passed as `extra={"fields": …}`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextFormatter(logging.Formatter):
    """`14:03:11 INFO  cortex.neuron: model loaded id=org/x ms=812`"""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={value}" for key, value in getattr(record, "fields", {}).items() if value is not None)
        text = (
            f"{self.formatTime(record, '%H:%M:%S')} {record.levelname:<7} {record.name}: {record.getMessage()}{fields}"
        )
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure(level: str | None = None, form: str | None = None) -> None:
    """Set up the process's logging once, on stderr. An unknown level is an error that lists the known ones."""
    name = (level or os.environ.get("CORTEX_LOG") or "info").upper()
    if name not in logging.getLevelNamesMapping():
        raise ValueError(f"unknown log level '{name.lower()}': use debug, info, warning or error")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter() if (form or os.environ.get("CORTEX_LOG_FORMAT")) == "json" else TextFormatter()
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(name)
    for noisy in _QUIET:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def new_request_id() -> str:
    return "req_" + uuid.uuid4().hex[:20]


def request_ended(*, request_id: str, method: str, path: str, status: int, ms: float, **fields: Any) -> None:
    """The one line of a request, written at its end: also when the client left and when a stream broke."""
    if access.isEnabledFor(logging.INFO):
        access.info(
            "%s %s %s", method, path, status, extra={"fields": {"id": request_id, "ms": round(ms, 1), **fields}}
        )
