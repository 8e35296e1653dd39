"""build/compile: the order of the steps. Progress goes to stderr; the last line on stdout is JSON with sizes and minutes."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from binary import environment, facts, libraries, linkage, nuitka, payload, rebind, sbom, trim
from binary.flavours import FLAVOURS, Flavour, Refused

GLIBC = (2, 28)  # RHEL 8, Debian 10, Ubuntu 20.04 and everything later


def main() -> int:
    args = _arguments()
    flavour = FLAVOURS[args.flavour]
    output = args.output or environment.ROOT / "dist" / (
        "cortex" if flavour.name == "cpu" else f"cortex-{flavour.name}"
    )
    try:
        made = build(flavour, output, engine_wheel=args.engine_wheel, jobs=args.jobs)
    except Refused as refusal:
        return _fail(str(refusal))
    except subprocess.CalledProcessError as error:
        return _fail(f"{Path(str(error.cmd[0])).name} ended with exit code {error.returncode}; its own words are above")
    if args.glibc and linkage.parse(made["glibc"]) > linkage.parse(args.glibc):
        return _fail(
            f"the program needs glibc {made['glibc']}, more than {args.glibc}; the list above says which files"
        )
    print(json.dumps(made))
    return 0


def build(flavour: Flavour, output: Path, *, engine_wheel: Path | None, jobs: int) -> dict[str, Any]:
    """One file at `output`, and what is to be known of it beside it. Raises Refused, CalledProcessError."""
    began = time.monotonic()
    shop = environment.workshop(flavour)
    say(f"① environment from {environment.LOCK.name} in {shop.folder}")
    environment.install(shop, flavour, engine_wheel)
    environment.copy_sources(shop)
    known = facts.write(shop, flavour)
    say(f"② Nuitka, {jobs} at a time: flavour {flavour.name}, commit {known['git_sha']}")
    program = nuitka.compile_program(shop, jobs)
    counts = nuitka.compiled_modules(shop)
    say(f"   {nuitka.c_files(shop)} C files: " + ", ".join(f"{package} {count}" for package, count in counts))
    environment.add_legacy_library(shop, program)
    environment.add_versions(shop, program)
    say("   from this machine: " + ", ".join(libraries.add_missing(program)))
    say("③ trimming: " + ", ".join(trim.trim(program)))
    say("   older mathematics: " + "; ".join(rebind.rebind(program, GLIBC)))
    say("④ what of glibc it needs beyond " + linkage.text(GLIBC))
    beyond = linkage.describe(program, GLIBC)
    for line in beyond:
        say(f"   {line}")
    needed = linkage.text(linkage.highest(program))
    say(f"   in all: glibc {needed}")
    say("⑤ one file")
    payload.pack(shop, program, output)
    made = {
        "file": str(output),
        "flavour": flavour.name,
        "glibc": needed,
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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="build/compile",
        description="Make one executable file of this checkout: it runs either role on a host that has nothing else.",
        epilog="flavours:\n"
        + "\n".join(f"  {each.name:<10} {each.gpus}" for each in FLAVOURS.values())
        + "\n\nIt needs gcc with glibc's static library, binutils, and Python 3.11 or newer with its shared library or its\n"
        "own static one; ccache makes the second build cheap (Debian: apt-get install gcc libc6-dev binutils ccache).\n"
        "The file runs where glibc is as new as that of the Python it was made with: build on the oldest system that is to\n"
        "be served. A flavour with CUDA wants xllamacpp's CUDA wheel (--engine-wheel; its README names the indexes, and it\n"
        "needs glibc 2.35), or nvcc, cmake, cargo and an internet connection to build the library here.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--flavour", choices=FLAVOURS, default="cpu", help="which GPUs engines can use (cpu)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="dist/cortex, or dist/cortex-FLAVOUR")
    parser.add_argument(
        "--engine-wheel", type=Path, metavar="FILE", help="a wheel of xllamacpp in place of the index's"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="compilers at a time (all cores)")
    parser.add_argument("--glibc", metavar="2.28", help="fail when the program needs more")
    return parser.parse_args()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fail(message: str) -> int:
    say(f"build/compile: {message}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
