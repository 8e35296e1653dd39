"""Nuitka's plugin of this build: which packages stay bytecode.

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
    # Ours that run once, or for an operator: commands, types that cannot be wrong, descriptions, files of before GGUF.
    *("cortex.cli", "cortex.config", "cortex.wire.openapi", "cortex.gateway.api.openapi", "cortex.neuron.api.openapi"),
    *("cortex.neuron.bundle", "cortex.neuron.ggml"),
    # Sanic's command line and worker manager, which we do not use, and what it builds once.
    *("sanic.application", "sanic.logging", "sanic.pages", "sanic.touchup", "sanic.types", "sanic.worker"),
    *("prometheus_client", "pynvml", "rich", "jinja2", "markupsafe", "numpy", "psycopg"),
)


class CortexPlugin(NuitkaPluginBase):  # type: ignore[misc]  # Nuitka is not in the environment that checks types
    plugin_name = "cortex"

    @staticmethod
    def isAlwaysEnabled() -> bool:  # noqa: N802  Nuitka's name
        return True

    def decideCompilation(self, module_name: Any) -> str | None:  # noqa: N802  Nuitka's name
        if str(module_name).endswith("Load"):  # Nuitka's own hooks before and after a module, which it can only compile
            return None
        return "bytecode" if module_name.hasOneOfNamespaces(BYTECODE) else None
