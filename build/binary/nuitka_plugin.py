"""Nuitka's plugin of this build: which packages stay bytecode, and one function for older systems.

Nuitka itself loads it (--user-plugin); nothing here imports it.
"""

from __future__ import annotations

from typing import Any

from nuitka.plugins.PluginBase import NuitkaPluginBase

# Compiled are our own code, Sanic and what a request runs through; the rest stays the bytecode that it is in a checkout:
# half of the files, and 20 MB less of machine code that would be resident in every process.
BYTECODE = (
    *("httpx", "httpcore", "h11", "anyio", "certifi", "idna"),  # the control plane's client
    *("aiofiles", "html5tagger", "sanic_routing", "tracerite", "websockets"),  # of Sanic: start and error pages
    *(
        "pydantic",
        "annotated_types",
        "typing_extensions",
        "typing_inspection",
    ),  # classes are built once; its core is native
    *("prometheus_client", "pynvml", "rich", "jinja2", "markupsafe", "numpy", "psycopg"),
)

# glibc 2.35 brought a hypot of its own version, the only function of that age in Python: with the one of 1997 instead
# the program runs from 2.34 on (RHEL 9, Debian 12, Ubuntu 22.04).
HYPOT = """
double hypot_of_1997(double, double);
__asm__(".symver hypot_of_1997, hypot@GLIBC_2.2.5");
double hypot(double x, double y) { return hypot_of_1997(x, y); }
"""


class CortexPlugin(NuitkaPluginBase):  # type: ignore[misc]  # Nuitka is not in the environment that checks types
    plugin_name = "cortex"

    @staticmethod
    def isAlwaysEnabled() -> bool:  # noqa: N802  Nuitka's name
        return True

    def decideCompilation(self, module_name: Any) -> str | None:  # noqa: N802  Nuitka's name
        if str(module_name).endswith("Load"):  # Nuitka's own hooks before and after a module, which it can only compile
            return None
        return "bytecode" if module_name.hasOneOfNamespaces(BYTECODE) else None

    def getExtraCodeFiles(self) -> dict[str, str]:  # noqa: N802  Nuitka's name
        return {"hypot.c": HYPOT}
