"""The C interface of ctransformers 0.2.27: one model a process, one thread at a time. The only caller of its code."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]

_NO_BOS = False
_TOKENS_A_BYTE = 3  # at most: a space becomes U+2581, and that its three bytes where it is no token; one space is added
_INTS = ctypes.POINTER(ctypes.c_int)
_FLOATS = ctypes.POINTER(ctypes.c_float)


class LibraryError(RuntimeError):
    """The library said no. It does not say why; its own words are on standard error."""


class _Config(ctypes.Structure):
    _fields_ = (
        ("context_length", ctypes.c_int),
        ("gpu_layers", ctypes.c_int),
        ("mmap", ctypes.c_bool),
        ("mlock", ctypes.c_bool),
    )


def build_for(cpu_flags: str) -> str:
    """Which of the library's builds a processor runs; `cpu_flags` as /proc/cpuinfo lists them."""
    flags = frozenset(cpu_flags.split())
    if {"avx2", "fma", "f16c"} <= flags:
        return "avx2"
    return "avx" if {"avx", "f16c"} <= flags else "basic"


def library_path() -> Path:
    """The shared library for this processor. Found without an import: the package would bring a hub client. Raises ImportError."""
    package = importlib.util.find_spec("ctransformers")
    if package is None or package.origin is None:
        raise ImportError("ctransformers is not installed")
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    path = Path(package.origin).parent / "lib" / build_for(flags) / "libctransformers.so"
    if not path.is_file():
        raise ImportError(f"ctransformers has no library for this processor ({path.parent.name})")
    return path


def on_processor() -> ctypes.CDLL:
    """The build for this processor. Raises ImportError."""
    return ctypes.CDLL(str(library_path()))


class Library:
    """A loaded model. Everything blocks; the caller sees to it that one thread at a time is here.

    `native` is the build that computes: the processor's, or the one for GPUs, which puts `gpu_layers` there.
    """

    def __init__(
        self,
        native: ctypes.CDLL,
        model_path: str,
        model_type: str,
        *,
        context: int,
        threads: int,
        gpu_layers: int = 0,
    ) -> None:
        self._calls = _declared(native)
        self._threads = threads
        self._model = self._calls.ctransformers_llm_create(
            model_path.encode(),
            model_type.encode(),
            _Config(context_length=context, gpu_layers=gpu_layers, mmap=True, mlock=False),
        )
        if not self._model:
            raise LibraryError("the library could not load the file")
        self.vocab_size = int(self._calls.ctransformers_llm_vocab_size(self._model))

    def tokenize(self, text: bytes) -> list[int]:
        """Token ids of a text without NUL."""
        room = (ctypes.c_int * (_TOKENS_A_BYTE * (len(text) + 1)))()
        count = self._calls.ctransformers_llm_tokenize(self._model, text, _NO_BOS, room)
        return list(room[:count])

    def evaluate(self, tokens: Sequence[int], past: int) -> None:
        """Compute `tokens` after `past` others, in one batch. Ids and the sum must be in range: nothing here checks them."""
        count = len(tokens)
        batch = (ctypes.c_int * count)(*tokens)
        if not self._calls.ctransformers_llm_batch_eval(self._model, batch, count, past, count, self._threads):
            raise LibraryError("the library could not compute these tokens")

    def logits(self) -> Logits:
        """A copy of the last token's logits, one for each token of the vocabulary."""
        size = int(self._calls.ctransformers_llm_logits_size(self._model))
        if size < self.vocab_size:
            raise LibraryError("the library has no logits")
        data = self._calls.ctransformers_llm_logits_data(self._model)
        return np.ctypeslib.as_array(data, (size,))[size - self.vocab_size :].copy()


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    handle, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures = {
        "create": (handle, [text, text, _Config]),
        "vocab_size": (number, [handle]),
        "tokenize": (number, [handle, text, ctypes.c_bool, _INTS]),
        "batch_eval": (ctypes.c_bool, [handle, _INTS, number, number, number, number]),
        "logits_size": (number, [handle]),
        "logits_data": (_FLOATS, [handle]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"ctransformers_llm_{name}")
        function.restype, function.argtypes = result, arguments
    return library
