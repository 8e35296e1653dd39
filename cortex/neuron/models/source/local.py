"""A model on disk, and what the names of its files say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from cortex.neuron.gguf import Header

Origin = Literal["models_dir", "hf_cache"]

PROJECTOR_ORDER = {"F16": 0, "BF16": 1, "F32": 2}  # of several: llama.cpp's tools choose F16; quantised ones come last

# Q4_K_M, IQ4_XS, UD-Q4_K_XL, Q4_0_4_4, BF16, F16, FP16, MXFP4, MXFP4_MOE, NVFP4, TQ1_0 as words of a file's name
_QUANT = re.compile(
    r"(?<![A-Z0-9])((?:UD-)?I?Q\d(?:_(?:\d|K|P|NL|X{0,2}[SL]|M))*|BF16|FP?16|FP?32|MXFP4(?:_MOE)?|NVFP4|TQ\d_\d)(?![A-Z0-9])",
    re.IGNORECASE,
)
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A complete model on this host.

    id          what clients ask for: `org/repo`, `org/repo:QUANT` or a path below models_dir without the suffix
    repo        `org/repo`, when folders or the cache say so
    quant       from the file's name, else from its header; None when neither says
    files       the parts in order; engines are given the first
    size_bytes  of all parts
    mmproj      the projector that goes with it, of `mmproj_bytes`
    header      of the first part, with the tensors and bytes of all
    """

    id: str
    repo: str | None
    quant: str | None
    files: tuple[Path, ...]
    size_bytes: int
    mmproj: Path | None
    origin: Origin
    header: Header
    mmproj_bytes: int = 0

    @property
    def path(self) -> Path:
        """The file that an engine opens."""
        return self.files[0]

    @property
    def file_name(self) -> str:
        return self.path.name


class PartName(NamedTuple):
    """`x-00002-of-00003` is part 2 of 3 of `x`; any other name is part 1 of 1 of itself."""

    stem: str
    number: int
    parts: int


def part_name(stem: str) -> PartName:
    """Read a file name without its suffix."""
    match = _PART.match(stem)
    return PartName(match["stem"], int(match["number"]), int(match["count"])) if match else PartName(stem, 1, 1)


def quant_in_name(name: str) -> str | None:
    """The last quantisation that a file's name mentions, in capitals: `Qwen3-0.6B-UD-Q4_K_XL` → `UD-Q4_K_XL`."""
    found = _QUANT.findall(name)
    return found[-1].upper() if found else None


def without_quant(stem: str) -> str:
    """A file's name without its quantisation, in small letters: what variants of one model share."""
    return _QUANT.sub("", stem).strip("-_. ").lower()


def is_gguf(name: str) -> bool:
    """Whether a file name ends in `.gguf`. Hidden files are other programs' own."""
    return name.lower().endswith(".gguf") and not name.startswith(".")


def may_be_model(name: str) -> bool:
    """Also `.bin`, which files of before GGUF are called, and much else that is none: their first bytes tell."""
    return name.lower().endswith((".gguf", ".bin")) and not name.startswith(".")
