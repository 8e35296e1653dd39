"""Ids that Anthropic's clients accept. A tool call's id comes back in the next request, so its translation has an inverse."""

from __future__ import annotations

import binascii
import re
import uuid

_PREFIX = "toolu_"
_SPELLED = (
    _PREFIX + "x_"
)  # the engine's id in hex: it has characters that clients refuse, or would be taken for such a one
_PLAIN = re.compile(r"(?!x_)[A-Za-z0-9_-]+")


def new_message_id() -> str:
    return "msg_" + uuid.uuid4().hex


def tool_use_id(engine_id: str) -> str:
    """An engine's id of a tool call (`""`: it gave none) for the client."""
    if not engine_id:
        return _PREFIX + uuid.uuid4().hex
    if _PLAIN.fullmatch(engine_id):
        return _PREFIX + engine_id
    return _SPELLED + engine_id.encode().hex()


def engine_id(tool_use_id: str) -> str:
    """The engine's id again; an id that another server made stays as it is."""
    if tool_use_id.startswith(_SPELLED):
        try:
            return binascii.unhexlify(tool_use_id.removeprefix(_SPELLED)).decode()
        except ValueError:  # another server's
            return tool_use_id
    return tool_use_id.removeprefix(_PREFIX)
