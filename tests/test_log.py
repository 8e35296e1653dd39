"""log: one line per request, as text or JSON, written without ever holding the event loop."""

import copy
import json
import logging
import os
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from cortex import log


def _record(message="hello", **fields):
    record = logging.LogRecord("cortex.x", logging.INFO, __file__, 1, message, (), None)
    record.fields = fields
    return record


@pytest.fixture
def pipe():
    """A reading end, and a text stream that writes into it."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    yield reading, stream
    os.close(reading)


def test_a_text_line_has_time_level_logger_message_and_the_fields_that_are_known():
    """What is None was not known, and is left out."""
    line = log.TextFormatter().format(_record(id="req_1", node=None, ms=1.5))
    assert line[2] == line[5] == ":"
    assert line[8:] == " INFO    cortex.x: hello id=req_1 ms=1.5"


def test_a_json_line_is_one_object():
    """Collectors get the same fields, typed."""
    line = json.loads(log.JsonFormatter().format(_record(id="req_1", ms=1.5)))
    assert line | {"ts": 0} == {
        "ts": 0,
        "level": "info",
        "logger": "cortex.x",
        "message": "hello",
        "id": "req_1",
        "ms": 1.5,
    }


def test_a_line_is_one_line_whatever_a_client_calls_its_model():
    """Nobody writes lines of their own into the log, or colours into the terminal of who reads it."""
    line = log.TextFormatter().format(
        _record("a\rb", model="x\n12:00:00 ERROR   cortex: forged\x1b[31m\u2028", name="Übung 🦙")
    )
    assert line[8:] == (
        r" INFO    cortex.x: a\rb model=x\n12:00:00 ERROR   cortex: forged\x1b[31m\u2028 name=" + "Übung 🦙"
    )


@pytest.mark.parametrize("value", ["\udcff", 2**70])
def test_a_json_line_takes_what_json_has_no_word_for(value):
    """A request whose line cannot be written would lose its answer with it."""
    assert json.loads(log.JsonFormatter().format(_record(value=value)))["value"] == value


def test_an_exception_is_told_whole():
    """Its traceback follows the line."""
    error = ZeroDivisionError("why")
    record = logging.LogRecord("cortex.x", logging.ERROR, __file__, 1, "failed", (), (type(error), error, None))
    assert "ZeroDivisionError: why" in log.TextFormatter().format(record)
    assert "ZeroDivisionError: why" in json.loads(log.JsonFormatter().format(record))["exception"]


FORGED = "no\n12:00:00 ERROR   cortex: forged\x1b[31m\u2028"
ESCAPED = r"no\n12:00:00 ERROR   cortex: forged\x1b[31m\u2028"


class MuteError(Exception):
    def __str__(self):
        raise ZeroDivisionError


def _raised(error, cause=None, context=None):
    """What stands below the line of an error that was raised here."""
    try:
        try:
            if context:
                raise context
        finally:
            if cause:
                error.__cause__ = cause
            raise error
    except BaseException as raised:
        info = type(raised), raised, raised.__traceback__
    record = logging.LogRecord("cortex.x", logging.ERROR, __file__, 1, "failed", (), info)
    return log.TextFormatter().format(record).split("\n", 1)[1]


def _noted(error):
    error.add_note(FORGED)
    return error


@pytest.mark.parametrize(
    "told",
    [
        lambda: _raised(ValueError(FORGED)),
        lambda: _raised(OSError(2, FORGED, FORGED)),
        lambda: _raised(KeyError("x"), cause=ValueError(FORGED)),
        lambda: _raised(KeyError("x"), context=ValueError(FORGED)),
        lambda: _raised(_noted(ValueError("x"))),
        lambda: _raised(ExceptionGroup(FORGED, [ValueError("x")])),
        lambda: _raised(ExceptionGroup("x", [KeyError("y"), ValueError(FORGED)])),
        lambda: _raised(SyntaxError(FORGED, (FORGED, 1, 1, FORGED))),
    ],
)
def test_a_message_below_its_traceback_forges_no_line(told):
    """Its newlines and escape codes are spelled, wherever in the chain it stands."""
    text = told()
    assert "forged" in text
    assert [line for line in text.split("\n") if line.lstrip(" |").startswith("12:00")] == []
    assert all(letter == "\n" or letter not in FORGED or letter.isprintable() for letter in text)


@pytest.mark.parametrize("cause", [None, OSError("first")])
@pytest.mark.parametrize("context", [None, KeyError("first")])
@pytest.mark.parametrize("error", [ValueError("why"), TimeoutError(), json.JSONDecodeError("why", "", 0)])
def test_a_traceback_stays_as_python_writes_it(error, cause, context):
    """With its own lines, causes and contexts, and where they were raised."""
    error, cause, context = copy.copy(error), copy.copy(cause), copy.copy(context)
    text = _raised(error, cause=cause, context=context)
    assert text + "\n" == "".join(traceback.format_exception(error))
    assert f'  File "{__file__}", line ' in text


def test_errors_in_a_circle_and_without_a_text_are_told():
    """A line is written whatever an error is made of."""
    one, other = ValueError("one"), MuteError()
    one.__cause__, other.__cause__ = other, one
    assert "MuteError: " in _raised(one, cause=other)


def test_an_unknown_level_is_an_error_that_lists_the_known_ones():
    """A typo in CORTEX_LOG is said before anything starts."""
    with pytest.raises(ValueError, match="unknown log level 'loud': use debug, info, warning or error"):
        log.configure("loud")


@pytest.mark.parametrize("form", ["jsonl", "logfmt", "JSON "])
def test_an_unknown_form_is_an_error_too(monkeypatch, form):
    """Whoever collects lines of JSON is not to get others because of a letter."""
    monkeypatch.setenv("CORTEX_LOG_FORMAT", form)
    with pytest.raises(ValueError, match=r"unknown log format '.*': use text or json"):
        log.configure()


def test_after_a_flush_every_line_is_written_in_order(pipe):
    """Lines come from a thread, in the order in which they were logged, and none is missing at the end."""
    reading, stream = pipe
    handler = log.BackgroundHandler(stream)
    for number in range(500):
        handler.handle(_record(str(number)))
    handler.flush()
    assert os.read(reading, 65536).decode().split() == [str(number) for number in range(500)]
    stream.close()


def test_a_reader_that_stalls_holds_nobody_and_is_told_what_it_missed(pipe, monkeypatch):
    """Logging returns while the pipe is full; when somebody reads again, the number of lines left out stands there."""
    monkeypatch.setattr(log.BackgroundHandler, "LINES_LIMIT", 100)
    monkeypatch.setattr(log.BackgroundHandler, "FLUSH_S", 0.01)
    reading, stream = pipe
    handler = log.BackgroundHandler(stream)
    for number in range(3000):
        handler.handle(_record(f"{number} {'x' * 1000}"))  # many times what a pipe takes
    handler.flush()  # gives up
    monkeypatch.setattr(log.BackgroundHandler, "FLUSH_S", 60)
    with ThreadPoolExecutor() as reader:
        text = reader.submit(_read_to_the_end, reading)
        handler.flush()
        stream.close()
    lines = text.result().splitlines()
    left_out = [
        int(line.split()[0]) for line in lines if line.endswith("lines were left out here: nobody read them in time")
    ]
    assert sum(left_out) > 2000
    assert sum(left_out) + len(lines) - len(left_out) == 3000


def _read_to_the_end(reading):
    with open(reading, encoding="utf-8", closefd=False) as stream:
        return stream.read()
