"""A clean virtual environment from compile.lock, the engine's library in it, and a clean copy of the sources."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from binary.backends import ENGINE, LOCK
from binary.flavours import Flavour
from binary.tools import ROOT

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
    def backends(self) -> Path:
        return self.folder / "backends"

    @property
    def sources(self) -> Path:
        return self.folder / "src"

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def report(self) -> Path:
        return self.folder / "report.xml"


def caches() -> Path:
    """Where everything happens."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cortex-build"
    return Path(os.environ.get("CORTEX_BUILD_CACHE") or default)


def workshop(flavour: Flavour) -> Workshop:
    folder = caches() / flavour.name
    folder.mkdir(parents=True, exist_ok=True)
    return Workshop(folder)


def install(shop: Workshop, engine_wheel: Path | None) -> None:
    """Make the environment, unless one of the same ingredients is there."""
    wanted = hashlib.sha256(LOCK.read_bytes() + sys.version.encode() + str(engine_wheel).encode()).hexdigest()
    stamp = shop.folder / "venv" / ".made-from"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", shop.folder / "venv"], check=True)
    _pip(shop, "--require-hashes", "-r", LOCK)
    if engine_wheel:
        _pip(shop, "--force-reinstall", "--no-deps", engine_wheel)
    _strip_engine(shop)
    stamp.write_text(wanted)


def _pip(shop: Workshop, *arguments: str | Path) -> None:
    subprocess.run([shop.python, "-m", "pip", "install", "-qq", *arguments], check=True)


def _strip_engine(shop: Workshop) -> None:
    """106 MB with its symbols, 26 MB without. By way of a new file: installers link files to those of their cache."""
    for library in (shop.packages / ENGINE).glob("*.so*"):
        stripped = library.with_suffix(".stripped")
        subprocess.run(["strip", "--strip-unneeded", "-o", stripped, library], check=True)
        stripped.replace(library)


def add_backends(shop: Workshop, program: Path) -> None:
    """Those that were made for this program, beside the engine's library, where the neuron looks for them."""
    shutil.copytree(shop.backends, program / ENGINE / shop.backends.name, dirs_exist_ok=True)


def add_legacy_library(shop: Workshop, program: Path) -> None:
    """The library of legacy models, one for each kind of processor, where its package would be: found there, never imported."""
    package, target = shop.packages / LEGACY, program / LEGACY
    for library in package.glob("lib/*/libctransformers.so"):
        if library.parent.name in {
            "avx2",
            "avx",
            "basic",
        }:  # the one for GPUs wants CUDA 12: who has that has it in a folder
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
