"""Facts of the self-test: a sentence each, that holds or ends the test."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

WAIT_S = 90.0  # for any fact, on a machine that does other things as well


class NotSo(Exception):  # noqa: N818  reads as what happened
    """A check does not hold."""


def check(sentence: str, holds: object) -> None:
    if not holds:
        raise NotSo(sentence)
    say(f"ok    {sentence}")


def until(fact: Callable[[], object], sentence: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """As soon as it holds; `process` must not end before."""
    deadline = time.monotonic() + WAIT_S
    while not fact():
        if process is not None and process.poll() is not None:
            raise NotSo(f"{sentence}: it ended with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise NotSo(f"{sentence}: not within {WAIT_S:g} s")
        time.sleep(0.02)
    check(sentence, holds=True)


def say(text: str) -> None:
    print(text, flush=True)
