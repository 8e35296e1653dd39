"""Whose turn it is where models cannot be in memory together: A A A B B, not A B A B.

A loaded model serves whoever comes while another one waits for its place, until it is idle for a moment; then the place
goes over, and everybody who has waited for the other model is served. Whoever has waited longer than the bound closes
the replicas in its way: they take nothing new, answer what they have, and leave.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Want:
    """A model that requests wait for. `since`: when the first of them came; `blocking`: the busy models in its way on `node`."""

    model_id: str
    since: float
    node: str | None = None
    blocking: tuple[str, ...] = ()

    def starves(self, now: float, bound_s: float) -> bool:
        return bool(self.blocking) and now - self.since >= bound_s


def closed(wants: Iterable[Want], now: float, bound_s: float) -> frozenset[tuple[str, str]]:
    """The replicas (node, model) that take no new request. A model that has starved longer closes for nobody."""
    closing: set[tuple[str, str]] = set()
    older: set[str] = set()
    for want in sorted(wants, key=lambda want: want.since):
        if want.starves(now, bound_s) and want.node:
            closing |= {(want.node, model_id) for model_id in want.blocking if model_id not in older}
            older.add(want.model_id)
    return frozenset(closing)


def may_go(model_id: str, node: str, wants: Iterable[Want], now: float, bound_s: float) -> bool:
    """Whether a model may take a place on `node`: not before another one that starves for a place there, and longer."""
    wants = tuple(wants)
    since = next((want.since for want in wants if want.model_id == model_id), now)
    return not any(want.node == node and want.since < since and want.starves(now, bound_s) for want in wants)
