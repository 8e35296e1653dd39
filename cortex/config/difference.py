"""Which keys of two configurations differ."""

from __future__ import annotations

from pydantic import BaseModel


def changed_keys(old: BaseModel, new: BaseModel, *, within: str = "") -> list[str]:
    """The differing keys as a file has them, tables followed: `gateway.listen`, `neurons`. Both are of one type."""
    changed: list[str] = []
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if isinstance(before, BaseModel) and type(before) is type(after):
            changed += changed_keys(before, after, within=f"{within}{name}.")
        else:
            changed.append(within + name)
    return changed
