"""What can go wrong between us and an upstream. Foreign exceptions are translated here and chained, none gets past `net`."""

from __future__ import annotations


class NetError(Exception):
    """An exchange with an upstream failed; the message says with whom and how."""


class ConnectFailed(NetError):  # noqa: N818  reads as what happened
    """No connection came about, nothing was sent: always safe to try again, here or elsewhere."""


class ConnectionLost(NetError):  # noqa: N818  reads as what happened
    """The upstream was gone before the end of its answer. `before_head`: not even the answer's head had come."""

    def __init__(self, before_head: bool, upstream: object = "the upstream") -> None:  # noqa: FBT001  the one fact it carries
        when = "before it answered" if before_head else "in the middle of its answer"
        super().__init__(f"{upstream} closed the connection {when}")
        self.before_head = before_head


class ProtocolError(NetError):
    """What came is no HTTP/1.1, or a head beyond every reason."""


class IdleTimeout(NetError):  # noqa: N818  reads as what happened
    """Nothing came for `seconds`, neither the head nor another piece of the body."""

    def __init__(self, seconds: float, upstream: object = "the upstream") -> None:
        super().__init__(f"{upstream} sent nothing for {seconds:g} s")
        self.seconds = seconds
