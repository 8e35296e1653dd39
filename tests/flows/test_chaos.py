"""`build/chaos` in short: what it prints, how it judges, and that a fleet under faults is wrong about nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from helpers.demo import ROOT
from trials.verdict import Asked, Malformed, Tally, WrongModel, error_in, sentence

KEYS = [
    "requests",
    "complete",
    "errors",
    "malformed",
    "hung",
    "wrong_model",
    "leaked_processes",
    "leaked_sockets",
    "leaked_permits",
]
STREAM = Asked(frozenset({"m"}), stream=True, says=True)
WHOLE = Asked(frozenset({"m"}), stream=False, says=True)


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fleet_under_faults_is_wrong_about_nothing() -> None:
    """Ten seconds of them: answers are complete or well-formed errors, and nothing is left when all is quiet."""
    command = [sys.executable, "-m", "trials", "--seconds", "10", "--seed", "7", "--json"]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}/build:{ROOT}/tests:{ROOT}"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    assert list(told) == KEYS
    assert told["complete"] > 0
    assert {name: told[name] for name in KEYS[3:]} == dict.fromkeys(KEYS[3:], 0), done.stderr
    assert done.returncode == 0


def chunk(content: str | None = None, finish: str | None = None, model: str = "m") -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"model": model, "choices": [choice]}).encode() + b"\n\n"


ERROR = b'{"error":{"message":"no","code":"shutting_down"}}'
SAID, STOP, DONE = chunk(sentence("m")), chunk(finish="stop"), b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("asked", "status", "headers", "body", "verdict"),
    [
        (STREAM, 200, {}, SAID + STOP + DONE, None),
        (STREAM, 200, {}, b": wait\n\n" + SAID + STOP + DONE, None),
        (STREAM, 200, {}, SAID + b"data: " + ERROR + b"\n\n", "shutting_down"),
        (STREAM, 200, {}, b"data: " + ERROR + b"\n\n", "shutting_down"),
        (STREAM, 200, {}, SAID + b"data: " + ERROR + b"\n\n" + DONE, Malformed),
        (STREAM, 200, {}, SAID + STOP, Malformed),
        (STREAM, 200, {}, SAID + DONE, Malformed),
        (STREAM, 200, {}, (SAID + STOP + DONE)[:-1], Malformed),
        (STREAM, 200, {}, SAID[:20], Malformed),
        (STREAM, 200, {}, b"", Malformed),
        (STREAM, 200, {}, b"data: {\n\n" + DONE, Malformed),
        (STREAM, 200, {}, SAID + SAID + STOP + DONE, Malformed),
        (STREAM, 200, {}, chunk(sentence("x")) + STOP + DONE, WrongModel),
        (STREAM, 200, {}, chunk(sentence("m"), model="x") + STOP + DONE, WrongModel),
        (STREAM, 503, {"retry-after": "2"}, ERROR, "shutting_down"),
        (STREAM, 503, {}, ERROR, Malformed),
        (STREAM, 502, {}, b"<html>", Malformed),
        (STREAM, 302, {}, ERROR, Malformed),
        (WHOLE, 200, {}, b'{"choices": []}', Malformed),
        (WHOLE, 200, {}, ERROR, Malformed),
    ],
)
def test_an_answer_is_whole_an_error_or_wrong(
    asked: Asked, status: int, headers: dict[str, str], body: bytes, verdict: Any
) -> None:
    """A trial that took half an answer for a whole one would find nothing."""
    if isinstance(verdict, type):
        with pytest.raises(verdict):
            error_in(asked, status, headers, body)
    else:
        assert error_in(asked, status, headers, body) == verdict


@pytest.mark.parametrize("name", KEYS[3:])
def test_each_of_the_last_six_numbers_fails_a_trial(name: str) -> None:
    """Errors do not; one hung request, one leaked socket does."""
    clean, dirty = Tally(complete=1), Tally(complete=1)
    clean.errors["upstream_timeout"] += 5
    assert clean.is_clean
    setattr(dirty, name, 1)
    assert not dirty.is_clean
    assert list(dirty.told()) == KEYS
