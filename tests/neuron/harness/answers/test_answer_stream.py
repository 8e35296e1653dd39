"""A streaming client's events: one role before the first token, usage exactly when asked, everything else as it came."""

import asyncio

import orjson
import pytest
from helpers.engines import engine_spec, running_engine, says
from helpers.translated import chunks, deltas, in_pieces, never, recorded, translated

from cortex.errors import CortexError
from cortex.neuron.harness import generation, llamacpp_errors
from cortex.neuron.harness.base import Translation
from cortex.neuron.harness.llamacpp import LlamaCpp

CHAT = "/v1/chat/completions"
ENVELOPE = {"id": "chatcmpl-1", "created": 1, "model": "m", "object": "chat.completion.chunk"}
DONE = b"data: [DONE]\n\n"


def said(*choices, **more) -> bytes:
    return b"data: " + orjson.dumps(ENVELOPE | {"choices": list(choices)} | more) + b"\n\n"


def delta(index=0, finish_reason=None, **fields):
    return {"index": index, "delta": fields, "finish_reason": finish_reason}


ROLE = delta(role="assistant", content=None)
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}


def progress(processed, total=200):
    return said(ROLE, prompt_progress={"total": total, "cache": 0, "processed": processed, "time_ms": 1})


def answer(fail=never, **body) -> Translation:
    translation = generation.chat(says("hi", **body), fail).translation
    assert translation
    return translation


def stream(**body) -> Translation:
    return answer(stream=True, **body)


SHORT = [progress(64), progress(200), said(ROLE), said(delta(content="Hi")), said(delta(content=" you"))]
ENDED = [*SHORT, said(delta(finish_reason="stop"), timings={"n": 1}), DONE]


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_one_role_comes_first_and_everything_else_as_it_came(size):
    """The engine's three role chunks become one, however its bytes were cut; after the first token they pass verbatim."""
    got = in_pieces(stream(), b"".join(ENDED), size=size)
    opening, _, rest = got.partition(b"\n\n")
    assert orjson.loads(opening[6:])["choices"] == [delta(role="assistant", content="")]
    assert rest.replace(b":\n\n", b"") == b"".join(ENDED[3:])


def test_a_prefill_shows_life_as_comments():
    """A client sees nothing of the progress but that there is some: the role at its first sign, then comments."""
    translation = stream()
    opened = translation.push(progress(64))
    assert b'"role":"assistant"' in opened
    assert opened.endswith(b"\n\n:\n\n")
    assert translation.push(progress(128)) == b":\n\n"
    assert translation.push(progress(200)) == b""
    assert translation.push(b":\n\n") == b":\n\n"
    assert not translation.begun
    assert translation.push(said(delta(content="Hi"))) == said(delta(content="Hi"))
    assert translation.begun


@pytest.mark.parametrize(
    ("options", "asked"), [(None, 0), ({}, 0), ({"include_usage": False}, 0), ({"include_usage": True}, 1)]
)
def test_usage_comes_exactly_when_it_was_asked_for(options, asked):
    """Also from an engine that tells it unasked."""
    engine = b"".join([*ENDED[:-1], said(usage=USAGE), DONE])
    got = chunks(in_pieces(stream(stream_options=options), engine, size=300))
    assert [chunk["usage"] for chunk in got if "usage" in chunk] == [USAGE] * asked
    assert [chunk["choices"] for chunk in got if "usage" in chunk] == [[]] * asked


def test_what_a_model_writes_never_looks_like_a_field():
    """Text that spells the engine's own keys passes verbatim."""
    text = said(delta(content='"usage": "error": {"error":1} error: "role":"assistant"\nerror: x'))
    translation = stream()
    translation.push(progress(200) + said(delta(content="x")))
    assert translation.push(text) == text
    assert translation.failure is None


