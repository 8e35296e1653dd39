"""`cortex key new NAME`: a new API key. The lines for cortex.toml go to stdout, the secret to stderr, once: `cortex key new alice >> cortex.toml`."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import secrets
import sys

from cortex.cli.outcome import Exit, Failure

PREFIX = "sk-cortex-"  # so that scanners for leaked secrets know one
NAME = re.compile(r"[\x21-\x7e]{1,128}")


def new(args: argparse.Namespace) -> int:
    if not NAME.fullmatch(args.name):
        raise Failure(
            f"'{args.name}' is no account's name: 1 to 128 printable ASCII characters without blanks", Exit.usage
        )
    secret = PREFIX + secrets.token_urlsafe(32)
    entry = {"sha256": hashlib.sha256(secret.encode()).hexdigest(), "account_id": args.name}
    if args.json:
        print(json.dumps({"key": secret, **entry}))
        return Exit.ok
    print(f"the key of {args.name}, which is not shown again and kept nowhere:\n\n  {secret}\n", file=sys.stderr)
    print("[[entitlements.keys]]")
    for name, value in entry.items():
        print(f"{name} = {json.dumps(value)}")
    return Exit.ok
