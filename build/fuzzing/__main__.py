"""`build/test fuzz`: requests by chance at a gateway and a neuron with real models behind, every answer judged."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from fuzzing.fleet import Target, targets
from fuzzing.thrower import Thrower

SHOWN = 40
EPILOG = """\
exit status: 0 every answer is as /openapi.json says, and no log has a traceback; 1 something is wrong
"""


def main() -> int:
    args = _parser().parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, targets(Path(folder)) as found:
        for name in args.role or list(found):
            wrong += _fuzz(found[name], args)
        for name, target in found.items():
            if "Traceback" in target.role.log:
                wrong += 1
                print(f"{name}: a traceback in its log:\n{target.role.log.partition('Traceback')[2][:4000]}")
    return 1 if wrong else 0


def _fuzz(target: Target, args: argparse.Namespace) -> int:
    began = time.monotonic()
    tally = Thrower(target).throw(args.cases, args.seed)
    statuses = ", ".join(f"{count} of {status}" for status, count in sorted(tally.statuses.items()))
    print(f"{target.name}: {tally.cases} cases in {time.monotonic() - began:.0f} s, {statuses}")
    for said, count in tally.complaints.most_common(SHOWN):
        print(f"  {count} times {said}\n    {tally.examples[said]}")
    print(f"  {tally.complaints.total()} complaints", flush=True)
    return tally.complaints.total()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="build/test fuzz",
        description="Requests by chance at a gateway and a neuron with real models behind, every answer judged.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cases", type=int, default=5000, metavar="N", help="for each role (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of chance (%(default)s)")
    parser.add_argument("--role", action="append", choices=("gateway", "neuron"), help="only this one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
