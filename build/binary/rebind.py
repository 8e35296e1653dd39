"""Mathematics of older systems: functions whose newer version brings nothing that a program here would notice.

glibc gave exp, log, pow and their like new versions when they stopped reporting errors through matherr, which nobody has
used since; the versions of 1997 are in every glibc and give the same results. A file that asks for `exp@GLIBC_2.29` is
made to ask for `exp@GLIBC_2.2.5`, so that wheels and libraries built on a newer system run on an older one. Nothing moves
in the file: an entry of its table of needed versions is given another name, which its string table has already.

Formats: System V gABI (sections, string tables), Linux Standard Base 5.0 (symbol versions: Elfxx_Verneed, Elfxx_Vernaux).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from binary.linkage import Version, elf_files, parse
from binary.toolkit import NVIDIA

OLD = b"GLIBC_2.2.5"  # the first of x86-64
SAME = frozenset(("exp", "exp2", "log", "log2", "pow", "hypot", "hypotf", "fmod", "fmodf"))
LIBRARY = b"libm.so.6"

_SECTION = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
_VERNEED = struct.Struct("<HHIII")  # version, entries, file, first entry, next
_VERNAUX = struct.Struct("<IHHII")  # hash, flags, index, name, next
_DYNSYM, _VERNEEDS, _VERSYM = 11, 0x6FFFFFFE, 0x6FFFFFFF  # sh_type


class Section(NamedTuple):
    """Where in the file, how long, and the number of the section that it refers to."""

    offset: int
    size: int
    link: int


@dataclass(frozen=True, slots=True)
class Need:
    """One entry of the table: `version` of `library` is asked for by symbols with the number `index`. `at`: its offset."""

    at: int
    library: bytes
    version: bytes
    index: int


def rebind(program: Path, limit: Version) -> list[str]:
    """Every file below `program` that asks for newer mathematics than `limit`; tells what was changed as text."""
    told = []
    for file in elf_files(program):
        if NVIDIA.match(file.name):  # passed on as they are
            continue
        image = bytearray(file.read_bytes())
        if changed := rebound(image, limit):
            file.write_bytes(image)
            told.append(f"{file.relative_to(program)}: {', '.join(sorted(changed))}")
    return told


def rebound(image: bytearray, limit: Version) -> set[str]:
    """Change the image of one ELF file in place; the names of the functions that it takes from the older version now."""
    found = sections(image)
    if not {_DYNSYM, _VERNEEDS, _VERSYM} <= found.keys():
        return set()
    names = found[_VERNEEDS].link
    strings = _section(image, names)
    old = image.find(b"\0" + OLD + b"\0", strings.offset, strings.offset + strings.size)
    if old < 0:
        return set()
    changed: set[str] = set()
    for need in needs(image, found[_VERNEEDS], strings):
        symbols = users(image, found, need.index)
        if need.library == LIBRARY and _newer(need.version, limit) and symbols <= SAME:
            _, flags, index, _, following = _VERNAUX.unpack_from(image, need.at)
            _VERNAUX.pack_into(image, need.at, elf_hash(OLD), flags, index, old + 1 - strings.offset, following)
            changed |= symbols
    return changed


def needs(image: bytearray, table: Section, strings: Section) -> Iterator[Need]:
    at = table.offset
    while True:
        _, count, file, first, following = _VERNEED.unpack_from(image, at)
        entry = at + first
        for _ in range(count):
            _, _, index, name, more = _VERNAUX.unpack_from(image, entry)
            yield Need(entry, _string(image, strings, file), _string(image, strings, name), index)
            entry += more
        if not following:
            return
        at += following


def users(image: bytearray, found: dict[int, Section], index: int) -> set[str]:
    """The names of the dynamic symbols whose version has the number `index`."""
    symbols, versions = found[_DYNSYM], found[_VERSYM]
    strings = _section(image, symbols.link)
    count = versions.size // 2
    numbers = struct.unpack_from(f"<{count}H", image, versions.offset)
    at = (symbols.offset + 24 * each for each, number in enumerate(numbers) if number & 0x7FFF == index)
    return {_string(image, strings, int.from_bytes(image[each : each + 4], "little")).decode() for each in at}


def sections(image: bytearray) -> dict[int, Section]:
    """By type; of a type that is there several times, the last."""
    count = int.from_bytes(image[60:62], "little")
    return {_section_type(image, number): _section(image, number) for number in range(count)}


def _section(image: bytearray, number: int) -> Section:
    _, _, _, _, offset, size, link, _, _, _ = _SECTION.unpack_from(image, _header(image, number))
    return Section(offset, size, link)


def _section_type(image: bytearray, number: int) -> int:
    return int.from_bytes(image[_header(image, number) + 4 : _header(image, number) + 8], "little")


def _header(image: bytearray, number: int) -> int:
    return int.from_bytes(image[40:48], "little") + number * _SECTION.size


def _string(image: bytearray, strings: Section, offset: int) -> bytes:
    start = strings.offset + offset
    return bytes(image[start : image.index(b"\0", start)])


def _newer(version: bytes, limit: Version) -> bool:
    name, _, number = version.decode().partition("_")
    return name == "GLIBC" and parse(number) > limit


def elf_hash(name: bytes) -> int:
    """The hash of a version's name (gABI, "Hash Table")."""
    value = 0
    for byte in name:
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high
    return value
