"""Backends put into the engine's library, in the engine process and before a model is loaded: the only place that loads them.

ggml keeps a registry of backends. The library brings one, "CPU"; the files of a specification replace it and add to it.
They were compiled without the functions that all backends share, and find those in the library: its symbols become the
process's. A CPU backend that cannot be used changes nothing but speed: the built-in one stays, and the answer says why.
A GPU backend that cannot be used, or sees no GPU, fails the load: the processor never stands in silently for a GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cortex.neuron.engine.outcome import EngineFailed
from cortex.neuron.engine.spec import EngineSpec

_LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_Reg = ctypes.c_void_p
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ggml_backend_load": (_Reg, (ctypes.c_char_p,)),
    "ggml_backend_unload": (None, (_Reg,)),
    "ggml_backend_reg_by_name": (_Reg, (ctypes.c_char_p,)),
    "ggml_backend_reg_name": (ctypes.c_char_p, (_Reg,)),
    "ggml_backend_reg_dev_count": (ctypes.c_size_t, (_Reg,)),
    "ggml_log_set": (None, (_LogCallback, ctypes.c_void_p)),
}


def load(library: str, spec: EngineSpec) -> dict[str, str]:
    """Put the backends of `spec` into `library`, a loaded file. Raises EngineFailed (backend).

    Returns what became of the CPU backend, if there is one: `{"cpu_backend": file}` or `{"cpu_backend_problem": sentence}`.
    """
    if not (spec.cpu_backend or spec.gpu_backend):
        return {}
    registry = _Registry(library)
    if spec.gpu_backend:
        _add_gpu(registry, spec.gpu_backend, spec.gpu_libraries)
    return _replace_cpu(registry, spec.cpu_backend) if spec.cpu_backend else {}


def _add_gpu(registry: _Registry, file: str, libraries: tuple[str, ...]) -> None:
    try:
        registry.add_gpu(file, libraries)
    except _Unusable as why:
        raise EngineFailed(f"the GPU backend '{Path(file).name}' {why}", kind="backend") from None


def _replace_cpu(registry: _Registry, file: str) -> dict[str, str]:
    name = Path(file).name
    try:
        registry.replace_cpu(file)
    except _Unusable as why:
        problem = f"the CPU backend '{name}' {why}; the built-in one, which is slower, computes in its place"
        sys.stderr.write(problem + "\n")
        return {"cpu_backend_problem": problem}
    return {"cpu_backend": name}


class _Unusable(Exception):  # noqa: N818  reads as what was found out
    """Why a backend cannot be used."""


class _Registry:
    """ggml's, in the library."""

    def __init__(self, library: str) -> None:
        self._ggml = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(self._ggml, name)
            function.restype, function.argtypes = result, arguments

    def replace_cpu(self, file: str) -> None:
        """The built-in one leaves when the new one is there. Raises _Unusable, and has changed nothing then."""
        _check_score(_open(file))
        built_in = self._ggml.ggml_backend_reg_by_name(b"CPU")
        added, _ = self._load(file)
        if (name := self._ggml.ggml_backend_reg_name(added)) != b"CPU":
            self._ggml.ggml_backend_unload(added)
            raise _Unusable(f"is none: it calls itself {name.decode(errors='replace')!r}")
        self._ggml.ggml_backend_unload(built_in)

    def add_gpu(self, file: str, libraries: tuple[str, ...]) -> None:
        """Raises _Unusable."""
        for each in (*libraries, file):
            _open(each)
        added, complaint = self._load(file)
        if self._ggml.ggml_backend_reg_dev_count(added) == 0:
            raise _Unusable(f"sees no GPU{complaint}")

    def _load(self, file: str) -> tuple[int, str]:
        """The backend, and what it complained of."""
        with self._overheard() as said:
            added: int | None = self._ggml.ggml_backend_load(file.encode())
        complaints = [line for line in "".join(said).splitlines() if "failed" in line or "error" in line]
        complaint = f": {_without_folder(complaints[0], file)}" if complaints else ""
        if not added:
            raise _Unusable(f"is refused by the engine's library{complaint}")
        return added, complaint

    @contextlib.contextmanager
    def _overheard(self) -> Iterator[list[str]]:
        """What ggml says meanwhile; it goes to the log as ever."""
        said: list[str] = []

        def listen(_level: int, text: bytes, _user: object) -> None:
            said.append(text.decode(errors="replace"))
            sys.stderr.write(said[-1])

        callback = _LogCallback(listen)
        self._ggml.ggml_log_set(callback, None)
        try:
            yield said
        finally:
            self._ggml.ggml_log_set(_LogCallback(), None)
            sys.stderr.flush()


def _open(file: str) -> ctypes.CDLL:
    """Loaded as ggml would, but with the loader's own words when it cannot be."""
    try:
        return ctypes.CDLL(file)
    except OSError as error:
        raise _Unusable(f"cannot be loaded: {_without_folder(str(error), file)}") from None


def _check_score(module: ctypes.CDLL) -> None:
    """A CPU backend rates itself on the processor that it finds; 0: it would die there of an illegal instruction."""
    rate = getattr(module, "ggml_backend_score", None)
    if rate is None:
        raise _Unusable("is none: it has no ggml_backend_score")
    if rate() <= 0:
        raise _Unusable("does not run on this processor")


def _without_folder(text: str, file: str) -> str:
    return text.replace(f"{Path(file).parent}/", "")
