"""What a request can take at most."""

from __future__ import annotations

import pytest

from cortex.config.catalogue import Profile
from cortex.gateway.keys.estimate import MEDIA_TOKENS, estimate

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def chat(**fields):
    return {"messages": [{"role": "user", "content": "x" * 400}], **fields}


def test_a_prompt_is_a_token_for_four_bytes_of_its_text():
    """Text counts by its bytes in UTF-8, wherever it stands."""
    plain = estimate(CHAT, chat(max_tokens=1), None).prompt
    assert 100 <= plain <= 115
    wide = estimate(CHAT, {"messages": [{"role": "user", "content": "€" * 400}]}, None).prompt
    assert 300 <= wide <= 315
    parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 400}]}]}
    assert 100 <= estimate(CHAT, parts, None).prompt <= 120


def test_a_picture_counts_as_one_whatever_its_size():
    """Two megabytes of base64 are no half a million tokens."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 2_000_000}}
    asked = {"messages": [{"role": "user", "content": [picture, {"type": "text", "text": "what is this?"}]}]}
    assert MEDIA_TOKENS < estimate(CHAT, asked, None).prompt < MEDIA_TOKENS + 50


@pytest.mark.parametrize(
    ("fields", "completion", "bounds"),
    [
        ({"max_tokens": 7}, 7, {}),
        ({"max_completion_tokens": 9}, 9, {}),
        ({"max_completion_tokens": 9, "max_tokens": 7}, 9, {}),  # engines differ in which one they take
        ({"n_predict": 5}, 5, {}),
        ({"max_tokens": 7, "n": 3}, 21, {}),
        ({}, 4096, {"max_tokens": 4096}),
        ({"max_tokens": None}, 4096, {"max_tokens": 4096}),
        ({"max_tokens": -1}, 4096, {"max_tokens": 4096}),
        ({"max_tokens": 7, "n_predict": -1}, 4096, {"n_predict": 4096}),
        ({"max_tokens": "many"}, 4096, {}),  # the neuron's to refuse
        ({"max_tokens": True}, 4096, {}),
    ],
)
def test_an_answer_is_what_the_request_allows(fields, completion, bounds):
    """Without a bound of its own a request gets the one that was reserved for it."""
    asked = estimate(CHAT, chat(**fields), None)
    assert (asked.completion, asked.bounds) == (completion, bounds)


@pytest.mark.parametrize(
    ("profile", "fields", "completion"),
    [
        ({"limit": {"context": 8192, "output": 512}}, {}, 512),
        ({"max_output_tokens": 300}, {}, 300),
        ({"context": 2048}, {"max_tokens": 64_000}, 2048),  # no answer is longer than the context
        ({"context": 2048}, {}, 2048),
        ({"context": 8192}, {"max_tokens": 100}, 100),
    ],
)
def test_a_profile_says_what_the_request_does_not(profile, fields, completion):
    """`limit.output` and `max_output_tokens` stand in for a bound, and a context bounds every answer."""
    assert estimate(CHAT, chat(**fields), Profile(id="m", **profile)).completion == completion


@pytest.mark.parametrize(
    ("prompt", "answers", "tokens"),
    [("x" * 40, 1, 10), (["x" * 40, "x" * 40], 2, 20), ([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3)],
)
def test_completions_answer_every_prompt(prompt, answers, tokens):
    """A batch of prompts has as many answers; a prompt that came as tokens is counted by them."""
    asked = estimate(COMPLETIONS, {"prompt": prompt, "max_tokens": 10}, None)
    assert (asked.prompt, asked.completion) == (tokens, 10 * answers)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank"])
def test_what_generates_nothing_reserves_its_text(path):
    """No bound is sent where there is nothing to bound."""
    asked = estimate(path, {"input": ["x" * 40] * 2, "query": "x" * 40, "documents": ["x" * 40]}, None)
    assert (asked.prompt, asked.completion, asked.bounds) == (40, 0, {})


def test_numbers_beyond_reason_are_taken_as_they_are():
    """A bound of 10^30 is a large reservation, not a failure."""
    assert estimate(CHAT, chat(max_tokens=10**30), None).completion == 10**30
