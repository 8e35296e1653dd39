"""What can be decided about a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cortex.errors import CortexError
from cortex.net.address import Address
from cortex.wire.fleet import LoadRequest

Source = Literal["neuron", "measured", "catalogue", "estimate"]  # where a figure of memory comes from, the surest first


@dataclass(frozen=True, slots=True)
class Victim:
    """A model that leaves to make room. `last_used` is the neuron's word, by which it will judge whether it still holds."""

    model_id: str
    memory_mb: int | None
    last_used: float | None
    priority: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A neuron that may load a model: what to ask it for, who leaves first, and the numbers (MiB) behind it.

    has_file   it need not be fetched
    sync_from  the neuron whose file is to be copied there first
    need_mb    None: nobody knows, and the neuron will tell
    free_mb    on the devices it would use, before anybody leaves
    size_mb    of the file; 0: not told
    """

    node: str
    request: LoadRequest
    victims: tuple[Victim, ...] = ()
    has_file: bool = True
    sync_from: str | None = None
    need_mb: int | None = None
    need_from: Source | None = None
    free_mb: int | None = None
    size_mb: int = 0


@dataclass(frozen=True, slots=True)
class Serve:
    """The model is loaded there: send the request."""

    node: str
    address: Address
    model_id: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The model is on its way there, by this job if it has one."""

    node: str
    job_id: str | None
    model_id: str


@dataclass(frozen=True, slots=True)
class Place:
    """The model is loaded nowhere: load it on the first of these that takes it."""

    candidates: tuple[Candidate, ...]
    model_id: str


@dataclass(frozen=True, slots=True)
class Queue:
    """Busy models have its place: it waits for its turn, or hears `error`.

    node, blocking  where it would go, and whom it waits for; a loaded model that gives way to another waits for nobody
    """

    error: CortexError
    model_id: str
    node: str | None = None
    blocking: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reject:
    """It cannot be served, now or ever: the error says which.

    node  whose word this rests on. It may be old, or told while a model came or went: worth a look before a client hears it
    """

    error: CortexError
    node: str | None = None


Decision = Serve | Wait | Place | Queue | Reject
