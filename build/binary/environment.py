"""A clean virtual environment from compile.lock, with the flavour's engine library, and a clean copy of the sources."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from binary.flavours import Flavour, Refused, check_tools

ROOT = Path(__file__).resolve().parent.parent.parent
LOCK = ROOT / "build" / "compile.lock"
ENGINE = "xllamacpp"
LEGACY = "ctransformers"


@dataclass(frozen=True, slots=True)
class Workshop:
    """The folders of one flavour's build."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    @property
    def packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "venv" / "lib" / version / "site-packages"

    @property
    def sources(self) -> Path:
        return self.folder / "src"

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def report(self) -> Path:
        return self.folder / "report.xml"


def workshop(flavour: Flavour) -> Workshop:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cortex-build"
    folder = Path(os.environ.get("CORTEX_BUILD_CACHE") or default) / flavour.name
    folder.mkdir(parents=True, exist_ok=True)
    return Workshop(folder)


def install(shop: Workshop, flavour: Flavour, engine_wheel: Path | None) -> None:
    """Make the environment, unless one of the same ingredients is there."""
    wanted = hashlib.sha256(LOCK.read_bytes() + sys.version.encode() + str(engine_wheel).encode()).hexdigest()
    stamp = shop.folder / "venv" / ".made-from"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if flavour.is_cuda and engine_wheel is None:
        check_tools(flavour)
    subprocess.run([sys.executable, "-m", "venv", "--clear", shop.folder / "venv"], check=True)
    _pip(shop, "--require-hashes", "-r", LOCK)
    if engine_wheel or flavour.is_cuda:
        _pip(shop, "--force-reinstall", "--no-deps", engine_wheel or _build_engine(shop, flavour))
    _strip_engine(shop)
    stamp.write_text(wanted)


def _pip(shop: Workshop, *arguments: str | Path) -> None:
    subprocess.run([shop.python, "-m", "pip", "install", "-qq", *arguments], check=True)


def _build_engine(shop: Workshop, flavour: Flavour) -> Path:
    """The library from its source package, for one CUDA family. Raises Refused with the end of its log."""
    wheels, log = shop.folder / "wheels", shop.folder / "engine.log"
    pinned = next(line.split()[0] for line in LOCK.read_text().splitlines() if line.startswith(f"{ENGINE}=="))
    command = [str(shop.python), "-m", "pip", "wheel", "--no-deps", "--no-binary", ENGINE, "-w", str(wheels), pinned]
    environment = os.environ | {"XLLAMACPP_BUILD_CUDA": "1", "CUDA_ARCHITECTURES": flavour.architectures}
    with log.open("wb") as output:
        done = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False)
    if done.returncode != 0:
        raise Refused(
            f"{pinned} with CUDA cannot be built here (its build fetches sources from the internet); "
            f"give a wheel with --engine-wheel FILE. {log} has the reason"
        )
    return next(wheels.glob(f"{ENGINE}-*.whl"))


def _strip_engine(shop: Workshop) -> None:
    """106 MB with its symbols, 26 MB without. By way of a new file: installers link files to those of their cache."""
    for library in (shop.packages / ENGINE).glob("*.so*"):
        stripped = library.with_suffix(".stripped")
        subprocess.run(["strip", "--strip-unneeded", "-o", stripped, library], check=True)
        stripped.replace(library)


def add_legacy_library(shop: Workshop, program: Path) -> None:
    """The library of legacy models, one for each kind of processor, where its package would be: found there, never imported."""
    package, target = shop.packages / LEGACY, program / LEGACY
    for library in package.glob("lib/*/libctransformers.so"):
        if library.parent.name in {"avx2", "avx", "basic"}:  # the others are for CUDA 11, which nobody has any more
            place = target / library.relative_to(package)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(library, place)
    (target / "__init__.py").touch()


def add_versions(shop: Workshop, program: Path) -> None:
    """Name and version of every package, where importlib.metadata looks: some ask for their own at import, we for engines'."""
    for metadata in shop.packages.glob("*.dist-info/METADATA"):
        head = metadata.read_text().partition("\n\n")[0].splitlines()
        told = [line for line in head if line.startswith(("Metadata-Version:", "Name:", "Version:"))]
        folder = program / metadata.parent.name
        folder.mkdir(exist_ok=True)
        (folder / metadata.name).write_text("\n".join(told) + "\n")


def copy_sources(shop: Workshop) -> None:
    """The working tree's package, so that a build writes nothing into it."""
    shutil.rmtree(shop.sources, ignore_errors=True)
    shutil.copytree(ROOT / "cortex", shop.sources / "cortex", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "cortex.py", shop.sources)
