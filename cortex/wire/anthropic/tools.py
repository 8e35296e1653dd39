"""Tool definitions and tool_choice of a Messages request."""

from __future__ import annotations

from typing import Any

from cortex.wire.fields import Value


def tools_of(request: Value) -> dict[str, Any]:
    """`tools`, `tool_choice` and `parallel_tool_calls`, as far as they are given."""
    functions = [_function(tool) for tool in request["tools"] if not _is_builtin(tool)]
    if not functions:  # a choice among tools that were all left out is none
        _check_unused(request["tool_choice"], any_tools=bool(request["tools"].raw))
        return {}
    return {"tools": functions, **_choice(request)}


def _is_builtin(tool: Value) -> bool:
    """A tool that Anthropic's servers run or whose schema only its models know (`web_search_20250305`): it has a type, and no schema."""
    kind = tool["type"]
    return kind.given and kind.text() != "custom" and not tool["input_schema"].given


def _function(tool: Value) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool["name"].name()}
    if tool["description"].given:
        function["description"] = tool["description"].text()
    function["parameters"] = tool["input_schema"].an_object()
    return {"type": "function", "function": function}


def _check_unused(choice: Value, *, any_tools: bool) -> None:
    if choice.given and choice["type"].text() in ("any", "tool") and not any_tools:
        raise choice.refused("no tool can be called: 'tools' is empty")


def _choice(request: Value) -> dict[str, Any]:
    choice = request["tool_choice"]
    if not choice.given:
        return {}
    kind = choice["type"].one_of("auto", "any", "tool", "none")
    parallel = choice["disable_parallel_tool_use"]
    bound = {"parallel_tool_calls": not parallel.flag()} if parallel.given else {}
    if kind == "tool":
        return _named(request, choice["name"]) | bound
    return {"tool_choice": {"any": "required"}.get(kind, kind)} | bound


def _named(request: Value, name: Value) -> dict[str, Any]:
    tools = {tool["name"].name(): tool for tool in request["tools"] if tool["name"].given}
    if name.name() not in tools:
        raise name.wrong(f"one of the request's tools, and '{name.raw}' is not among {sorted(tools)}")
    if _is_builtin(tools[name.raw]):
        return {}
    return {"tool_choice": {"type": "function", "function": {"name": name.raw}}}
