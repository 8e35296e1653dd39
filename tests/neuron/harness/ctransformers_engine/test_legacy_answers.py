"""From logits to text: what the sampling parameters mean, how text grows."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex.errors import CortexError
from cortex.neuron.harness.ctransformers_engine.answers import Counts, Piece, Shape, TokenLogprob
from cortex.neuron.harness.ctransformers_engine.asked import asked
from cortex.neuron.harness.ctransformers_engine.sampling import Sampler, Sampling, log_softmax
from cortex.neuron.harness.ctransformers_engine.text import AnswerText

LOGITS = np.array([2.0, 1.0, 0.0, -1.0, -5.0], np.float32)


def tokens(asked: Sampling, count: int = 400, prompt: tuple[int, ...] = ()) -> Counter[int]:
    """What is drawn from the same logits again and again, each time by a fresh sampler."""
    return Counter(Sampler(asked, prompt, index).choose(LOGITS).token for index in range(count))


def test_temperature_zero_takes_the_most_likely() -> None:
    """Whatever else was asked."""
    assert tokens(Sampling(temperature=0, top_p=0.1, top_k=3, seed=1)) == {0: 400}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 1e-7])
def test_a_temperature_too_small_to_divide_by_is_zero(temperature: float) -> None:
    """It takes the most likely token, and overflows nothing."""
    assert tokens(Sampling(temperature=temperature, seed=1), 20) == {0: 20}


def test_frequencies_follow_the_distribution() -> None:
    """At temperature 1 without bounds: within three standard deviations of what the logits say."""
    count = 4000
    drawn = tokens(Sampling(seed=3), count)
    for token, likely in enumerate(np.exp(log_softmax(LOGITS.astype(np.float64)))):
        assert abs(drawn[token] - count * likely) <= 3 * (count * likely * (1 - likely)) ** 0.5 + 1


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (Sampling(top_k=1, seed=1), {0}),
        (Sampling(top_k=2, seed=1), {0, 1}),
        (Sampling(top_k=1000, seed=1), {0, 1, 2, 3, 4}),
        (Sampling(top_p=0.0, seed=1), {0}),
        (Sampling(top_p=0.5, seed=1), {0}),
        (Sampling(top_p=0.7, seed=1), {0, 1}),
        (Sampling(min_p=0.2, seed=1), {0, 1}),
        (Sampling(min_p=1.0, seed=1), {0}),
        (Sampling(logit_bias={4: 100.0}, seed=1), {4}),
        (Sampling(logit_bias={0: -100.0, 1: -100.0}, top_k=1, seed=1), {2}),
    ],
    ids=str,
)
def test_bounds_leave_exactly_these_tokens(asked: Sampling, allowed: set[int]) -> None:
    """top_k counts, top_p sums up, min_p compares with the best, a bias adds."""
    assert set(tokens(asked, 600)) <= allowed
    assert set(tokens(asked, 600)) >= allowed - {4, 3}


def test_penalties_are_openai_s() -> None:
    """Presence once, frequency each time, both over what was sampled; repetition divides what stands in the context."""
    frequent = Sampler(Sampling(temperature=0, frequency_penalty=0.6), ())
    assert [frequent.choose(LOGITS).token for _ in range(4)] == [0, 0, 1, 0]
    present = Sampler(Sampling(temperature=0, presence_penalty=1.5), ())
    assert [present.choose(LOGITS).token for _ in range(3)] == [0, 1, 0]
    assert Sampler(Sampling(temperature=0, repetition_penalty=3.0), (0,)).choose(LOGITS).token == 1
    assert Sampler(Sampling(temperature=0, frequency_penalty=2.0), (0, 0, 0)).choose(LOGITS).token == 0


def test_a_seed_gives_each_token_a_number_of_its_own() -> None:
    """The same sequence each time, not the same draw for every token."""
    even = np.zeros(50, np.float32)

    def sequence(seed: int, index: int = 0) -> list[int]:
        sampler = Sampler(Sampling(seed=seed), (), index)
        return [sampler.choose(even).token for _ in range(20)]

    assert sequence(5) == sequence(5)
    assert len({tuple(sequence(5)), tuple(sequence(6)), tuple(sequence(5, 1)), tuple(sequence(-1))}) == 4
    assert len(set(sequence(5))) > 10


def test_log_probabilities_are_of_the_model_s_own_distribution() -> None:
    """Before temperature, penalties and bias."""
    choice = Sampler(Sampling(temperature=0, logit_bias={2: 50.0}, logprobs=2), ()).choose(LOGITS)
    assert choice.token == 2
    assert choice.logprob == pytest.approx(log_softmax(LOGITS.astype(np.float64))[2])
    assert [token for token, _ in choice.top] == [0, 1]


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ({"3": 5, " 4": 1}, None),
        ({"3": 5, "1_0": 1}, None),
        ({"\u0663": 1}, None),
        ({"1.0": 1}, None),
        ({"word": 1}, None),
        ({"50": 1}, None),
        ({"-1": 1}, None),
        ({"9" * 5000: 1}, None),
        ({"3": 5, "4": -100}, {3: 5.0, 4: -100.0}),
        ([[3, 5], [4, False]], {3: 5.0, 4: -1000.0}),
        ({"3": False, "4": 10**300}, {3: -1000.0, 4: 1000.0}),
    ],
)
def test_a_bias_names_tokens_by_their_numbers(given: Any, means: dict[int, float] | None) -> None:
    """Digits and nothing else, all of the vocabulary; `false` is never."""
    if means is not None:
        assert asked({"logit_bias": given}, vocab_size=50, chat=True).sampling.logit_bias == means
        return
    with pytest.raises(CortexError) as caught:
        asked({"logit_bias": given}, vocab_size=50, chat=True)
    assert (caught.value.status, caught.value.param) == (400, "logit_bias")


# ---- forms


def test_log_probabilities_have_openai_s_forms() -> None:
    """The chosen token is among a completion's alternatives; what tells no token tells no log probabilities."""
    token = TokenLogprob(7, b" a", -3.0, ((8, b" b", -1.0), (9, b" b", -2.0)), 0)
    pieces = [Piece(0, " a", (token,)), Piece(0, "", (), "stop")]
    chat, text = Shape("m", chat=True), Shape("m", chat=False)
    (choice,) = text.whole([pieces], Counts())["choices"]
    assert choice["logprobs"]["top_logprobs"] == [{" a": -3.0, " b": -1.0}]
    (choice,) = chat.whole([pieces], Counts())["choices"]
    assert choice["message"] == {"role": "assistant", "content": " a", "refusal": None}
    assert choice["logprobs"]["refusal"] is None
    assert [each["token"] for each in choice["logprobs"]["content"][0]["top_logprobs"]] == [" b", " b"]
    for shape in (chat, text):
        first, last = (shape.chunk(piece)["choices"][0] for piece in pieces)
        assert first["logprobs"]
        assert (last["logprobs"], last["finish_reason"]) == (None, "stop")


