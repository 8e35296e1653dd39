"""Which legacy files use a GPU, what their engines are told and take of it, and what is missing where none do; pure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cortex.errors import CortexError
from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.gguf import Header
from cortex.neuron.harness import ctransformers_cuda as cuda
from cortex.neuron.harness.base import HostShare, ModelFiles
from cortex.neuron.harness.ctransformers import CTransformers
from cortex.neuron.harness.ctransformers_cuda import LIBRARIES, CudaLibrary
from cortex.wire.fleet import Device, LoadSettings

GIB = 1 << 30
FOUND = CudaLibrary("/ct/libctransformers.so", ("/n/libcudart.so.12", "/n/libcublasLt.so.12", "/n/libcublas.so.12"), ())
ONE_GPU = HostShare(cores=4, devices=(1,), uuids=("GPU-7",), shares=(1.0,))


@pytest.fixture
def llama_7b(header: Header) -> Header:
    """As a ggjt file in Q4_0."""
    sizes: dict[str, Any] = {
        "embedding_length": 4096,
        "head_count": 32,
        "head_count_kv": 32,
        "key_length": 128,
        "value_length": 128,
        "block_count": 32,
        "vocab_size": 32_000,
        "tensor_bytes": 3_791_000_000,
    }
    return replace(header, container="ggjt", architecture="llama", context_length=None, **sizes)


def spec_of(header: Header, host: HostShare = ONE_GPU, **settings: Any) -> EngineSpec:
    return CTransformers(FOUND).engine_spec(
        alias="m",
        files=ModelFiles(Path("/m.bin")),
        header=header,
        settings=LoadSettings(**settings),
        host=host,
        socket_path=Path("/e.sock"),
    )


def test_an_engine_on_a_gpu_gets_the_libraries_in_their_order_and_one_card(llama_7b: Header) -> None:
    """All layers, with output and cache; the card by its UUID; time for the driver to compile; memory of the card."""
    spec = spec_of(llama_7b)
    assert (spec.gpu_layers, spec.gpu_backend, spec.gpu_libraries) == (35, FOUND.own, FOUND.needed)
    assert spec.env == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-7"}
    assert spec.extras["compile_s"] > 0
    assert 5.5 < spec.extras["device_mb"] / 1024 < 7  # 3.5 of weights, 1 of cache, 0.4 of scratch, and what CUDA takes
    assert EngineSpec.from_json(spec.to_json()) == spec


def test_without_gpu_layers_no_device_is_even_opened(llama_7b: Header) -> None:
    """The build for the processor, and host memory."""
    for spec in (spec_of(llama_7b, HostShare(cores=4)), spec_of(llama_7b, HostShare(cores=4), gpu_layers=0)):
        assert (spec.gpu_layers, spec.gpu_backend, spec.gpu_libraries) == (0, None, ())
        assert spec.env["CUDA_VISIBLE_DEVICES"] == ""
        assert spec.extras.keys() == {"work_mb"}


@pytest.mark.parametrize(
    ("family", "asked", "told"),
    [
        ("llama", None, 35),
        ("llama", -1, 35),
        ("llama", 20, 20),
        ("llama", 99, 35),
        ("starcoder", -1, 32),
        ("mpt", 99, 32),
    ],
)
def test_layers_are_what_the_library_means_by_them(llama_7b: Header, family: str, asked: int | None, told: int) -> None:
    """Output, values and keys are three more to llama; a wish for more than there are is a wish for all."""
    assert cuda.layers(replace(llama_7b, architecture=family), asked) == told


def test_memory_follows_layers_context_and_family(llama_7b: Header) -> None:
    """A cache that stays in host memory is none of the card's, and what is asked for less takes less."""
    starcoder = replace(llama_7b, architecture="starcoder", container="ggml")
    assert cuda.device_bytes(starcoder, 32, 8192) == cuda.device_bytes(starcoder, 32, 512)
    assert cuda.device_bytes(llama_7b, 35, 4096) - cuda.device_bytes(llama_7b, 35, 2048) > GIB
    assert (
        cuda.device_bytes(llama_7b, 16, 2048)
        < cuda.device_bytes(llama_7b, 32, 2048)
        < cuda.device_bytes(llama_7b, 35, 2048)
    )


