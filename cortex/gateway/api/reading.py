"""Reading a large request, which takes seconds where it is made of a million little things: everybody else's answers go on meanwhile."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from sanic import Request

LARGE_BYTES = 256 * 1024  # what is smaller is read sooner than a thread could be woken a few times

P = ParamSpec("P")
T = TypeVar("T")


async def reading(request: Request, read: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """`read(*args, **more)`, which reads what `request` says; of a large one in a thread. It touches nothing that changes."""
    if len(request.body) <= LARGE_BYTES:
        return read(*args, **more)
    return await asyncio.to_thread(functools.partial(read, *args, **more))
