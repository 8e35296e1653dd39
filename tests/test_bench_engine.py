"""build/bench engine: its model is one, its rounds are counted, and what cannot be compared is said."""

import argparse
import asyncio
import subprocess
from pathlib import Path

import pytest
from benchmarks import engine, random_model
from benchmarks.engine import Round
from benchmarks.errors import CannotRun

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.model
@pytest.mark.parametrize("quantization", ["Q4_0", "Q6_K"])
def test_engines_answer_by_turns_with_a_model_of_random_weights(tmp_path, monkeypatch, quantization):
    """A small one here, in ggml's own formats; every round has its figures."""
    for name, value in {
        "WIDTH": 256,
        "HIDDEN": 512,
        "LAYERS": 1,
        "VOCABULARY": 4608,
        "HEADS": 4,
        "KV_HEADS": 2,
    }.items():
        monkeypatch.setattr(random_model, name, value)
    random_model.write(tmp_path / "random.gguf", quantization)
    wanted = argparse.Namespace(rounds=2, prompt=16, answer=4)
    seen = asyncio.run(engine.measure(tmp_path / "random.gguf", tmp_path, None, wanted))
    assert {name: len(rounds) for name, rounds in seen.items()} == {"built_in": 2, "backend": 2}
    assert all(each.prompt > 0 and each.answer > 0 for rounds in seen.values() for each in rounds)


def test_the_figures_are_medians_and_the_ratio_is_theirs():
    """One disturbed round changes nothing."""
    built_in = [Round(100.0, 50.0), Round(100.0, 40.0), Round(1.0, 1.0)]
    backend = [Round(150.0, 80.0), Round(150.0, 80.0), Round(9999.0, 9999.0)]
    assert engine.compare({"built_in": built_in, "backend": backend}) == {
        "prompt_built_in": 100.0,
        "prompt_backend": 150.0,
        "prompt_ratio": 1.5,
        "answer_built_in": 40.0,
        "answer_backend": 80.0,
        "answer_ratio": 2.0,
    }


def test_what_cannot_be_compared_is_said(tmp_path):
    """No folder, one without a list, a format that nobody knows."""
    for folder, told in ((tmp_path / "none", "build/backends makes it"), (tmp_path, r"its backends\.json is missing")):
        with pytest.raises(CannotRun, match=told):
            engine.chosen(folder)
    with pytest.raises(CannotRun, match="'Q9_Z' is no format of weights; there are Q4_0"):
        random_model.write(tmp_path / "model.gguf", "Q9_Z")


def test_the_command_says_what_it_compares():
    """--help, as of every benchmark."""
    done = subprocess.run([ROOT / "build/bench", "engine", "--help"], capture_output=True, text=True, check=True)
    assert "one with the backend that a neuron would" in done.stdout