@pytest.mark.parametrize(
    ("family", "layers", "cache_mb"),
    [
        ("starcoder", None, 2048),  # 2 x 32 layers x 4,096 numbers of 32 bits, for each of 2,048 tokens
        ("falcon", None, 2048),
        ("mpt", None, 1024),  # of 16 bits
        ("llama", None, 0),
        ("llama", 34, 512),  # keys stay in host memory
        ("llama", 16, 1024),
    ],
)
def test_a_cache_that_stays_in_host_memory_is_counted_there(
    llama_7b: Header, family: str, layers: int | None, cache_mb: int
) -> None:
    """With the work buffers: what the host has to have beside the card."""
    header = replace(llama_7b, architecture=family, context_length=2048)
    extras = spec_of(header, context=2048, gpu_layers=layers).extras
    work_mb = spec_of(header, HostShare(cores=4), context=2048).extras["work_mb"]
    assert extras["host_mb"] == cache_mb + work_mb


@pytest.mark.parametrize(
    ("change", "words"),
    [({"architecture": "gpt_neox"}, "'gpt_neox'"), ({"block_count": 48}, "this has 48"), ({"block_count": 40}, None)],
)
def test_a_file_that_the_library_has_no_code_for_is_told(
    llama_7b: Header, change: dict[str, Any], words: str | None
) -> None:
    """Before an engine is started whose load would fail."""
    reason = CTransformers(FOUND).processor_reason(replace(llama_7b, **change))
    assert reason is None if words is None else words in (reason or "")


def test_several_cards_for_one_model_are_refused(llama_7b: Header) -> None:
    """400 that names the setting."""
    with pytest.raises(CortexError) as wrong:
        spec_of(llama_7b, HostShare(cores=4, devices=(0, 1), shares=(0.5, 0.5)))
    assert (wrong.value.status, wrong.value.param) == (400, "devices")


@pytest.mark.parametrize(
    ("capability", "version", "words"),
    [
        ("5.2", "12.1", None),
        ("12.0", "13.0", None),
        ("5.0", "13.0", "5.2 or newer, not for X (5.0)"),
        (None, "13.0", "X (unknown)"),
        ("9.0", "12.0", "is for CUDA 12.0"),
        ("9.0", None, "does not say"),
    ],
)
def test_driver_and_card_are_held_against_what_it_was_built_for(
    capability: str | None, version: str | None, words: str | None
) -> None:
    """Nothing known is too old: an engine would end with exit code 1."""
    reason = cuda.unusable([Device(index=0, name="X", compute_capability=capability)], version)
    assert reason is None if words is None else words in (reason or "")


def test_packages_are_found_without_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pip puts them; one that is missing is named with what brings it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, package in LIBRARIES.items():
        (tmp_path / "nvidia" / package / "lib").mkdir(parents=True, exist_ok=True)
        (tmp_path / "nvidia" / package / "lib" / name).touch()
    found = cuda.find(None)
    assert found.problem is None
    assert [Path(file).name for file in found.needed] == ["libcudart.so.12", "libcublasLt.so.12", "libcublas.so.12"]
    assert found.own
    assert found.own.endswith("lib/cuda/libctransformers.so")
    (tmp_path / "nvidia/cublas/lib/libcublasLt.so.12").unlink()
    assert "want libcublasLt.so.12 for a GPU: install cortex[cuda-legacy]" in (cuda.find(None).problem or "")


def test_a_named_folder_is_the_only_place(tmp_path: Path) -> None:
    """Nothing else stands in for it, and where it is, is told to nobody but the log."""
    nowhere = cuda.find(tmp_path / "nowhere").problem or ""
    assert "the folder 'nowhere' of harness.ctransformers.cuda_libraries does not exist" in nowhere
    assert str(tmp_path) not in nowhere
    for name in (*LIBRARIES, "libctransformers.so"):
        (tmp_path / name).touch()
    found = cuda.find(tmp_path)
    assert (found.own, found.needed) == (
        str(tmp_path / "libctransformers.so"),
        tuple(str(tmp_path / name) for name in LIBRARIES),
    )
