"""The command line of `build/bench`."""

from __future__ import annotations

import argparse
import sys

from benchmarks import binary, cycles, engine, fleet, polls, relay
from benchmarks.errors import CannotRun

EPILOG = """\
Exit status: 0 done, 1 a limit was passed (cycles, polls), 2 something that the benchmark needs is missing.
"""


def main() -> int:
    args = _parser().parse_args()
    try:
        return int(args.run(args))
    except CannotRun as error:
        print(f"build/bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="build/bench",
        description="Benchmarks of cortex.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (relay, cycles, binary, engine, fleet, polls):
        module.add_command(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