# ---- text


@settings(max_examples=500, deadline=None)
@given(
    text=st.text(alphabet=st.sampled_from("aé日😀\u0301 \n.X"), max_size=40),
    cuts=st.lists(st.integers(0, 160), max_size=20),
    stops=st.lists(st.text(alphabet=st.sampled_from("aé日😀X"), min_size=1, max_size=3), max_size=3),
)
def test_a_stream_loses_nothing_at_any_token_boundary(text: str, cuts: list[int], stops: list[str]) -> None:
    """However the bytes are cut into tokens, what is told is the text up to the first stop string."""
    raw, bounds = text.encode(), sorted({min(cut, len(text.encode())) for cut in cuts} | {0, len(text.encode())})
    growing, told = AnswerText(stops), ""
    for start, end in itertools.pairwise(bounds):
        told += growing.push(raw[start:end])
        if growing.stopped:
            break
    told += growing.end()
    # the stop that is complete first wins: a stream cannot wait for a longer one that begins earlier
    assert told in {text[:at] for stop in stops if (at := text.find(stop)) >= 0} | (
        {text} if not growing.stopped else set()
    )
    assert growing.stopped == any(stop in text for stop in stops)
    assert len(told) == growing.told


def test_what_may_become_a_stop_is_held_back() -> None:
    """And told when it does not."""
    text = AnswerText(["STOP"])
    assert [text.push(piece) for piece in (b"ab", b"S", b"TO", b"X", b"ST")] == ["ab", "", "", "STOX", ""]
    assert text.end() == "ST"
    stopped = AnswerText(["STOP"])
    assert [stopped.push(piece) for piece in (b"a S", b"T", b"OP tail", b"more")] == ["a ", "", "", ""]
    assert (stopped.stopped, stopped.end()) == (True, "")


def test_an_unfinished_character_is_replaced_at_the_end() -> None:
    """A cut answer may end in the middle of one."""
    text = AnswerText([])
    assert (text.push("é".encode()[:1]), text.end()) == ("", "\ufffd")
