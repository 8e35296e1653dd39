"""Mathematics of older systems: a library made on a newer one runs on both."""

import ctypes
import math
import shutil
import subprocess

import pytest
from binary import linkage, rebind

SOURCE = """
#include <math.h>
double powers(double x) { return pow(x, 1.5) + exp(x) + log(x); }
double others(double x) { return sqrt(x) + floor(x); }
"""

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("objdump")), reason="gcc and objdump are not installed"
)


@pytest.fixture
def library(tmp_path):
    source, made = tmp_path / "powers.c", tmp_path / "libpowers.so"
    source.write_text(SOURCE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-fno-builtin", "-o", made, source, "-lm"], check=True)
    return made


def test_newer_mathematics_is_taken_from_every_glibc(library):
    """exp, log and pow are asked for by their first version; the results are the same, and the rest is untouched."""
    before = linkage.versions(library)
    if (2, 29) not in before:
        pytest.skip("this system's glibc has no newer mathematics")
    assert rebind.rebind(library.parent, (2, 28)) == ["libpowers.so: exp, log, pow"]
    after = linkage.versions(library)
    assert (2, 29) not in after
    assert after[2, 2, 5] == before[2, 2, 5] | {"exp", "log", "pow"}
    loaded = ctypes.CDLL(str(library))
    loaded.powers.restype, loaded.powers.argtypes = ctypes.c_double, [ctypes.c_double]
    assert loaded.powers(2.5) == math.pow(2.5, 1.5) + math.exp(2.5) + math.log(2.5)


def test_a_second_time_changes_nothing(library):
    """And neither does a limit that the library keeps."""
    rebind.rebind(library.parent, (2, 28))
    image = library.read_bytes()
    assert rebind.rebind(library.parent, (2, 28)) == []
    assert library.read_bytes() == image


def test_hashes_are_those_of_the_format():
    """glibc's own value for its first version, as every program on x86-64 carries it."""
    assert rebind.elf_hash(b"GLIBC_2.2.5") == 0x09691A75
