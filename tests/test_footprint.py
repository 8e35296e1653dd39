"""Which memory the compiled program gives back after its start."""

import mmap
from pathlib import Path

from cortex.footprint import clean_mappings, give_back

SMAPS = """\
10000-12000 r--p 00000000 fe:00 1 /cache/id/cortex
Rss:                   8 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
12000-15000 r-xp 00002000 fe:00 1                    /cache/id/cortex
Anonymous:             0 kB
15000-16000 r--p 00005000 fe:00 1                    /cache/id/cortex
Anonymous:             4 kB
16000-17000 rw-p 00006000 fe:00 1                    /cache/id/cortex
Anonymous:             0 kB
17000-18000 rw-p 00000000 00:00 0 [heap]
Anonymous:             0 kB
20000-21000 r-xp 00000000 fe:00 2                    /usr/lib/libc.so.6
Anonymous:             0 kB
30000-31000 r-xp 00000000 fe:00 3                    /cache/id/lib with space.so
Anonymous:             0 kB
"""


def test_only_clean_pages_of_the_program_are_given_back():
    """Code and constants of our files: nothing that was written to, no heap, and nobody else's library."""
    assert list(clean_mappings(SMAPS, "/cache/id/")) == [(0x10000, 0x2000), (0x12000, 0x3000), (0x30000, 0x1000)]


def test_the_kernels_own_words_are_understood(tmp_path):
    """A real mapping of a file is found."""
    file = tmp_path / "mapped"
    file.write_bytes(b"x" * mmap.PAGESIZE * 2)
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE) as mapped,
    ):
        assert mapped[0:1] == b"x"
        smaps = Path("/proc/self/smaps").read_text()
        assert [length for _, length in clean_mappings(smaps, f"{tmp_path}/")] == [mmap.PAGESIZE * 2]


def test_from_source_nothing_is_given_back():
    """The interpreter's memory is not ours to judge."""
    give_back()
