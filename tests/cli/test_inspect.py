"""`cortex inspect`: a model file without a role, for people and for scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.gguf_bytes import tiny, write_tiny
from helpers.legacy_ggml import legacy_bytes
from helpers.tiny_spm import shapes, tiny_spm


def inspect(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cortex", "inspect", str(file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def as_json(file: Path) -> tuple[int, dict[str, Any]]:
    done = inspect(file, "--json")
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def legacy(tmp_path: Path) -> Path:
    file = tmp_path / "old.bin"
    file.write_bytes(legacy_bytes("dolly-v2"))
    return file


def test_a_legacy_file_is_ctransformers_matter(legacy: Path) -> None:
    """What it is, why not llama.cpp, and what it would take."""
    code, found = as_json(legacy)
    assert (code, found["harness"], found["problem"]) == (0, "ctransformers", None)
    assert "before GGUF" in found["reasons"]["llamacpp"]
    assert found["reasons"]["ctransformers"] is None
    assert (found["header"]["format"], found["header"]["architecture"]) == ("ggml", "dolly-v2")
    assert found["memory"]["context"] == 128
    assert found["memory"]["total_mb"] >= found["memory"]["weights_mb"] + found["memory"]["kv_mb"]
    people = inspect(legacy).stdout
    assert "harness: ctransformers" in people
    assert "memory: about" in people


def test_a_gguf_is_llama_cpps_and_the_other_says_why_not(tmp_path: Path) -> None:
    """The first harness that can, as the neuron chooses."""
    _, found = as_json(write_tiny(tmp_path / "tiny.gguf"))
    assert found["harness"] == "llamacpp"
    assert "SentencePiece" in found["reasons"]["ctransformers"]
    (tmp_path / "spm.gguf").write_bytes(tiny_spm())
    _, found = as_json(tmp_path / "spm.gguf")
    assert found["reasons"] == {"llamacpp": None, "ctransformers": None}


def test_what_only_the_engine_would_find_is_found(tmp_path: Path) -> None:
    """A tied output matrix passes every header's check, and the library of 2023 cannot do without it."""
    (tmp_path / "tied.gguf").write_bytes(
        tiny_spm({name: shape for name, shape in shapes().items() if name != "output.weight"})
    )
    _, found = as_json(tmp_path / "tied.gguf")
    assert "output.weight" in found["reasons"]["ctransformers"]


def test_a_broken_file_says_what_is_wrong_and_where(tmp_path: Path) -> None:
    """Exit code 1, one sentence, no traceback: cut files, other files, nothing at all."""
    for name, content, words in (
        ("cut.bin", legacy_bytes("gpt2")[:-5], "at byte"),
        ("cut.gguf", tiny()[:-1], "cut off"),
        ("other.bin", b"PK\x03\x04 and so on", "no model"),
        ("empty.gguf", b"", "at byte 0"),
    ):
        (tmp_path / name).write_bytes(content)
        done = inspect(tmp_path / name)
        assert done.returncode == 1
        assert words in done.stdout
        assert "Traceback" not in done.stderr
        assert as_json(tmp_path / name)[1]["problem"]


def test_a_file_that_is_not_there_is_a_mistake_of_the_command_line(tmp_path: Path) -> None:
    """Exit code 2."""
    done = inspect(tmp_path / "absent.gguf")
    assert (done.returncode, "no file" in done.stderr) == (2, True)
