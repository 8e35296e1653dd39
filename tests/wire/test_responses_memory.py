"""What a Responses request wants of former ones, and what is kept of it."""

import pytest

from cortex.errors import CortexError
from cortex.wire.responses import Kept, from_chat, item_page, to_chat, wishes_of, with_history
from cortex.wire.responses.memory import MOST_SOURCES

FIRST, SECOND = f"resp_{'a' * 32}", f"resp_{'b' * 32}"


def body(given="hi", **more):
    return {"model": "m", "input": given, **more}


def chat(text="Paris"):
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {}}


def kept(given="hi", text="Paris", response_id=FIRST, previous=None, **more):
    """What is kept of a request and its answer."""
    request = body(given, **more)
    whole = with_history(request, wishes_of(request, on=True), response_id, previous, {})
    return Kept(from_chat(chat(text), request=whole, response_id=response_id), whole["input"])


def messages(request, previous=None, items=None):
    whole = with_history(request, wishes_of(request, on=True), SECOND, previous, items or {})
    return [(message["role"], message["content"]) for message in to_chat(whole)["messages"]]


@pytest.mark.parametrize(
    ("change", "field"), [({"previous_response_id": FIRST}, "previous_response_id"), ({"store": True}, "store")]
)
def test_without_a_store_the_setting_is_named(change, field):
    """A request that needs it is refused; one that does not, or says so, is not."""
    with pytest.raises(CortexError) as refused:
        wishes_of(body(**change), on=False)
    assert (refused.value.status, refused.value.param) == (400, field)
    assert "[responses] store = true" in refused.value.message
    for harmless in ({}, {"store": False}, {"store": None, "previous_response_id": None}):
        assert not wishes_of(body(**harmless), on=False).keep


def test_with_a_store_an_answer_is_kept_unless_the_request_says_no():
    """As at OpenAI; and following one does not mean to be kept."""
    assert wishes_of(body(), on=True).keep
    wishes = wishes_of(body(store=False, previous_response_id=FIRST), on=True)
    assert (wishes.keep, wishes.previous) == (False, FIRST)
    for field in ("store", "previous_response_id"):
        with pytest.raises(CortexError, match=field):
            wishes_of(body(**{field: 7}), on=True)


def test_a_request_that_follows_has_everything_before_it():
    """Input and answer of each, oldest first; the instructions of the one before are not its own."""
    first = kept(instructions="Be brief.")
    second = kept("and then?", "Rome", SECOND, first)
    assert messages(body("why?"), second) == [
        ("user", "hi"),
        ("assistant", "Paris"),
        ("user", "and then?"),
        ("assistant", "Rome"),
        ("user", "why?"),
    ]


def test_calls_and_their_results_may_be_in_two_requests():
    """A call that was answered is followed by its output alone, as agents send it."""
    call = {"id": f"fc_{'a' * 32}_0", "type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    before = Kept({"id": FIRST, "output": [call]}, [{"type": "message", "role": "user", "content": "go", "id": "x"}])
    output = {"type": "function_call_output", "call_id": "c1", "output": "18 C"}
    assert messages(body([output]), before) == [("user", "go"), ("assistant", None), ("tool", "18 C")]


def test_items_are_named_by_their_ids():
    """An item of a former response, or of what this one follows; one that nobody knows is named in the error."""
    first = kept()
    said = first.response["output"][0]
    wishes = wishes_of(body([{"type": "item_reference", "id": said["id"]}, {"id": said["id"]}]), on=True)
    assert (wishes.referenced, wishes.sources) == (frozenset({said["id"]}), frozenset({FIRST}))
    reference = {"type": "item_reference", "id": said["id"]}
    own = {"role": "user", "content": "why?"}
    assert messages(body([reference, own]), items={said["id"]: said}) == [("assistant", "Paris"), ("user", "why?")]
    assert messages(body([{"id": first.input[0]["id"]}]), first)[-1] == ("user", "hi")
    with pytest.raises(CortexError) as unknown:
        messages(body([own, {"type": "item_reference", "id": "msg_x"}]))
    assert (unknown.value.status, unknown.value.param) == (400, "input.1")
    assert "msg_x" in unknown.value.message


def test_what_is_not_kept_any_more_is_a_clear_error():
    """In the words and with the code that OpenAI has for it."""
    with pytest.raises(CortexError) as gone:
        messages(body(previous_response_id=FIRST))
    assert (gone.value.status, gone.value.code) == (400, "previous_response_not_found")
    assert FIRST in gone.value.message


def test_kept_input_has_the_shape_of_items():
    """A type and an id each, contents as parts; what a client has named keeps its name."""
    given = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "id": "msg_own"}, {"type": "odd"}]
    first, second, third = kept(given).input
    assert first == {
        "id": f"msg_{'a' * 32}_in0",
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "a"}],
    }
    assert (second["id"], second["content"][0]["type"]) == ("msg_own", "output_text")
    assert third == {"type": "odd", "id": f"item_{'a' * 32}_in2"}
    assert kept("hi").response["store"] is True


@pytest.mark.parametrize(
    "given", [5, {"role": "user"}, ["hi"], [{"content": "hi"}], [{"role": "robot", "content": ""}]]
)
def test_what_is_wrong_is_named_as_without_a_store(given):
    """Input of a wrong shape is a 400 that names its place."""
    with pytest.raises(CortexError) as wrong:
        messages(body(given))
    assert wrong.value.status == 400
    assert wrong.value.param is not None
    assert wrong.value.param.startswith("input")


def test_items_are_listed_in_pages():
    """Newest first unless asked otherwise, behind an id, and with whether there are more."""
    items = [{"id": str(number)} for number in range(25)]
    page = item_page(items, {})
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("24", "5", True)
    rest = item_page(items, {"after": page["last_id"]})
    assert ([item["id"] for item in rest["data"]], rest["has_more"]) == (["4", "3", "2", "1", "0"], False)
    assert [item["id"] for item in item_page(items, {"order": "asc", "limit": "2", "after": "3"})["data"]] == ["4", "5"]
    assert item_page([], {}) == {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}
    for query in (
        {"order": "up"},
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "x"},
        {"limit": "0" * 5000 + "1"},
        {"after": "nobody"},
    ):
        with pytest.raises(CortexError) as wrong:
            item_page(items, query)
        assert wrong.value.param == next(iter(query))


@pytest.mark.parametrize("item_id", [["x"], {"a": 1}, 7])
def test_an_items_id_is_a_string(item_id):
    """It is kept, and looked for by the next request: what cannot be is refused when it comes."""
    with pytest.raises(CortexError, match=r"input\.0\.id: must be a string") as refused:
        kept([{"role": "user", "content": "hi", "id": item_id}])
    assert refused.value.status == 400


def test_a_request_names_items_of_so_many_responses_and_no_more():
    """Each is looked up, and a body has room for a million names."""

    def naming(count):
        return body([{"id": f"msg_{number}_0"} for number in range(count)])

    assert len(wishes_of(naming(MOST_SOURCES), on=True).sources) == MOST_SOURCES
    with pytest.raises(CortexError, match=f"input: .*more than {MOST_SOURCES}") as refused:
        wishes_of(naming(MOST_SOURCES + 1), on=True)
    assert (refused.value.status, refused.value.param) == (400, "input")
