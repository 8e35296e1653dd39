"""What a model that is not loaded can be asked for, by what its neurons and its profile say."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.fleets import M, catalogue, host, loaded, on_disk

from cortex.gateway.routing.modality import capabilities, refusal
from cortex.gateway.routing.snapshot import FleetSnapshot

CHAT = on_disk(capabilities=("chat", "completions", "tools"))
EMBEDDINGS = on_disk(capabilities=("embeddings",))
RERANK = on_disk(capabilities=("rerank",))
UNTOLD = on_disk()

# fmt: off
ROWS: dict[str, tuple[list[dict[str, Any]], dict[str, Any] | None, str, bool]] = {
    "a chat model is no embedder": ([CHAT], None, "/v1/embeddings", False),
    "an embedder does not chat": ([EMBEDDINGS], None, "/v1/chat/completions", False),
    "nor complete": ([EMBEDDINGS], {}, "/v1/completions", False),
    "a reranker does neither": ([RERANK], None, "/v1/embeddings", False),
    "each does its own": ([RERANK], None, "/v1/rerank", True),
    "a chat model chats": ([CHAT], {}, "/v1/chat/completions", True),
    "a profile's mode wins over the file": ([CHAT], {"mode": "embedding"}, "/v1/embeddings", True),
    "and refuses what the file alone would do": ([CHAT], {"mode": "embedding"}, "/v1/chat/completions", False),
    "also of what nobody has yet": ([], {"mode": "embedding"}, "/v1/chat/completions", False),
    "what nobody has is not known": ([], {}, "/v1/embeddings", True),
    "nor what one neuron does not tell": ([CHAT, UNTOLD], None, "/v1/embeddings", True),
    "nor words that nobody knows": ([on_disk(capabilities=("text",))], None, "/v1/embeddings", True),
    "files of one name may differ": ([CHAT, EMBEDDINGS], None, "/v1/embeddings", True),
    "any other path is the neuron's": ([EMBEDDINGS], None, "/tokenize", True),
}
# fmt: on


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_model_is_refused_only_where_it_is_sure_that_it_would_refuse(row):
    """422 as the loaded model itself would say it, with what it does serve."""
    files, profile, path, fits = row
    fleet = FleetSnapshot.of([host(f"n{number}", 900, models={M: file}) for number, file in enumerate(files)])
    error = refusal(M, path, catalogue(*([] if profile is None else [{"id": M} | profile])), fleet)
    assert (error is None) == fits
    if error:
        assert (error.status, error.code, error.retry_after) == (422, "wrong_modality", None)
        assert f"and not {path}" in error.message


def test_what_is_shown_is_what_it_does_now():
    """As it is loaded, else what the operator says, else its mode, else its file."""
    fleet = FleetSnapshot.of(
        [host("a", models={M: loaded(1, capabilities=("embeddings",))}), host("b", models={M: CHAT})]
    )
    profile = catalogue({"id": M, "mode": "rerank"}).profile(M)
    declared = catalogue({"id": M, "capabilities": ["chat", "vision"]}).profile(M)
    here, there = fleet.by_name["a"].models[M], fleet.by_name["b"].models[M]
    assert capabilities(declared, [here, there]) == {"embeddings"}
    assert capabilities(declared, [there]) == {"chat", "vision"}
    assert capabilities(profile, [there]) == {"rerank"}
    assert capabilities(None, [there]) == {"chat", "completions", "tools"}
