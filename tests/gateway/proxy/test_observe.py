"""What an answer says in passing: first token, usage, speed."""

import orjson
import pytest
from helpers.fake_neuron import CHAT_ANSWER, STREAM_EVENTS, USAGE_EVENT, chunk
from hypothesis import given
from hypothesis import strategies as st

from cortex.gateway.proxy.observe import TAIL_BYTES, Observation, Usage, usage_in


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self):
        return self.now


def observed(*pieces, stream=True, every_s=1.0):
    clock = Clock()
    observation = Observation(stream=stream, began=clock.now, clock=clock)
    for piece in pieces:
        clock.now += every_s
        observation.piece(piece)
    clock.now += every_s
    return observation.end()


@pytest.mark.parametrize(
    ("event", "is_token"),
    [
        (chunk({"role": "assistant", "content": None}), False),
        (chunk({"role": "assistant", "content": ""}), False),
        (chunk({"content": "a"}), True),
        (chunk({"content": '"'}), True),
        (chunk({"reasoning_content": "hm"}), True),
        (chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}), True),
        (chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}), True),
        (b'data: {"choices": [{"text": "a", "index": 0}]}\n\n', True),
        (b'data: {"choices": [{"delta" : {"content" : "spaced"}}]}\n\n', True),
        (chunk({}, "stop"), False),
        (USAGE_EVENT, False),
        (b"data: [DONE]\n\n", False),
        (b": loading org/m\n\n", False),
    ],
)
def test_a_token_is_what_a_reader_would_see(event, is_token):
    """Content, reasoning, text and tool calls count; roles, ends, usage and comments do not."""
    assert (observed(event).first_token_s is not None) == is_token


def test_a_stream_is_summed_up():
    """First token after two pieces, three tokens by usage over the second between first and last."""
    totals = observed(*STREAM_EVENTS)
    assert totals.first_token_s == 2
    assert (totals.prompt_tokens, totals.completion_tokens, totals.cached_tokens) == (7, 3, 2)
    assert totals.tokens_per_second == 3
    assert totals.finish_reason == "stop"
    assert totals.seconds == len(STREAM_EVENTS) + 1


def test_without_usage_the_events_are_counted():
    """A stream that was left before its usage is accounted by what was seen."""
    totals = observed(*STREAM_EVENTS[:3])
    assert (totals.prompt_tokens, totals.completion_tokens) == (0, 2)


def test_several_events_in_one_piece_are_several_tokens():
    """How the network groups events changes no count."""
    assert observed(b"".join(STREAM_EVENTS[:4])).completion_tokens == 2


def test_a_short_decode_window_says_nothing_about_speed():
    """All tokens at once: the whole duration is taken."""
    totals = observed(*STREAM_EVENTS, every_s=0.05)
    assert totals.tokens_per_second == pytest.approx(3 / 0.35)


def test_an_answer_that_is_no_stream_tells_its_usage():
    """Usage from the body; there is no first token to be seen."""
    totals = observed(CHAT_ANSWER, stream=False)
    assert (totals.prompt_tokens, totals.completion_tokens, totals.first_token_s) == (10, 5, None)
    assert totals.finish_reason == "stop"


def test_the_usage_of_a_long_answer_is_found_in_its_tail():
    """Embeddings of megabytes are kept by their last 64 KiB only, however they are cut."""
    body = b'{"data":[' + b"0.125," * 300_000 + b'0],"usage":{"prompt_tokens":9,"total_tokens":9}}'
    for size in (1000, TAIL_BYTES, len(body)):
        clock = Clock()
        observation = Observation(stream=False, began=clock.now, clock=clock)
        for start in range(0, len(body), size):
            observation.piece(body[start : start + size])
            assert len(observation._tail) <= 2 * TAIL_BYTES
        assert observation.end().prompt_tokens == 9


def test_what_a_model_writes_is_no_usage():
    """A model that writes JSON about usage cannot change what is counted."""
    said = '{"usage": {"prompt_tokens": 999999}, "content": "x"}'
    totals = observed(chunk({"content": said}), chunk({"content": "\\" + said}), USAGE_EVENT)
    assert totals.prompt_tokens == 7
    assert observed(chunk({"content": said})).prompt_tokens == 0


@pytest.mark.parametrize("data", [b'"usage": null', b'"usage": {', b'"usage": {"prompt_tokens": "7"}', b"usage"])
def test_a_usage_that_tells_nothing_is_no_error(data):
    """Null, cut and mistyped usage leave the counts unknown."""
    assert usage_in(data) in (None, Usage())


def test_the_last_usage_counts():
    """Some engines send a running one with each event."""
    running = b"".join(
        b"data: " + orjson.dumps({"usage": {"prompt_tokens": 7, "completion_tokens": n}}) + b"\n\n" for n in (1, 2, 3)
    )
    assert usage_in(running) == Usage(prompt_tokens=7, completion_tokens=3)


def test_timings_stand_in_for_a_usage_that_was_not_asked_for():
    """llama.cpp's last event counts the tokens; a usage, where there is one, is believed first."""
    timings = b'data: {"choices":[],"timings":{"cache_n":4,"prompt_n":10,"prompt_ms":0.8,"predicted_n":5,"predicted_ms":1.0}}\n\n'
    totals = observed(STREAM_EVENTS[1], timings)
    assert (totals.prompt_tokens, totals.completion_tokens, totals.cached_tokens) == (14, 5, 4)
    assert observed(timings, USAGE_EVENT, timings).prompt_tokens == 7


ROLE = {"role": "assistant", "content": ""}
TOOL = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]}
KINDS = {  # (event, tokens)
    "role": (chunk(ROLE), 0),
    "token": (chunk({"content": "a"}), 1),
    "quoting": (chunk({"content": 'data: {"content":"'}), 1),
    "empty": (chunk({"content": ""}), 0),
    "thought": (chunk({"reasoning_content": "hm"}), 1),
    "tool": (chunk(TOOL), 2),
    "end": (chunk({}, "stop"), 0),
    "usage": (USAGE_EVENT, 0),
    "comment": (b": still here\n\n", 0),
    "error": (b'data: {"error": {"message": "gone"}}\n\n', 0),
}


@given(st.lists(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=5), max_size=12), st.booleans())
def test_events_are_counted_one_by_one_whatever_came_before_them(pieces, spaced):
    """That most events of a stream look alike makes it quick, and changes no count, end or failure."""
    clock = Clock()
    observation = Observation(stream=True, began=clock.now, clock=clock)
    for kinds in pieces:
        data = b"".join(KINDS[kind][0] for kind in kinds)
        observation.piece(data.replace(b'":', b'": ') if spaced else data)
    seen = [kind for kinds in pieces for kind in kinds]
    assert observation.token_events == sum(KINDS[kind][1] for kind in seen)
    assert observation.failed == ("error" in seen)
    assert observation.finish_reason == ("stop" if "end" in seen else None)
    assert (observation.usage is not None) == ("usage" in seen)
