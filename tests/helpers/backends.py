"""Folders of backends: a real one, where somebody made it, and ones whose libraries misbehave."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from cortex.neuron.hardware import processor
from cortex.neuron.harness import backends
from cortex.neuron.harness.backends import Backends

ROOT = Path(__file__).resolve().parents[2]
MADE = Path(os.environ.get("CORTEX_BACKENDS", ROOT / "dist" / "backends"))
SOURCE = ROOT / "tests" / "neuron" / "harness" / "fake_backend.c"
VERSION = metadata.version("xllamacpp")
CUDA: dict[str, Any] = {"file": "libggml-cuda.so", "version": "12.4", "architectures": ["89-real"], "libraries": []}


def real_backends() -> Backends:
    """Those of this checkout, if any is for this host's processor."""
    if not MADE.is_dir():
        pytest.skip("no backends: run build/backends, or name a folder of them in $CORTEX_BACKENDS")
    found = backends.examine(MADE, processor.read_flags(), "the folder of this test")
    if found.problem:
        pytest.skip(found.problem)
    if found.cpu is None:
        pytest.skip("nothing in there is for this host's processor: it has AVX2 and nothing newer")
    return found


def write_manifest(folder: Path, cpu: Sequence[dict[str, Any]] = (), cuda: dict[str, Any] | None = None) -> Path:
    """`folder`, with a list that fits the installed library."""
    folder.mkdir(exist_ok=True)
    manifest = {"xllamacpp": VERSION, "cpu": list(cpu), "cuda": cuda}
    (folder / backends.MANIFEST).write_text(json.dumps(manifest))
    return folder


def compile_backend(file: Path, *arguments: str, **macros: str | int) -> Path:
    """A misbehaving one at `file`; `macros` as fake_backend.c has them, and its name may tell which kind it is."""
    kind: dict[str, str | int] = {"NAME": "CUDA"} if "cuda" in file.name else {"NAME": "CPU", "SCORE": 1}
    told = [f"-D{name}={json.dumps(value)}" for name, value in (kind | {"API_VERSION": 3} | macros).items()]
    return _compile(file, *told, str(SOURCE), *arguments)


def compile_library(file: Path) -> Path:
    """A library with the function that a backend with NEEDED wants."""
    return _compile(file, f"-Wl,-soname,{file.name}", "-x", "c", "-", source="void of_a_needed_library(void) {}")


def _compile(file: Path, *arguments: str, source: str = "") -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) for a backend that misbehaves")
    file.parent.mkdir(exist_ok=True)
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(file), *arguments]
    subprocess.run(command, input=source.encode(), check=True, capture_output=True, timeout=60)
    return file
