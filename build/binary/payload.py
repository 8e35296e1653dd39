"""The unpacked program → one file: launcher, compressed payload, trailer. launcher.c documents the format."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from binary.environment import Workshop

MAGIC = b"CORTEXF1"
HERE = Path(__file__).resolve().parent
ENTRY = struct.Struct("<IIQ")
TRAILER = struct.Struct("<8sQQ32s")
LEVEL = 19  # zstd's highest that unpacks within 8 MiB of memory

# The compressor runs in the build's environment, where Nuitka[onefile] brings zstandard.
_COMPRESS = """
import sys, zstandard
with open(sys.argv[2], "wb") as output:
    zstandard.ZstdCompressor(level=int(sys.argv[3]), write_checksum=True).copy_stream(open(sys.argv[1], "rb"), output)
"""


def pack(shop: Workshop, program: Path, output: Path) -> None:
    """`program` (a folder) as the executable file `output`."""
    plain, packed = shop.folder / "payload", shop.folder / "payload.zst"
    with plain.open("wb") as archive:
        for piece in entries(program):
            archive.write(piece)
    subprocess.run([shop.python, "-c", _COMPRESS, plain, packed, str(LEVEL)], check=True)
    launcher, payload = build_launcher(shop).read_bytes(), packed.read_bytes()
    identity = hashlib.sha256(payload).hexdigest()[:32].encode()
    trailer = TRAILER.pack(MAGIC, len(launcher), len(payload), identity)
    output.parent.mkdir(parents=True, exist_ok=True)
    fresh = output.with_name(output.name + ".new")
    fresh.write_bytes(launcher + payload + trailer)
    fresh.chmod(0o755)
    fresh.replace(output)  # whoever runs the old one keeps it
    plain.unlink()


def entries(folder: Path) -> Iterator[bytes]:
    """The payload's stream, in a fixed order, so that the same program gives the same file."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, content = str(file.relative_to(folder)).encode(), file.read_bytes()
        mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
        yield ENTRY.pack(mode, len(name), len(content)) + name + content
    yield ENTRY.pack(0, 0, 0)


def build_launcher(shop: Workshop) -> Path:
    """Linked statically: it runs on any Linux of this processor, and can say what is missing for the rest."""
    zstd = next(shop.packages.glob("nuitka/build/inline_copy/zstd"))
    launcher = shop.folder / "launcher"
    # Position independent where this system's C library can be linked so (some bring no start code for it).
    start = subprocess.run(["gcc", "-print-file-name=rcrt1.o"], capture_output=True, text=True, check=True).stdout
    static = "-static-pie" if start.startswith("/") else "-static"
    flags = [static, "-Os", "-s", "-Wall", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"]
    sources = [HERE / "launcher.c", HERE / "zstd.c"]
    subprocess.run(["gcc", *flags, f"-I{zstd}", "-o", launcher, *sources], check=True)
    return launcher


def mb(size: int) -> float:
    return round(size / 1_000_000, 1)
