"""Which of a repository's variants is meant by a quant, on disk and in the hub alike. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from cortex import errors
from cortex.errors import CortexError

PREFERRED_QUANT = "Q4_K_M"  # without a wish: llama.cpp's own choice, and the first generation's default


class Variant(Protocol):
    """One quantisation of a model: a file, or the parts of one."""

    @property
    def quant(self) -> str | None: ...
    @property
    def file_name(self) -> str: ...


V = TypeVar("V", bound=Variant)


def pick(quant: str | None, variants: Iterable[V]) -> V | None:
    """The variant of exactly this quant, else the first whose file name contains it; capitals do not matter.

    Without a quant: Q4_K_M, else the first by name.
    """
    ordered = sorted(variants, key=lambda variant: variant.file_name.lower())
    wanted = (quant or PREFERRED_QUANT).upper()
    exact = [variant for variant in ordered if (variant.quant or "").upper() == wanted]
    containing = [variant for variant in ordered if wanted in variant.file_name.upper()]
    anything = [] if quant else ordered
    return next(iter((*exact, *containing, *anything)), None)


def quant_not_found(repo: str, quant: str, variants: Sequence[Variant], where: str) -> CortexError:
    """422 with what there is, and what comes nearest to the wish."""
    available = sorted({variant.quant or variant.file_name for variant in variants})
    close = nearest(quant, available)
    hint = f"; did you mean '{close}'?" if close else ""
    return errors.invalid_request(
        f"'{repo}' has no quant '{quant}' {where}; available: {', '.join(available) or 'none'}{hint}",
        code="quant_not_found",
        param="quant",
        status=422,
        available=available,
        nearest=close,
    )


def nearest(wanted: str, known: Iterable[str]) -> str | None:
    """The known word that is most like `wanted`, if any is."""
    by_capitals = {word.upper(): word for word in known}
    close = difflib.get_close_matches(wanted.upper(), by_capitals, n=1, cutoff=0.4)
    return by_capitals[close[0]] if close else None
