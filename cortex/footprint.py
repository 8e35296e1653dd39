"""Memory that only the start of the compiled program needed, given back once it is ready.

Its code and constants are one mapped file of some 40 MB. The start walks through nearly all of it, and the kernel counts
every page as resident from then on. Given back, a page comes from the file's cache again when it is used: what stays is
what a role really runs through, a fifth of it.
"""

from __future__ import annotations

import ctypes
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from cortex.executable import is_compiled

_MADV_DONTNEED = 4  # of a mapping of a file that nobody wrote to: the pages are forgotten, not lost
_HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-[-x]p \S+ \S+ \d+ +(/.*)")
log = logging.getLogger(__name__)


def give_back() -> None:
    """Does nothing from source, or where the kernel does not tell enough."""
    if not is_compiled():
        return
    try:
        folder = f"{Path('/proc/self/exe').readlink().parent}/"
        libc = ctypes.CDLL(None)
        for address, length in clean_mappings(Path("/proc/self/smaps").read_text(), folder):
            libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(length), _MADV_DONTNEED)
    except OSError as error:
        log.debug("memory of the start stays resident: %s", error)


def clean_mappings(smaps: str, folder: str) -> Iterator[tuple[int, int]]:
    """Address and length of each read-only mapping of a file below `folder` in which no page is our own.

    `smaps` is the text of /proc/PID/smaps (proc(5)). A page that was written to, by relocations for example, would be
    read from the file again without what was written.
    """
    found: tuple[int, int] | None = None
    for line in smaps.splitlines():
        if head := _HEAD.fullmatch(line):
            begin, end = int(head[1], 16), int(head[2], 16)
            found = (begin, end - begin) if head[3].startswith(folder) else None
        elif line[:1] in "0123456789abcdef":  # another mapping; a value's name begins with a capital letter
            found = None
        elif found and line.startswith("Anonymous:"):
            if line.split()[1] == "0":
                yield found
            found = None
