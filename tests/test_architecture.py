"""The house rules of the package, held by its syntax trees."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "cortex").rglob("*.py"))
NATIVE = {
    "xllamacpp": "neuron/harness/llamacpp",
    "pynvml": "neuron/hardware/nvidia",
    "ctransformers": "neuron/harness/ctransformers",
}
# Who may not import whom: neither a package nor anything below it.
FORBIDDEN = {
    "gateway": ("cortex.neuron",),
    "neuron": ("cortex.gateway",),
    "wire": ("asyncio", "sanic", "httpx", "cortex.net", "cortex.gateway", "cortex.neuron", "cortex.web"),
    "gateway/routing": ("asyncio", "sanic", "httpx", "cortex.net.pool", "cortex.web", "logging"),
    "net": ("sanic", "httpx", "cortex.gateway", "cortex.neuron", "cortex.web"),
    "config": ("sanic", "httpx", "cortex.gateway", "cortex.neuron", "cortex.web"),
}


def _imports(module: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _place(module: Path) -> str:
    return module.relative_to(ROOT / "cortex").with_suffix("").as_posix()


@pytest.mark.parametrize("module", MODULES, ids=_place)
def test_imports_respect_the_borders(module):
    """The gateway and the neuron do not know one another, pure packages do no I/O, and a native library has one importer."""
    imports, place = _imports(module), _place(module)
    broken = [
        (package, name)
        for package, forbidden in FORBIDDEN.items()
        if place.startswith(package + "/")
        for name in imports
        if any(name == wrong or name.startswith(wrong + ".") for wrong in forbidden)
    ]
    broken += [
        (owner, name)
        for name, owner in NATIVE.items()
        if name in {each.partition(".")[0] for each in imports} and not place.startswith(owner)
    ]
    assert broken == []


@pytest.mark.parametrize("module", MODULES, ids=_place)
def test_tasks_are_started_in_one_place(module):
    """Nobody but tasks.py starts a task, so that none is lost."""
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert _place(module) == "tasks" or not calls & {"create_task", "ensure_future"}


@pytest.mark.parametrize("module", MODULES, ids=_place)
def test_modules_stay_small(module):
    """At 400 lines there is a second noun to be found."""
    assert len(module.read_text().splitlines()) <= 400
