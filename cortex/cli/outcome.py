"""How a command ends."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, as `--help` lists them."""

    ok = 0
    failed = 1  # the answer is no
    usage = 2  # also argparse's own
    unreachable = 3
    damaged = 4


class Failure(Exception):  # noqa: N818  it is an outcome that was foreseen
    """A command ends here: one sentence for stderr, and the exit code."""

    def __init__(self, message: str, code: Exit = Exit.failed) -> None:
        super().__init__(message)
        self.code = code
