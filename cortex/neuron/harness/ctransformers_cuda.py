"""ctransformers' build for NVIDIA GPUs: whether it can be loaded here, which files it is for, and what they take of a GPU.

It ends its process (exit code 1) where there is no driver, so that everything it needs is looked for beforehand, and what
is missing is a sentence. It was built with CUDA 12.1, with machine code for compute capability 5.2, 6.1 and 7.x and PTX
beside it, which the driver compiles for anything newer at the first start; it wants three libraries of CUDA 12.

What it takes of a GPU, by its sources (0.2.27), rather too much than too little:

    weights   the matrices of the layers; llama's and falcon's output as well. Embeddings stay in host memory
    KV cache  llama's, when every layer is there; the others keep theirs in host memory
    scratch   llama: for each of 512 tokens a fixed part and one that grows with the context; falcon keeps 160 MiB free
    pool      the largest matrix once more as F32, for prompts of 32 tokens and more, with the matrix itself where it
              stays in host memory, and the logits of a batch
    process   the driver's context, 512 MiB

And of the host, beside its work buffers, what of the KV cache is not on the GPU: `n_layer * n_ctx * n_embd` numbers for keys and
as many for values in the loaders of mpt and starcoder (`memory_k`, `memory_v`), with as many heads as the file has for keys in
falcon's and llama's.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cortex.neuron.gguf import Header
from cortex.neuron.hardware.support import CudaBuild
from cortex.wire.fleet import Device

NAME = "harness.ctransformers.cuda_libraries"
OWN = "libctransformers.so"
# In the order in which they are loaded, with the folder of the package that brings each of them.
LIBRARIES = {"libcudart.so.12": "cuda_runtime", "libcublasLt.so.12": "cublas", "libcublas.so.12": "cublas"}
FAMILIES = ("falcon", "llama", "mpt", "starcoder")
COMPILE_S = 300.0  # for the driver, to compile the library for a GPU that came after it
_CUDA = (12, 1)
_CAPABILITY = (5, 2)
BUILD = CudaBuild(
    "ctransformers is for GPUs of compute capability 5.2 or newer",
    lambda capability: _numbers(capability) >= _CAPABILITY,
)
_OLD_LLAMAS = (40, 60, 80)  # layers; it has tables for these and for all up to 32, and its load fails for others
_SCRATCH = (
    (32, 512, 128),
    (40, 640, 160),
    (60, 768, 208),
    (math.inf, 1536, 416),
)  # layers at most → KiB and, for each token of context, bytes
_BATCH = 512
_CONTEXT_BYTES = 512 << 20
_FALCON_FREE_BYTES = 160 << 20
_BATCH_OF_PROMPT = 64


@dataclass(frozen=True, slots=True)
class CudaLibrary:
    """What was found on this host.

    own      ctransformers' build for GPUs; None when something is missing
    needed   NVIDIA's, in the order in which an engine loads them
    missing  what is, a sentence each
    """

    own: str | None = None
    needed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ("this host has not been searched for CUDA libraries",)

    @property
    def problem(self) -> str | None:
        return "; ".join(self.missing) or None

    def on_gpu(self, header: Header, layers: int, context: int, kv_type: str, work_mb: int) -> Mapping[str, Any]:
        """Fields of the specification of an engine with so many layers on a GPU."""
        need_mb = _mib(device_bytes(header, layers, context))
        host_mb = work_mb + _mib(host_cache_bytes(header, layers, context, kv_type))
        return {
            "gpu_layers": layers,
            "gpu_backend": self.own,
            "gpu_libraries": self.needed,
            "extras": {"device_mb": need_mb, "host_mb": host_mb, "compile_s": COMPILE_S},
        }


NO_CUDA = CudaLibrary()


def find(folder: Path | None) -> CudaLibrary:
    """The folder that the operator named, else the packages nvidia-cuda-runtime-cu12 and nvidia-cublas-cu12. A few looks at files."""
    own = _package("ctransformers", "lib", "cuda", OWN)
    if folder is not None:
        own = folder / OWN if (folder / OWN).is_file() else own
        found = {name: folder / name for name in LIBRARIES if (folder / name).is_file()}
        missing = [*_absent_in(folder, found)]
    else:
        places = {name: _package("nvidia", part, "lib", name) for name, part in LIBRARIES.items()}
        found = {name: place for name, place in places.items() if place}
        missing = [*_not_installed(found)]
    if own is None:
        missing.append(f"this build has no lib/cuda/{OWN} of ctransformers 0.2.27: put it into the folder of {NAME}")
    if own is None or missing:
        return CudaLibrary(missing=tuple(missing))
    return CudaLibrary(str(own.absolute()), tuple(str(file.absolute()) for file in found.values()), ())


def _absent_in(folder: Path, found: Iterable[str]) -> Iterator[str]:
    """`folder` is told by its name alone: where it is, is nobody's business but the operator's, who wrote it."""
    if not folder.is_dir():
        yield f"the folder '{folder.name}' of {NAME} does not exist"
    elif absent := LIBRARIES.keys() - set(found):
        yield f"the folder '{folder.name}' of {NAME} has no {', '.join(name for name in LIBRARIES if name in absent)}"


def _not_installed(found: Iterable[str]) -> Iterator[str]:
    if absent := LIBRARIES.keys() - set(found):
        names = ", ".join(name for name in LIBRARIES if name in absent)
        yield f"legacy models want {names} for a GPU: install cortex[cuda-legacy], or name a folder that has them as {NAME}"


def _package(name: str, *below: str) -> Path | None:
    """A file of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    places = [Path(place, *below) for place in (spec.submodule_search_locations or ())] if spec else []
    return next((place for place in places if place.is_file()), None)


