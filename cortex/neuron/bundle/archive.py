"""The bytes around a bundle's members, as POSIX pax has them (IEEE Std 1003.1, pax, "ustar Interchange Format"). Pure.

They follow from a member's name and size alone, so that reading is comparing.
"""

from __future__ import annotations

import tarfile

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a link",
    tarfile.DIRTYPE: "a folder",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.XGLTYPE: "an extended header",
    tarfile.XHDTYPE: "an extended header",
    tarfile.GNUTYPE_LONGNAME: "an extended header",
    tarfile.GNUTYPE_LONGLINK: "an extended header",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


def header(name: str, size: int) -> bytes:
    """Whole blocks; more than one for a name or size beyond the old format's."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def padding(size: int) -> bytes:
    """What fills the last block of a content."""
    return bytes(-size % BLOCK)


def size_said(block: bytes, name: str) -> int | None:
    """The size that a header of one block gives; None when it is not the header of a plain file of this name."""
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    return info.size if info.name == name and info.isreg() and info.size >= 0 else None


def difference(found: bytes, name: str, size: int) -> str:
    """What is wrong with a header that is not `header(name, size)`."""
    if not any(found):
        return "it is missing: the archive ends before it"
    try:
        info = tarfile.TarInfo.frombuf(found[:BLOCK], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return "its header is damaged"
    said = "".join(letter if letter.isprintable() else "?" for letter in info.name)
    if not info.isreg():
        return f"{_KINDS.get(info.type, 'something else')} '{said}' is in its place"
    if info.name != name:
        return f"'{said}' is in its place"
    return f"its header says {info.size} bytes instead of {size}" if info.size != size else "its header was altered"
