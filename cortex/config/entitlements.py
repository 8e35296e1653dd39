"""`[entitlements]` of cortex.toml: whose requests are served, and how much each key may take (upstream-facts B.1).

[entitlements]
require_auth = true

[[entitlements.keys]]
sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
account_id = "alice"
hard_cap = 1000000
window = { kind = "rolling", seconds = 86400 }

`cortex key new alice` prints the secret and these lines.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, model_validator

from cortex.config.loader import Section
from cortex.wire.principal import MAX_WEIGHT

POSTGRES_SCHEMES = ("postgresql://", "postgres://")

Name = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]  # travels in a header, and is a label of metrics
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$"), AfterValidator(str.lower)]


class Window(Section):
    """What `hard_cap` is about: all tokens ever (`balance`), or those of `seconds` from the first request on (`rolling`)."""

    kind: Literal["balance", "rolling"] = "balance"
    seconds: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.kind == "rolling") != (self.seconds is not None):
            raise ValueError("a rolling window has seconds, a balance has none")
        return self


class KeyEntry(Section):
    """One `[[entitlements.keys]]` entry; the secret as its SHA-256, or as the first generation's `key` in plain text.

    key_id               default: account_id; entries that share both are one key with several secrets, and one budget
    hard_cap             tokens of prompt and answer in `window`
    models               names that may be asked for; `*` stands for any letters
    weight               places at a busy model, in proportion to other keys' weights
    admin                may load, unload and drain by hand while `require_auth` is true
    """

    key: SecretStr | None = Field(None, min_length=1)
    sha256: Sha256 | None = None
    account_id: Name
    key_id: Name | None = None
    hard_cap: int | None = Field(None, ge=0)
    window: Window = Window()
    models: tuple[str, ...] = Field(("*",), min_length=1)
    requests_per_minute: int | None = Field(None, ge=1)
    max_in_flight: int | None = Field(None, ge=1)
    weight: int = Field(1, ge=1, le=MAX_WEIGHT)
    admin: bool = False

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.key is None) == (self.sha256 is None):
            raise ValueError("a key has either sha256 or key: `cortex key new NAME` makes one")
        return self

    @property
    def name(self) -> tuple[str, str]:
        """Account and key."""
        return self.account_id, self.key_id or self.account_id

    @property
    def digest(self) -> str:
        """SHA-256 of the secret, in hexadecimal."""
        return self.sha256 or hashlib.sha256(self.key.get_secret_value().encode() if self.key else b"").hexdigest()

    @property
    def is_limited(self) -> bool:
        """Whether somebody has to keep count."""
        return (self.hard_cap, self.requests_per_minute, self.max_in_flight) != (None, None, None)


def _database(database: SecretStr, info: ValidationInfo) -> SecretStr:
    """The value may hold a password and is not told in the error."""
    text = database.get_secret_value()
    if text.startswith(POSTGRES_SCHEMES):
        return database
    if not text or "://" in text:
        raise ValueError("give postgresql://user:password@host/database, or the path of a SQLite file")
    folder = info.context.get("folder") if info.context else None
    return SecretStr(str(folder / text)) if folder else database


class EntitlementsSection(Section):
    """The whole table. Without keys everybody is anonymous, and nothing is counted.

    database              the ledger: a file, or postgresql://… that several gateways share; default: in the state directory
    reservation_ttl_secs  after so long without a sign of its gateway, an open reservation is settled in full
    """

    require_auth: bool = False
    keys: tuple[KeyEntry, ...] = ()
    database: Annotated[SecretStr, AfterValidator(_database)] | None = None
    reservation_ttl_secs: float = Field(120.0, gt=0)

    @model_validator(mode="after")
    def _keys_differ(self) -> Self:
        secrets: set[str] = set()
        limits: dict[tuple[str, str], KeyEntry] = {}
        for entry in self.keys:
            if entry.digest in secrets:
                raise ValueError(f"keys: the secret of '{entry.account_id}' is there twice")
            secrets.add(entry.digest)
            plain = entry.model_copy(update={"key": None, "sha256": None, "key_id": entry.name[1]})
            if limits.setdefault(entry.name, plain) != plain:
                raise ValueError(f"keys: '{entry.account_id}' has two keys with one key_id and different limits")
        return self
