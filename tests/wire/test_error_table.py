"""The table of errors has every code that the package can send, with the status that it is sent with."""

import ast
from pathlib import Path

from cortex import errors
from cortex.wire.error_table import ROWS

SOURCES = sorted((Path(__file__).resolve().parent.parent.parent / "cortex").rglob("*.py"))
STATUS_OF = {"invalid_request": 400, "refused": 400, "unavailable": 503, "upstream_failed": 502}


def _constants(trees):
    """Names in upper case, of all modules."""
    return {
        target.id: node.value.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _sent():
    """(code, status) of every error that is made with a code that is written there."""
    yield from {(errors.unavailable("").code, 503), (errors.upstream_failed("").code, 502)}
    trees = [ast.parse(path.read_text()) for path in SOURCES]
    named = _constants(trees)
    for call in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)):
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        code = given.get("code")
        code = named.get(code.id) if isinstance(code, ast.Name) else getattr(code, "value", None)
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        status = getattr(given.get("status"), "value", None) or STATUS_OF.get(name)
        if isinstance(code, str) and isinstance(status, int):
            yield code, status


def test_every_code_that_is_sent_has_a_row():
    """The table has the codes that are sent, and no other. Where one goes with two statuses, it has one of them."""
    sent: dict[str, set[int]] = {}
    for code, status in _sent():
        sent.setdefault(code, set()).add(status)
    assert sent.keys() - ROWS.keys() == set(), "cortex/wire/error_table.py wants a row for each"
    assert {code for code, row in ROWS.items() if row.status not in sent.get(code, ())} == set()
