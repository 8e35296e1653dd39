"""What a folder of backends holds, and which of it engines of a host load."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.backends import VERSION

from cortex.config.loader import ConfigError, validate
from cortex.config.neuron import NeuronConfig, load_neuron_config
from cortex.neuron.hardware import library
from cortex.neuron.harness import backends, backends_manifest
from cortex.neuron.harness.backends import Backends, choose_cpu, examine
from cortex.neuron.harness.backends_manifest import CpuBackend, CudaBackend

SKYLAKE = frozenset(["fma", "avx2", "avx512f", "avx512bw"])
ZEN4 = SKYLAKE | {"avx512_vnni"}
WHOLE: dict[str, Any] = {
    "xllamacpp": VERSION,
    "cpu": [
        {"file": "libggml-cpu-zen4.so", "needs": sorted(ZEN4)},
        {"file": "libggml-cpu-skylakex.so", "needs": sorted(SKYLAKE)},
    ],
    "cuda": {
        "file": "libggml-cuda.so",
        "version": "13.0",
        "architectures": ["86-real", "120a-real", "80-virtual", "90"],
        "libraries": ["libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13"],
    },
}


def changed(*place: str | int, to: Any = None) -> dict[str, Any]:
    """The whole with one thing otherwise; without `to` it is left out."""
    made = copy.deepcopy(WHOLE)
    table: Any = made
    for step in place[:-1]:
        table = table[step]
    del table[place[-1]]
    if to is not None:
        table[place[-1]] = to
    return made


def folder_of(tmp_path: Path, manifest: Any) -> Path:
    """A folder with every file that the whole names, and this list."""
    (folder := tmp_path / "backends").mkdir(exist_ok=True)
    for name in backends_manifest.parse(json.dumps(WHOLE).encode()).files:
        (folder / name).touch()
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    (folder / backends.MANIFEST).write_bytes(text)
    return folder


def problem(folder: Path) -> str:
    found = examine(folder, ZEN4, "the folder 'x'")
    assert (found.cpu, found.cuda) == (None, None)
    assert str(folder.parent) not in (found.problem or "")
    return found.problem or ""


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        (ZEN4 | {"more"}, "libggml-cpu-zen4.so"),
        (SKYLAKE, "libggml-cpu-skylakex.so"),
        (SKYLAKE - {"fma"}, None),
        (frozenset(), None),
    ],
)
def test_the_best_that_a_processor_can_run_is_chosen(flags, chosen, tmp_path):
    """Best come first; one missing flag rules a variant out, and without any the built-in code computes."""
    found = examine(folder_of(tmp_path, WHOLE), flags, "it")
    assert found.problem is None
    assert (found.cpu.file if found.cpu else None) == chosen


def test_a_specification_gets_paths_and_cuda_only_with_need(tmp_path):
    """In the order of the list, for loads that use GPUs; a load for the processor names nothing of CUDA."""
    folder = folder_of(tmp_path, WHOLE)
    found = examine(folder, ZEN4, "it")
    assert found.paths(on_gpu=True) == {
        "cpu_backend": f"{folder}/libggml-cpu-zen4.so",
        "gpu_backend": f"{folder}/libggml-cuda.so",
        "gpu_libraries": tuple(f"{folder}/{name}" for name in WHOLE["cuda"]["libraries"]),
    }
    assert found.paths(on_gpu=False) == {
        "cpu_backend": f"{folder}/libggml-cpu-zen4.so",
        "gpu_backend": None,
        "gpu_libraries": (),
    }


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (Backends(Path("/b")), "the built-in code on this processor, no CUDA"),
        (
            Backends(
                Path("/b"), CpuBackend("libggml-cpu-zen4.so", ()), CudaBackend("c", "13.0", ("86", "90-real"), ())
            ),
            "zen4 on this processor, CUDA 13.0 for 86, 90-real",
        ),
        (Backends(Path("/b"), problem="it is broken"), "it is broken"),
    ],
)
def test_people_are_told_in_one_line(found, told):
    """In the log and by `cortex version`."""
    assert str(found) == told


def test_a_processor_alone_or_gpus_alone_will_do(tmp_path):
    """Neither half wants the other; keys of a later version are passed over."""
    assert examine(folder_of(tmp_path, WHOLE | {"cuda": None}), ZEN4, "it").cuda is None
    only_cuda = examine(folder_of(tmp_path, WHOLE | {"cpu": [], "later": 1}), ZEN4, "it")
    assert (only_cuda.cpu, only_cuda.cuda and only_cuda.cuda.version) == (None, "13.0")


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        (b"", "is no JSON"),
        (b'{"xllamacpp": "\xff"}', "is no JSON"),
        (b"[" * 60_000, "is no JSON"),
        (b" " * 70_000, "has more than 64 KiB"),
        ([], "the whole is no object"),
        (changed("xllamacpp"), "xllamacpp is missing"),
        (changed("xllamacpp", to=2026), "xllamacpp is not a version"),
        (changed("cpu"), "cpu is missing"),
        (changed("cpu", to={}), "cpu is no list"),
        (changed("cpu", to=WHOLE["cpu"] * 40), "cpu is no list of at most 64 entries"),
        (changed("cpu", 0, to="zen4"), "cpu[0] is no object"),
        (changed("cpu", 1, "file"), "cpu[1].file is missing"),
        (changed("cpu", 1, "file", to="../libggml-cpu-zen4.so"), "cpu[1].file is not a file's name"),
        (changed("cpu", 1, "file", to="/lib/x.so"), "cpu[1].file is not a file's name"),
        (changed("cpu", 1, "file", to=".."), "cpu[1].file is not a file's name"),
        (changed("cpu", 1, "file", to="x\n.so"), "cpu[1].file is not a file's name"),
        (changed("cpu", 0, "needs"), "cpu[0].needs is missing"),
        (changed("cpu", 0, "needs", to=[["avx2"]]), "cpu[0].needs[0] is not a flag"),
        (changed("cuda"), "cuda is missing"),
        (changed("cuda", to="13.0"), "cuda is no object"),
        (changed("cuda", "version", to="thirteen"), "cuda.version is not a version"),
        (changed("cuda", "architectures", to=[]), "cuda.architectures is empty"),
        (changed("cuda", "architectures", to=["native"]), "cuda.architectures[0] is not an architecture"),
        (changed("cuda", "libraries", to=["a/b.so"]), "cuda.libraries[0] is not a file's name"),
        (
            changed("cuda", "libraries", to=["libcufft.so.13"]),
            "libcufft.so.13 is missing, which its backends.json names",
        ),
        (
            changed("xllamacpp", to="2020.1.1"),
            f"is for xllamacpp 2020.1.1, and this build has {VERSION}: make it anew with the build/backends",
        ),
    ],
)
def test_a_list_that_is_damaged_or_hostile_is_a_sentence(manifest, told, tmp_path):
    """It names the place, opens nothing outside the folder, and tells nobody where that is."""
    said = problem(folder_of(tmp_path, manifest))
    assert said.startswith("the folder 'x' ")
    assert told in said


def test_a_folder_that_is_none_is_a_sentence(tmp_path):
    """Missing, a file, without a list, with a pipe in its place, or closed to this user."""
    assert problem(tmp_path / "nowhere") == "the folder 'x' does not exist"
    (file := tmp_path / "file").touch()
    assert problem(file) == "the folder 'x' is no folder"
    (empty := tmp_path / "empty").mkdir()
    assert problem(empty) == "the folder 'x' cannot be used: its backends.json is missing"
    os.mkfifo(empty / backends.MANIFEST)
    assert problem(empty) == "the folder 'x' cannot be used: its backends.json is no file"
    long = tmp_path / ("x" * 300)
    assert problem(long) == "the folder 'x' cannot be read: File name too long"


def test_the_folder_beside_the_library_is_found_unless_another_is_named(tmp_path, monkeypatch):
    """Without either nothing is missed; one that is named must be there, and is told by its key."""
    monkeypatch.setattr(library, "folder", lambda: tmp_path)
    assert backends.find(None, ZEN4) is None
    folder = folder_of(tmp_path, WHOLE)
    beside = backends.find(None, ZEN4)
    assert beside
    assert (beside.folder, beside.problem) == (folder, None)
    (folder / "libcudart.so.13").unlink()
    damaged = backends.find(None, ZEN4)
    assert damaged
    assert (damaged.problem or "").startswith("the folder 'backends' of this build cannot be used: libcudart.so.13")
    named = backends.find(tmp_path / "mine", ZEN4)
    assert named
    assert named.problem == "the folder 'mine' of harness.llamacpp.backends does not exist"


def test_nothing_is_missed_where_the_library_is_not_installed(monkeypatch):
    """A neuron for legacy models alone."""
    monkeypatch.setattr(library, "folder", lambda: None)
    assert backends.find(None, ZEN4) is None


def test_the_library_s_own_folder_is_found_without_importing_it():
    """Where its package is; the files in it say that it has no CUDA."""
    folder = library.folder()
    assert folder
    assert list(folder.glob("*.so*"))
    assert library.has_cuda() is False


def test_the_folder_is_named_in_the_file_or_the_environment(tmp_path):
    """A relative path begins at the file."""
    (file := tmp_path / "neuron.toml").write_text('[harness.llamacpp]\nbackends = "mine"')
    assert load_neuron_config(file, environ={}).harness.llamacpp.backends == tmp_path / "mine"
    environ = {"NEURON_HARNESS__LLAMACPP__BACKENDS": "/opt/backends"}
    assert load_neuron_config(file, environ=environ).harness.llamacpp.backends == Path("/opt/backends")


def test_a_server_and_backends_are_one_too_many():
    """Which of them is meant, only the operator knows."""
    section = {"server_binary": "/opt/llama-server", "backends": "/opt/backends"}
    with pytest.raises(
        ConfigError, match=r"harness\.llamacpp: backends: is for the built-in engine, which server_binary"
    ):
        validate(NeuronConfig, {"harness": {"llamacpp": section}}, source="neuron.toml")


def test_choosing_takes_the_first_that_fits():
    """Not the longest list of needs: the order is the builder's."""
    offered = [CpuBackend("a", ("avx2",)), CpuBackend("b", ("avx2", "avx512f"))]
    assert choose_cpu(offered, ZEN4) is offered[0]
