"""`Authorization: Bearer …`, compared in constant time: how long a refusal takes says nothing about the secret."""

from __future__ import annotations

import hmac


def shows(authorization: str | None, token: str) -> bool:
    """Whether the header's value is this token."""
    scheme, _, shown = (authorization or "").partition(" ")
    same = hmac.compare_digest(shown.strip().encode(errors="surrogateescape"), token.encode())
    return same and scheme.lower() == "bearer"


def header(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"