# ---- which files, which GPUs; pure


def uncovered(header: Header) -> str | None:
    """Why this file computes on the processor although the library is there; None: it can use a GPU."""
    if header.architecture not in FAMILIES:
        return f"ctransformers has code for GPUs for {', '.join(FAMILIES)}, and this is '{header.architecture}'"
    layers = header.block_count or 0
    if header.is_legacy and header.architecture == "llama" and layers > 32 and layers not in _OLD_LLAMAS:
        known = ", ".join(map(str, _OLD_LLAMAS))
        return f"ctransformers knows llama files of up to 32 and of {known} layers on GPUs, and this has {layers}"
    return None


def unusable(devices: Sequence[Device], cuda_version: str | None) -> str | None:
    """Why an engine must not be started on any of these GPUs; `cuda_version` is the driver's."""
    if not devices:
        return "NVML tells of no NVIDIA GPU on this host"
    if _numbers(cuda_version) < _CUDA:
        told = f"is for CUDA {cuda_version}" if cuda_version else "does not say which CUDA it is for"
        return f"the NVIDIA driver {told}, and ctransformers wants one for 12.1 or newer (530.30 and later)"
    return BUILD.reason(devices)


def _numbers(version: str | None) -> tuple[int, ...]:
    """`13.0` → (13, 0); nothing known is older than everything."""
    parts = (version or "").split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()


def layers(header: Header, asked: int | None) -> int:
    """What the library is told. To llama the output, values and keys count as three layers more; it is the only one that can move those."""
    most = (header.block_count or 0) + (3 if header.architecture == "llama" else 0)
    return most if asked is None or asked < 0 else min(asked, most)


def device_bytes(header: Header, layers: int, context: int) -> int:
    """Memory of the GPU with so many layers on it and so many tokens of context."""
    weights = header.tensor_bytes * min(1.0, layers / ((header.block_count or 0) + 1))
    fixed = _CONTEXT_BYTES + _pool_bytes(header)
    if header.architecture == "falcon":
        fixed += _FALCON_FREE_BYTES
    if header.architecture == "llama":
        fixed += _llama_bytes(header, layers, context)
    return math.ceil(weights) + fixed


def host_cache_bytes(header: Header, layers: int, context: int, kv_type: str) -> int:
    """What of the KV cache stays in host memory. `kv_type` is f16 or f32."""
    return _half_cache_bytes(header, context, kv_type) * (2 - _halves_on_gpu(header, layers))


def _llama_bytes(header: Header, layers: int, context: int) -> int:
    """Scratch and cache."""
    base, each = next(row for most, *row in _SCRATCH if (header.block_count or 0) <= most)
    cache = _half_cache_bytes(header, context, "f16") * _halves_on_gpu(header, layers)
    return _BATCH * (base * 1024 + context * each) + cache


def _halves_on_gpu(header: Header, layers: int) -> int:
    """Of keys and values, llama's alone: its values go there one layer after its output, and its keys after them."""
    depth = header.block_count or 0
    return (layers > depth + 1) + (layers > depth + 2) if header.architecture == "llama" else 0


def _half_cache_bytes(header: Header, context: int, kv_type: str) -> int:
    """Of all keys; of all values it is the same."""
    return context * sum(header.kv_heads) * (header.key_length or 0) * (4 if kv_type == "f32" else 2)


def _mib(size: int) -> int:
    return -(-size // (1 << 20))


def _pool_bytes(header: Header) -> int:
    width, vocabulary = header.embedding_length or 0, header.vocab_size or 0
    bytes_each = 4 if header.architecture in ("llama", "falcon") else 6
    return width * max(vocabulary, 4 * width) * bytes_each + _BATCH_OF_PROMPT * vocabulary * 4
