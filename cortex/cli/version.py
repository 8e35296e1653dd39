"""`cortex version`: what runs here, the same facts as `GET /version` of a role."""

from __future__ import annotations

import argparse
import json

from cortex.cli.outcome import Exit
from cortex.version import version_info


def version(args: argparse.Namespace) -> int:
    facts = version_info()
    if args.json:
        print(json.dumps(facts))
        return Exit.ok
    commit = f", commit {facts['git_sha']}" if facts["git_sha"] else ""
    print(f"cortex {facts['package_version']} ({facts['kind']}{commit})")
    print(f"  python {facts['python']}, {facts['platform']}")
    for harness, library in facts["harnesses"].items():
        print(f"  {harness} {library or 'not installed'}")
    return Exit.ok
