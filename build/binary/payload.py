"""The unpacked program → one file: launcher, compressed payload, trailer. launcher/ documents the format."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
from pathlib import Path
from typing import BinaryIO

from binary.environment import Workshop

MAGIC = b"CORTEXF1"
LAUNCHER = Path(__file__).resolve().parent / "launcher"
ENTRY = struct.Struct("<IIQ")
TRAILER = struct.Struct("<8sQQ32s")
LEVEL = 19  # zstd's highest that unpacks within 8 MiB of memory

# The compressor runs in the build's environment, where Nuitka[onefile] brings zstandard. The size goes into the frame's
# header: from there the launcher knows how much room it needs.
_COMPRESS = """
import os, sys, zstandard
with open(sys.argv[1], "rb") as plain, open(sys.argv[2], "wb") as output:
    compressor = zstandard.ZstdCompressor(level=int(sys.argv[3]), write_checksum=True)
    compressor.copy_stream(plain, output, size=os.fstat(plain.fileno()).st_size)
"""


def pack(shop: Workshop, program: Path, output: Path, level: int = LEVEL) -> None:
    """`program` (a folder) as the executable file `output`."""
    plain, packed = shop.folder / "payload", shop.folder / "payload.zst"
    with plain.open("wb") as archive:
        write_entries(program, archive)
    subprocess.run([shop.python, "-c", _COMPRESS, plain, packed, str(level)], check=True)
    plain.unlink()
    output.parent.mkdir(parents=True, exist_ok=True)
    fresh = output.with_name(output.name + ".new")
    with fresh.open("wb") as file, packed.open("rb") as payload:  # copied by pieces: CUDA's libraries are large
        file.write(build_launcher(shop).read_bytes())
        offset = file.tell()
        shutil.copyfileobj(payload, file)
        file.write(TRAILER.pack(MAGIC, offset, file.tell() - offset, _identity(packed)))
    fresh.chmod(0o755)
    fresh.replace(output)  # whoever runs the old one keeps it


def _identity(packed: Path) -> bytes:
    with packed.open("rb") as payload:
        return hashlib.file_digest(payload, "sha256").hexdigest()[:32].encode()


def write_entries(folder: Path, archive: BinaryIO) -> None:
    """The payload's stream, in a fixed order, so that the same program gives the same file."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, status = str(path.relative_to(folder)).encode(), path.stat()
        archive.write(ENTRY.pack(0o755 if status.st_mode & 0o100 else 0o644, len(name), status.st_size) + name)
        with path.open("rb") as file:
            shutil.copyfileobj(file, archive)
    archive.write(ENTRY.pack(0, 0, 0))


def build_launcher(shop: Workshop) -> Path:
    """Linked statically: it runs on any Linux of this processor, and can say what is missing for the rest."""
    zstd = next(shop.packages.glob("nuitka/build/inline_copy/zstd"))
    launcher = shop.folder / "launcher"
    # Position independent where this system's C library can be linked so (some bring no start code for it).
    start = subprocess.run(["gcc", "-print-file-name=rcrt1.o"], capture_output=True, text=True, check=True).stdout
    static = "-static-pie" if start.startswith("/") else "-static"
    flags = [static, "-Os", "-s", "-Wall", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"]
    sources = sorted(LAUNCHER.glob("*.c"))
    subprocess.run(["gcc", *flags, f"-I{zstd}", "-o", launcher, *sources], check=True)
    return launcher


def mb(size: int) -> float:
    return round(size / 1_000_000, 1)
