"""models.source.resolve: from what a client asks for to a model, a fetch, or an error that helps."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.gguf_bytes import write_tiny
from hypothesis import given
from hypothesis import strategies as st

from cortex.errors import CortexError
from cortex.neuron.models.source import LocalModel, NeedsFetch, Resolved, Scanner, resolve
from cortex.neuron.models.source.resolve import parse_repo

FILES = (
    "flat.gguf",
    "sub/other-Q4_1.gguf",
    "org/one/one-Q4_1.gguf",
    "org/many-GGUF/many-Q8_0.gguf",
    "org/many-GGUF/many-Q4_K_M.gguf",
    "org/many-GGUF/many-UD-Q4_K_XL.gguf",
    "org/few/few-Q8_0.gguf",
    "org/few/few-Q2_K.gguf",
)


@pytest.fixture(name="models", scope="module")
def _models(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalModel, ...]:
    root: Path = tmp_path_factory.mktemp("resolve")
    for name in FILES:
        write_tiny(root / name)
    return Scanner(models_dir=root, hf_cache=root / "none").scan().models


@pytest.mark.parametrize(
    ("model_id", "quant", "file"),
    [
        ("flat", None, "flat.gguf"),
        ("flat.gguf", None, "flat.gguf"),
        ("sub/other-Q4_1", None, "other-Q4_1.gguf"),
        ("org/one", None, "one-Q4_1.gguf"),
        ("org/one", "q4_1", "one-Q4_1.gguf"),
        ("org/one:Q4_1", None, "one-Q4_1.gguf"),
        ("org/one-GGUF", None, "one-Q4_1.gguf"),
        ("org/many-GGUF", None, "many-Q4_K_M.gguf"),
        ("org/many-GGUF", "", "many-Q4_K_M.gguf"),
        ("org/many", None, "many-Q4_K_M.gguf"),
        ("Org/Many-gguf", "Q8_0", "many-Q8_0.gguf"),
        ("org/many-GGUF:Q8_0", None, "many-Q8_0.gguf"),
        ("org/many-GGUF:Q8_0", "Q8_0", "many-Q8_0.gguf"),
        ("org/many-GGUF", "Q4_K_XL", "many-UD-Q4_K_XL.gguf"),
        ("org/many-GGUF", "q4_k", "many-Q4_K_M.gguf"),
        ("org/few", None, "few-Q2_K.gguf"),
    ],
)
def test_an_id_and_a_quant_find_their_file(models, model_id, quant, file):
    """Ids are found as listed, repositories by quant, with the usual quant when none is asked for."""
    found = resolve(model_id, quant, models)
    assert isinstance(found, Resolved)
    assert (found.model.file_name, found.notes) == (file, ())


@pytest.mark.parametrize("model_id", ["flat", "sub/other-Q4_1", "org/many-GGUF:Q8_0"])
def test_a_single_file_is_served_whatever_quant_is_sent_along(models, model_id):
    """First-generation scripts send a quant with every load: an id that names one file is served, with a note."""
    found = resolve(model_id, "Q5_K_S", models)
    assert isinstance(found, Resolved)
    assert len(found.notes) == 1
    assert found.notes[0].startswith("quant Q5_K_S was asked for")


@pytest.mark.parametrize(
    ("model_id", "quant", "fetch"),
    [
        ("unsloth/Qwen3-0.6B-GGUF", "Q4_K_M", NeedsFetch("unsloth/Qwen3-0.6B-GGUF", "Q4_K_M")),
        ("unsloth/Qwen3-0.6B-GGUF:Q8_0", "Q4_K_M", NeedsFetch("unsloth/Qwen3-0.6B-GGUF", "Q8_0")),
        ("unsloth/Qwen3-0.6B-GGUF", None, NeedsFetch("unsloth/Qwen3-0.6B-GGUF", None)),
        ("org/one", "Q4_K_M", NeedsFetch("org/one", "Q4_K_M")),
        ("org/many", "Q6_K", NeedsFetch("org/many-GGUF", "Q6_K")),
    ],
)
def test_what_is_not_on_disk_is_to_be_fetched(models, model_id, quant, fetch):
    """A repository, or a quant of it, that is not here is the hub's matter."""
    assert resolve(model_id, quant, models) == fetch


def test_a_missing_quant_lists_what_there_is(models):
    """Without a hub, 422 quant_not_found has the available quants and the nearest."""
    with pytest.raises(CortexError) as caught:
        resolve("org/many-GGUF", "Q4_K_S", models, can_fetch=False)
    error = caught.value
    assert (error.status, error.code, error.param) == (422, "quant_not_found", "quant")
    assert error.extras == {"available": ["Q4_K_M", "Q8_0", "UD-Q4_K_XL"], "nearest": "Q4_K_M"}
    assert "did you mean 'Q4_K_M'?" in error.message


@pytest.mark.parametrize(("model_id", "near"), [("falt", "flat"), ("org/onee", "org/one"), ("nothing like it", None)])
def test_an_unknown_id_is_not_found(models, model_id, near):
    """404 model_not_found, with the nearest id where one is near."""
    with pytest.raises(CortexError) as caught:
        resolve(model_id, None, models, can_fetch=False)
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (404, "model_not_found", None)
    assert caught.value.extras.get("nearest") == near


def test_two_repositories_that_differ_in_gguf_are_not_confused(tmp_path):
    """The suffix may only be left out where that is unambiguous."""
    for repo in ("m", "m-GGUF"):
        write_tiny(tmp_path / "org" / repo / "m-Q4_0.gguf")
    models = Scanner(models_dir=tmp_path, hf_cache=tmp_path / "none").scan().models
    found = resolve("org/m", None, models)
    assert isinstance(found, Resolved)
    assert found.model.repo == "org/m"
    assert resolve("org/M", None, models) == NeedsFetch("org/M", None)


@pytest.mark.parametrize(
    "hostile",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "org/../x",
        "..",
        "org/..",
        "a/b/c",
        "org/x:../../y",
        "org/x\x00",
        "org/x\n",
        "o--r/x",
    ],
)
def test_a_hostile_id_finds_nothing(models, hostile):
    """No id that could be a path is a repository, so none gets near a folder or a hub."""
    assert parse_repo(hostile) is None
    with pytest.raises(CortexError, match="not found on this host"):
        resolve(hostile, "../..", models)


@given(st.text(max_size=40))
def test_no_repository_id_leaves_a_folder(text):
    """Whatever passes for a repository has exactly one slash and no dots that climb."""
    parsed = parse_repo(text)
    if parsed is not None:
        repo, _ = parsed
        assert repo.count("/") == 1
        assert not any(part in ("", ".", "..") for part in repo.split("/"))