def test_several_choices_have_a_role_each_and_one_usage():
    """n = 2: both are opened before any token, and the usage chunk after the last one's end counts both."""
    engine = b"".join(
        [
            progress(200),
            said(delta(1, role="assistant", content=None)),
            said(delta(1, content="b")),
            said(ROLE),
            said(delta(0, content="a")),
            said(delta(1, "stop")),
            said(usage=USAGE),
            said(delta(0, "stop")),
            said(usage=USAGE),
            DONE,
        ]
    )
    got = chunks(in_pieces(stream(n=2, stream_options={"include_usage": True}), engine, size=90))
    assert [chunk["choices"][0]["index"] for chunk in got[:3]] == [0, 1, 1]
    assert [bool(each.get("role")) for chunk in got for each in (c["delta"] for c in chunk["choices"])].count(True) == 2
    assert [chunk["usage"]["completion_tokens"] for chunk in got if "usage" in chunk] == [4]
    assert "usage" in got[-1]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error":{"code":500,"message":"Compute error.","type":"server_error"}}\n\n',
        b'error: {"code":500,"message":"Compute error.","type":"server_error"}\n\n',
        b'data: {"error":"Compute error."}\n\n',
    ],
)
def test_an_engine_s_error_ends_the_answer(event, streamed, begun):
    """Before the first token and in mid-answer: what came before still arrives, then there is a failure with our code."""
    translation = answer(llamacpp_errors.error_of, stream=streamed)
    if begun:
        translation.push(b"".join(SHORT))
    got = translation.push(said(delta(content="last")) + event)
    assert (b"last" in got) == streamed
    assert translation.failure
    assert (translation.failure.status, translation.failure.code) == (502, "engine_failed")
    assert "Compute error." in translation.failure.message
    with pytest.raises(CortexError, match=r"Compute error\."):
        translation.end()


@pytest.mark.parametrize("event", [b"data: {nonsense\n\n", b"data: 5\n\n"])
def test_what_is_no_chunk_is_an_error(event):
    """An engine that talks nonsense has failed."""
    translation = stream()
    translation.push(event)
    assert translation.failure
    assert (translation.failure.status, translation.failure.code) == (502, "engine_failed")


@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_that_just_ends_is_not_whole(streamed):
    """Without its end mark, or without an end of each choice, it is an error and no short answer."""
    translation = answer(stream=streamed)
    translation.push(b"".join(SHORT))
    with pytest.raises(CortexError, match="before it was whole"):
        translation.end()


@pytest.mark.model
def test_a_first_token_of_half_a_character(scripted_model, tmp_path):
    """The role is there although the engine has nothing to say with its first token, and the character arrives whole."""

    async def scenario():
        spec = engine_spec(scripted_model, tmp_path)
        async with running_engine(spec) as engine:
            body = says("[[emoji]]", stream=True, grammar='root ::= "😀" " end"')
            first, *rest = deltas(await translated(engine, CHAT, body, spec))
            assert first == {"role": "assistant", "content": ""}
            assert "".join(each.get("content", "") for each in rest) == "😀 end"

    asyncio.run(scenario())


@pytest.mark.model
def test_log_probabilities_beside_tools(scripted_model, tmp_path):
    """A stream with tools may have them, though llama.cpp refuses that; `top_logprobs` counts, also when it is 0 or left out."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}

    async def scenario():
        spec = engine_spec(scripted_model, tmp_path)
        async with running_engine(spec) as engine:
            for top, expected in ((None, 0), (0, 0), (2, 2)):
                body = says("[[text]]", stream=True, tools=[tool], logprobs=True, top_logprobs=top, max_tokens=3)
                got = chunks(await translated(engine, CHAT, body, spec))
                tokens = [
                    token for chunk in got for token in (chunk["choices"][0].get("logprobs") or {}).get("content", ())
                ]
                assert [token["token"] for token in tokens] == ["Hello", " from", " the"]
                assert {len(token["top_logprobs"]) for token in tokens} == {expected}

    asyncio.run(scenario())


@pytest.mark.model
def test_slots_that_fill_their_shared_context_say_so(scripted_model, tmp_path):
    """The engine's own error in mid-stream, of four answers at once: the client may try again."""

    async def scenario():
        spec = engine_spec(scripted_model, tmp_path, parallel=4, context=256)
        async with running_engine(spec) as engine:
            asked = LlamaCpp().prepare(CHAT, says("[[loop]]", stream=True, max_tokens=200, n=4), spec)
            said = await recorded(engine, CHAT, asked)
            assert asked.translation
            with pytest.raises(CortexError) as failed:
                in_pieces(asked.translation, said, size=1000)
            assert (failed.value.status, failed.value.code) == (503, "service_unavailable")

    asyncio.run(scenario())
