"""`cortex openapi`: a role's API, the same document as its `GET /openapi.json`."""

from __future__ import annotations

import argparse

import orjson

from cortex.cli.outcome import Exit


def openapi(args: argparse.Namespace) -> int:
    if args.role == "gateway":
        from cortex.gateway.api.openapi import description
    else:
        from cortex.neuron.api.openapi import description
    print(orjson.dumps(description(), option=orjson.OPT_INDENT_2).decode())
    return Exit.ok
