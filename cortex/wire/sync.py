"""How a model's files travel from one neuron to another, through a gateway that keeps nothing.

GET  /models/{id}/files            at the one that has it: `Offer`, or 202 `Hashing` while it reads them for their sha256
GET  /models/{id}/files/{sha256}   a piece of one, as `Range` says, with `Content-Digest`
POST /models/{id}/files            at the one that lacks it: `Receive` → `Receiving`; asked again, it says what it has
PUT  /models/{id}/files/{sha256}   the next piece, by `Content-Range` and `Content-Digest` → `Arrived`

Content is named by its sha256: what has come stays useful, whoever sends the rest. Pieces carry a digest of their own
(RFC 9530), made where they were read and checked where they are written.
"""

from __future__ import annotations

import base64
import hashlib
import re

from pydantic import Field

from cortex.wire.fleet import Job, Wire

SHA256 = r"^[0-9a-f]{64}$"
_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


class ModelFile(Wire):
    """`name` is its place below a `models_dir`, with forward slashes."""

    name: str = Field(min_length=1, max_length=1024)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=SHA256)


class Offer(Wire):
    """A model's files: the parts in order, then its projector. An engine opens the first."""

    model_id: str
    files: tuple[ModelFile, ...] = Field(min_length=1)


class Hashing(Wire):
    """The files are being read; asked again, it will have come further."""

    bytes_done: int
    bytes_total: int


class Receive(Wire):
    """`sender` tells one who sends from another: two at once would only send everything twice."""

    files: tuple[ModelFile, ...] = Field(min_length=1, max_length=1024)
    sender: str = Field(min_length=1, max_length=64)


class Arrived(Wire):
    """How many bytes of a file are there, from its beginning."""

    sha256: str
    have: int


class Receiving(Wire):
    """What is there, and who sends the rest.

    joined       somebody else is sending it just now: follow the job
    piece_bytes  the largest piece that is taken
    """

    job: Job
    files: tuple[Arrived, ...] = ()
    joined: bool = False
    piece_bytes: int = Field(1 << 20, ge=1)


def content_digest(data: bytes) -> str:
    """The value of `Content-Digest`."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def parse_range(header: str | None) -> tuple[int, int] | None:
    """First and last byte of `Range: bytes=0-99`; None for any other form."""
    match = _RANGE.fullmatch(header or "")
    return (int(match[1]), int(match[2])) if match and int(match[1]) <= int(match[2]) else None


def parse_content_range(header: str | None) -> tuple[int, int, int] | None:
    """First and last byte and the whole size of `Content-Range: bytes 0-99/1000`."""
    match = _CONTENT_RANGE.fullmatch(header or "")
    if match is None:
        return None
    first, last, size = (int(number) for number in match.groups())
    return (first, last, size) if first <= last < size else None
