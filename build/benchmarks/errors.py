"""Why a benchmark could not run, or what it found wrong."""

from __future__ import annotations


class CannotRun(Exception):  # noqa: N818  reads as what happened
    """Something that the benchmark needs is missing; the message says what and how to get it."""
