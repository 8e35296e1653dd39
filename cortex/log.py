"""Logging: text for people, JSON for collectors, one line per request at its end.

`CORTEX_LOG=debug` (or `info`, `warning`) sets the level, `CORTEX_LOG_FORMAT=json` the form. No prompt, no key and no
header value is ever logged.

A role's event loop never waits for whoever reads stderr: lines are written by a thread, those of one moment together.
"""

from __future__ import annotations

import collections
import functools
import json
import logging
import os
import random
import sys
import threading
import time
from abc import ABC, abstractmethod
from typing import Any, TextIO

import orjson

from cortex.foreign import escaped, traceback_of

access = logging.getLogger("cortex.access")
_root = logging.getLogger()
_field = "%s=%s".__mod__  # of a pair; every line has some
METHOD_SHOWN, PATH_SHOWN = 32, 256  # letters, in the line of a request
_QUIET = (
    "httpx",
    "httpcore",
    "sanic",
    "sanic.root",
    "sanic.error",
    "sanic.server",
    "asyncio",
)


class LineFormatter(logging.Formatter, ABC):
    """A record as one line; `line` does without the record. `exception` is the text of a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        exception = self.formatException(record.exc_info) if record.exc_info else None
        fields = getattr(record, "fields", {})
        return self.line(record.created, record.levelname, record.name, record.getMessage(), fields, exception)

    @abstractmethod
    def line(
        self,
        created: float,
        level: str,
        logger: str,
        message: str,
        fields: dict[str, Any],
        exception: str | None = None,
    ) -> str:
        """The line, without its end."""


class JsonFormatter(LineFormatter):
    """One JSON object a line: ts (epoch seconds), level, logger, message, and what was passed as `extra={"fields": …}`."""

    def line(
        self,
        created: float,
        level: str,
        logger: str,
        message: str,
        fields: dict[str, Any],
        exception: str | None = None,
    ) -> str:
        line = {"ts": round(created, 3), "level": level.lower(), "logger": logger, "message": message, **fields}
        if exception:
            line["exception"] = exception
        try:
            return orjson.dumps(line, default=str).decode()
        except orjson.JSONEncodeError:  # half a surrogate pair, a number beyond 64 bits: a line is written all the same
            return json.dumps(line, default=str)


class TextFormatter(LineFormatter):
    """`14:03:11 INFO  cortex.neuron: model loaded id=org/x ms=812`"""

    def formatException(self, ei: Any) -> str:  # noqa: N802  logging's own
        return traceback_of(ei[1]) if ei[1] else ""

    def line(
        self,
        created: float,
        level: str,
        logger: str,
        message: str,
        fields: dict[str, Any],
        exception: str | None = None,
    ) -> str:
        if None in fields.values():
            fields = {key: value for key, value in fields.items() if value is not None}
        told = " ".join([f"{_clock(int(created))} {level:<7} {logger}: {message}", *map(_field, fields.items())])
        return f"{escaped(told)}\n{exception}" if exception else escaped(told)


_FORMS: dict[str, type[LineFormatter]] = {"text": TextFormatter, "json": JsonFormatter}


@functools.lru_cache(maxsize=4)  # the lines of a busy second have one time
def _clock(second: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(second))


class BackgroundHandler(logging.Handler):
    """Writes lines from a thread of its own: at once when it is quiet, else every BATCH_S in one piece.

    When the stream's reader stalls, up to LINES_LIMIT lines wait for it; what comes then is left out, and counted.
    """

    BATCH_S = 0.05
    LINES_LIMIT = 10_000
    FLUSH_S = 1.0  # at the end: a reader that never reads must not keep the process

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: collections.deque[str] = collections.deque()
        self._left_out = 0
        self._filled = threading.Event()
        self._flushing = threading.Event()
        self._written = threading.Event()
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._has_room():
            self._append(self.format(record))

    def tell(self, level: int, logger: str, message: str, fields: dict[str, Any]) -> None:
        """A line without a record, which costs more than all the rest of it."""
        if self._has_room() and isinstance(self.formatter, LineFormatter):
            self._append(self.formatter.line(time.time(), logging.getLevelName(level), logger, message, fields))

    def _has_room(self) -> bool:
        if len(self._lines) < self.LINES_LIMIT:
            return True
        self._left_out += 1
        return False

    def _append(self, line: str) -> None:
        self._lines.append(line + "\n")
        if not self._filled.is_set():
            self._filled.set()

    def flush(self) -> None:
        """Wait until everything is written; `logging` calls it at exit."""
        self._written.clear()
        self._flushing.set()
        self._filled.set()
        self._written.wait(self.FLUSH_S)

    def _run(self) -> None:
        while self._filled.wait():
            self._filled.clear()
            flushing = self._flushing.is_set()  # seen before the write, which then has every line from before the flush
            self._write()
            if flushing:
                self._flushing.clear()
                self._written.set()
            self._flushing.wait(self.BATCH_S)

    def _write(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        left_out, self._left_out = self._left_out, 0
        if left_out:
            lines.append(f"{left_out} lines were left out here: nobody read them in time\n")
        try:
            self._stream.write("".join(lines))
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads any more, or the stream was closed: there is nowhere to say it
            return


def configure(level: str | None = None, form: str | None = None) -> None:
    """Set up the process's logging once, on stderr. An unknown level or format is an error that lists the known ones."""
    name = (level or os.environ.get("CORTEX_LOG") or "info").upper()
    if name not in logging.getLevelNamesMapping():
        raise ValueError(f"unknown log level '{name.lower()}': use debug, info, warning or error")
    form = form or os.environ.get("CORTEX_LOG_FORMAT") or "text"
    if form not in _FORMS:
        raise ValueError(f"unknown log format '{form}': use {' or '.join(_FORMS)}")
    handler = BackgroundHandler(sys.stderr)
    handler.setFormatter(_FORMS[form]())
    _root.handlers[:] = [handler]
    _root.setLevel(name)
    # Python's own advice for cheap records: do not find out what no formatter tells (file, line, thread, process).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001  documented so
    for noisy in _QUIET:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, _root.level))


def _shown(text: str, most: int) -> str:
    """Clients choose how long it is."""
    return text if len(text) <= most else text[:most] + "…"


def new_request_id() -> str:
    """Unique, and no secret."""
    return f"req_{random.getrandbits(80):020x}"


def request_ended(*, request_id: str, method: str, path: str, status: int, ms: float, **fields: Any) -> None:
    """The one line of a request, written at its end: also when the client left and when a stream broke.

    What only reads and went well is told at debug: polls every few seconds would hide the rest.
    """
    level = logging.DEBUG if method in ("GET", "HEAD") and status < 400 else logging.INFO
    if not access.isEnabledFor(level):
        return
    told = {"id": request_id, "ms": round(ms, 1), **fields}
    method, path = _shown(method, METHOD_SHOWN), _shown(path, PATH_SHOWN)
    handlers = _root.handlers
    if len(handlers) == 1 and isinstance(handlers[0], BackgroundHandler) and not access.handlers:
        handlers[0].tell(level, access.name, f"{method} {path} {status}", told)
    else:
        access.log(level, "%s %s %s", method, path, status, extra={"fields": told})
