"""Functions of a Responses request. A namespace's members get names of their own, which answers map back.

`{"type": "namespace", "name": "crm", "tools": [{"type": "function", "name": "find", …}]}` is for the model a function
`crm__find`; its call is told as `{"namespace": "crm", "name": "find"}`. A namespace that ends in `__` needs no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cortex.wire.fields import Value

_CHOICES = ("auto", "none", "required")


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the request: `name` is what the model sees."""

    name: str
    namespace: Value | None
    tool: Value

    def rendered(self) -> dict[str, Any]:
        function: dict[str, Any] = {"name": self.name}
        if description := self._description():
            function["description"] = description
        if self.tool["parameters"].given:
            function["parameters"] = self.tool["parameters"].an_object()
        if self.tool["strict"].given:
            function["strict"] = self.tool["strict"].flag()
        return {"type": "function", "function": function}

    def _description(self) -> str:
        """The namespace's says what its members have in common."""
        owners = [self.namespace, self.tool] if self.namespace else [self.tool]
        return "\n\n".join(each["description"].text() for each in owners if each["description"].raw)


def functions_of(request: Value) -> list[Function]:
    """All functions; hosted and custom tools are left out."""
    return [function for tool in request["tools"] for function in _functions(tool)]


def _functions(tool: Value) -> Iterator[Function]:
    kind = tool["type"].text()
    if kind == "function":
        yield Function(tool["name"].name(), None, tool)
    elif kind == "namespace":
        for member in tool["tools"]:
            if member["type"].text() == "function":
                yield Function(qualified(tool["name"].name(), member["name"].name()), tool, member)


def qualified(namespace: str, name: str) -> str:
    return f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"


def seen_name(place: Value) -> str:
    """The name that the model sees of what `place` (a call, a choice) names."""
    name = place["name"].name()
    return qualified(place["namespace"].name(), name) if place["namespace"].raw else name


def names_by_function(request: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """What the model sees → how the client named it, for members of namespaces."""
    return {
        function.name: {"namespace": function.namespace["name"].name(), "name": function.tool["name"].name()}
        for function in functions_of(Value(request))
        if function.namespace
    }


# ---- the choice


def tools_of(request: Value) -> dict[str, Any]:
    """`tools`, `tool_choice` and `parallel_tool_calls`, as far as they are given."""
    functions = functions_of(request)
    choice, parallel = request["tool_choice"], request["parallel_tool_calls"]
    if isinstance(choice.raw, dict) and choice.raw.get("type") == "allowed_tools":
        allowed = {seen_name(tool) for tool in choice["tools"] if tool["type"].text() == "function"}
        functions = [function for function in functions if function.name in allowed]
        choice = choice["mode"]
    bound = {"parallel_tool_calls": parallel.flag()} if parallel.given else {}
    if not functions:
        _check_unused(choice, request)
        return {}
    return {"tools": [function.rendered() for function in functions], **_choice(choice, functions, request)} | bound


def _check_unused(choice: Value, request: Value) -> None:
    """Hosted tools are left out, and a choice among them is none."""
    if not choice.given or isinstance(choice.raw, dict):
        return
    if choice.one_of(*_CHOICES) == "required" and not request["tools"].raw:
        raise choice.refused("no tool can be called: 'tools' is empty")


def _choice(choice: Value, functions: list[Function], request: Value) -> dict[str, Any]:
    if not choice.given:
        return {}
    if not isinstance(choice.raw, dict):
        return {"tool_choice": choice.one_of(*_CHOICES)}
    if choice["type"].text() != "function":  # a hosted or custom tool, which was left out
        return {}
    name = seen_name(choice)
    known = sorted(function.name for function in functions)
    if name not in known:
        if any(tool["type"].text() == "custom" and tool["name"].raw == name for tool in request["tools"]):
            return {}
        raise choice["name"].wrong(f"one of the request's functions, and '{name}' is not among {known}")
    return {"tool_choice": {"type": "function", "function": {"name": name}}}
