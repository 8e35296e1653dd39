"""A value that knows its place: what is wrong is named where it stands."""

import pytest

from cortex.errors import CortexError
from cortex.wire.fields import Value

BODY = Value({"a": [{"b": 5, "s": "", "f": True}], "n": None})


def test_places():
    """Fields and elements are named from the root, and null is the same as absent."""
    (element,) = BODY["a"]
    assert (element["b"].raw, element["b"].where) == (5, "a.0.b")
    assert [BODY["n"].given, BODY["x"].given, list(BODY["n"])] == [False, False, []]


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda e: e["b"].text(), "a.0.b: must be a string"),
        (lambda e: e["b"]["c"], "a.0.b: must be an object"),
        (lambda e: list(e["b"]), "a.0.b: must be an array"),
        (lambda e: e["s"].name(), "a.0.s: must be a string that is not empty"),
        (lambda e: e["b"].integer(6), "a.0.b: must be an integer of at least 6"),
        (lambda e: e["f"].integer(0), "a.0.f: must be an integer of at least 0"),
        (lambda e: e["f"].number(), "a.0.f: must be a number"),
        (lambda e: e["b"].flag(), "a.0.b: must be true or false"),
        (lambda e: e["b"].one_of("x", "y"), 'a.0.b: must be "x" or "y"'),
        (lambda e: e["z"].text(), "a.0.z: field required: it must be a string"),
        (lambda _: Value([]).an_object(), "the request body: must be an object"),
    ],
)
def test_what_is_wrong(read, message):
    """Every reader refuses what it cannot read with the place and what would be right."""
    (element,) = BODY["a"]
    with pytest.raises(CortexError) as caught:
        read(element)
    assert (caught.value.status, caught.value.message) == (400, message)
