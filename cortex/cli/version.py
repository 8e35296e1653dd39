"""`cortex version`: what runs here, the same facts as `GET /version` of a role, and what engines of this build use on this host."""

from __future__ import annotations

import argparse
import json

from cortex.cli.outcome import Exit
from cortex.neuron.hardware import processor
from cortex.neuron.harness import backends
from cortex.version import version_info


def version(args: argparse.Namespace) -> int:
    facts = version_info()
    here = backends.find(None, processor.read_flags())
    if args.json:
        print(json.dumps(facts | {"backends_here": here and {**here.facts(), "problem": here.problem}}))
        return Exit.ok
    build = {"flavour": facts["flavour"], "commit": facts["git_sha"], "built": facts["built_at"]}
    told = "".join(f", {name} {value}" for name, value in build.items() if value)
    print(f"cortex {facts['package_version']} ({facts['kind']}{told})")
    print(f"  python {facts['python']}, {facts['platform']}")
    for harness, library in facts["harnesses"].items():
        inside = f", llama.cpp {facts['llama_cpp']}" if harness == "llamacpp" and facts["llama_cpp"] else ""
        packed = f", backends {facts['backends']}" if harness == "llamacpp" and facts["backends"] else ""
        print(f"  {harness} {library or 'not installed'}{inside}{packed}")
    if here:
        print(f"  {here.problem or f'engines use {here}'}")
    return Exit.ok
