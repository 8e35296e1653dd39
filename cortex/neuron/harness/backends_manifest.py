"""`backends.json`: which backends a folder holds, as build/backends writes it. Pure; whatever a file says, the answer is a manifest or a sentence.

    {"xllamacpp": "2026.10.11549",
     "cpu":  [{"file": "libggml-cpu-zen4.so", "needs": ["avx512f", "avx512_vnni"]}],
     "cuda": {"file": "libggml-cuda.so", "version": "13.0", "architectures": ["90-real"],
              "libraries": ["libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13"]}}

Files are names in that folder. `cuda` may be null. Keys that are not known are passed over, none of these may be missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MOST = 64  # entries of any list
_FILE = re.compile(r"[\w+-][\w.+-]{0,127}", re.ASCII)
_FEATURE = re.compile(r"[a-z0-9_]{1,32}")
_VERSION = re.compile(r"\d{1,4}(?:\.[\w+-]{1,16}){0,4}", re.ASCII)
_ARCHITECTURE = re.compile(r"\d{2,3}[a-z]?(?:-real|-virtual)?")


@dataclass(frozen=True, slots=True)
class CpuBackend:
    """llama.cpp's code for a kind of processor. `needs` are names of /proc/cpuinfo's flags."""

    file: str
    needs: tuple[str, ...]

    @property
    def variant(self) -> str:
        """As llama.cpp calls it: "zen4" of libggml-cpu-zen4.so."""
        return self.file.removeprefix("libggml-cpu-").removesuffix(".so")


@dataclass(frozen=True, slots=True)
class CudaBackend:
    """llama.cpp's code for NVIDIA GPUs.

    version        of CUDA
    architectures  CMake's words: "90-real" is machine code for compute capability 9.0, "90-virtual" is PTX, "90" both
    libraries      NVIDIA's own, in the order in which they are to be loaded
    """

    file: str
    version: str
    architectures: tuple[str, ...]
    libraries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """`xllamacpp` is the only version of the library that these backends fit. `cpu` has the best first."""

    xllamacpp: str
    cpu: tuple[CpuBackend, ...] = ()
    cuda: CudaBackend | None = None

    @property
    def files(self) -> tuple[str, ...]:
        cuda = (self.cuda.file, *self.cuda.libraries) if self.cuda else ()
        return (*(each.file for each in self.cpu), *cuda)


def parse(text: bytes) -> Manifest:
    """Raises ValueError, a sentence's end that names the place."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is no JSON") from None
    table = _table(whole, "the whole")
    return Manifest(
        xllamacpp=_word(table, "xllamacpp", _VERSION, "a version"),
        cpu=tuple(_cpu(entry, place) for place, entry in _entries(table, "cpu")),
        cuda=None if _field(table, "cuda") is None else _cuda(_table(table["cuda"], "cuda")),
    )


def _cpu(entry: Any, place: str) -> CpuBackend:
    table, under = _table(entry, place), f"{place}."
    return CpuBackend(
        file=_word(table, "file", _FILE, "a file's name", under),
        needs=_words(table, "needs", _FEATURE, "a flag of /proc/cpuinfo", under),
    )


def _cuda(table: dict[str, Any]) -> CudaBackend:
    architectures = _words(table, "architectures", _ARCHITECTURE, 'an architecture such as "90-real"', "cuda.")
    if not architectures:
        raise ValueError("is wrong: cuda.architectures is empty")
    return CudaBackend(
        file=_word(table, "file", _FILE, "a file's name", "cuda."),
        version=_word(table, "version", _VERSION, "a version", "cuda."),
        architectures=architectures,
        libraries=_words(table, "libraries", _FILE, "a file's name", "cuda."),
    )


def _table(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"is wrong: {place} is no object")  # noqa: TRY004  one kind of error for one kind of mistake
    return value


def _field(table: dict[str, Any], key: str, under: str = "") -> Any:
    if key not in table:
        raise ValueError(f"is wrong: {under}{key} is missing")
    return table[key]


def _entries(table: dict[str, Any], key: str, under: str = "") -> Iterator[tuple[str, Any]]:
    entries = _field(table, key, under)
    if not isinstance(entries, list) or len(entries) > MOST:
        raise ValueError(f"is wrong: {under}{key} is no list of at most {MOST} entries")
    return ((f"{under}{key}[{number}]", entry) for number, entry in enumerate(entries))


def _word(table: dict[str, Any], key: str, form: re.Pattern[str], what: str, under: str = "") -> str:
    return _matching(_field(table, key, under), form, f"{under}{key}", what)


def _words(table: dict[str, Any], key: str, form: re.Pattern[str], what: str, under: str) -> tuple[str, ...]:
    return tuple(_matching(entry, form, place, what) for place, entry in _entries(table, key, under))


def _matching(value: Any, form: re.Pattern[str], place: str, what: str) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ValueError(f"is wrong: {place} is not {what}")
    return value
