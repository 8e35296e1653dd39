"""`tool_choice: {"type": "allowed_tools", …}`: of a request's tools only some may be called. An engine is shown those alone. Pure."""

from __future__ import annotations

from typing import Any

from cortex.neuron.harness.requests import wrong

Json = dict[str, Any]
_MODES = ("auto", "required")
_SHAPE = 'with {"mode": "auto" or "required", "tools": [{"type": "function", "function": {"name": …}}, …]} in \'allowed_tools\''


def narrowed(body: Json) -> Json:
    """The request with the allowed tools and their mode; itself where it allows all. Raises CortexError 400."""
    choice = body.get("tool_choice")
    if not isinstance(choice, dict) or choice.get("type") != "allowed_tools":
        return body
    names, mode = _allowed(choice.get("allowed_tools"))
    given = body.get("tools")
    tools = [tool for tool in (given if isinstance(given, list) else ()) if _name(tool) in names]
    if unknown := names - {_name(tool) for tool in tools}:
        raise wrong("tool_choice", f"among the request's tools, and {sorted(map(str, unknown))} are not")
    rest = {field: value for field, value in body.items() if field not in ("tools", "tool_choice")}
    return rest | {"tools": tools, "tool_choice": mode} if tools else rest


def _allowed(allowed: Any) -> tuple[frozenset[str], str]:
    tools, mode = (allowed.get("tools"), allowed.get("mode")) if isinstance(allowed, dict) else (None, None)
    names = [_name(tool) for tool in tools] if isinstance(tools, list) else [None]
    if mode not in _MODES or None in names or (mode == "required" and not names):
        raise wrong("tool_choice", _SHAPE)
    return frozenset(name for name in names if name), str(mode)


def _name(tool: Any) -> str | None:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) and name else None
