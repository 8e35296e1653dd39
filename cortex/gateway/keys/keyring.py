"""From a request's headers to the principal behind its key."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cortex import errors
from cortex.config.entitlements import EntitlementsSection, KeyEntry
from cortex.gateway.keys.policy import UNLIMITED, Limits
from cortex.wire.principal import Caller

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a key that the configuration knows. A request without one is anonymous."""

    account_id: str
    key_id: str
    limits: Limits = UNLIMITED
    models: tuple[str, ...] = ("*",)
    weight: int = 1
    admin: bool = False

    def may_use(self, *names: str) -> bool:
        """Whether one of a model's names is allowed."""
        return any(fnmatchcase(name, pattern) for pattern in self.models for name in names)

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """What neurons are told, for a fair share of a busy model's places."""
        return Caller(self.account_id, self.key_id, self.weight).headers


_NOBODY: tuple[bytes, Principal | None] = (bytes(32), None)


class Keyring:
    """The keys of one configuration, by SHA-256: no secret is kept, and the time of a look-up tells nothing of one."""

    def __init__(self, entitlements: EntitlementsSection) -> None:
        self.require_auth = entitlements.require_auth
        for entry in entitlements.keys:
            if entry.key:
                log.warning(
                    "entitlements.keys: '%s' has its key in plain text; write sha256 = \"…\" instead, as `printf %%s KEY | sha256sum` tells it",
                    entry.account_id,
                )
        digests = {bytes.fromhex(entry.digest): _principal(entry) for entry in entitlements.keys}
        self._principals = {digest: (digest, principal) for digest, principal in digests.items()}

    def identify(self, headers: Iterable[tuple[str, str]]) -> Principal | None:
        """None is anonymous. Raises 401 where a key is required and none is known, or two keys are two principals."""
        if not self._principals and not self.require_auth:
            return None
        shown = list(_shown(headers))
        known = {principal for secret in shown if (principal := self._find(secret))}
        if len(known) > 1:
            raise errors.unauthorized("Authorization and x-api-key hold the keys of two accounts: send one")
        if not known and self.require_auth:
            told = "the API key is not known here" if shown else "an API key is needed"
            raise errors.unauthorized(f"{told}: send it as Authorization: Bearer … or x-api-key")
        return known.pop() if known else None

    def _find(self, secret: str) -> Principal | None:
        digest = hashlib.sha256(secret.encode(errors="surrogateescape")).digest()
        known, principal = self._principals.get(digest, _NOBODY)
        return principal if hmac.compare_digest(known, digest) else None


def _shown(headers: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in headers:
        match name.lower():
            case "x-api-key":
                yield value.strip()
            case "authorization":
                scheme, _, secret = value.partition(" ")
                if scheme.lower() == "bearer":
                    yield secret.strip()


def _principal(entry: KeyEntry) -> Principal:
    account_id, key_id = entry.name
    return Principal(
        account_id,
        key_id,
        Limits(entry.hard_cap, _window(entry), entry.requests_per_minute, entry.max_in_flight),
        entry.models,
        entry.weight,
        entry.admin,
    )


def _window(entry: KeyEntry) -> float | None:
    """Only with a cap, so that a key without limits is seen to be one."""
    return entry.window.seconds if entry.hard_cap is not None else None
