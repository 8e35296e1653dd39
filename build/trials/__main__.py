"""`build/chaos`: clients ask while the fleet is under faults; then it is told what became of them, and what is left."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.errors import CannotRun

from cortex.tasks import Tasks
from trials import clients, faults, fleet, leaks
from trials.verdict import Tally

CLIENTS = 32
EXAMPLES = 10
WELL_S = 60.0
EPILOG = """\
exit status: 0 the last six numbers are zero, 1 they are not, 2 the fleet did not start
"""


def main() -> int:
    args = _parser().parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
            tally, storm = asyncio.run(_trial(Path(folder), args))
            if args.keep:
                shutil.copytree(folder, args.keep, ignore=shutil.ignore_patterns("*.gguf", "run"), dirs_exist_ok=True)
    except CannotRun as error:
        print(f"build/chaos: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(json.dumps(tally.told()) if args.json else _table(tally, storm))
    for example in tally.examples[:EXAMPLES]:
        print(example, file=sys.stderr)
    return 0 if tally.is_clean else 1


async def _trial(folder: Path, args: argparse.Namespace) -> tuple[Tally, faults.Storm]:
    chance, tally = random.Random(args.seed), Tally()
    async with fleet.running(folder, random.Random(chance.random())) as trial:
        before = await leaks.settled_connections(trial)
        storm = faults.Storm(trial, random.Random(chance.random()))
        await _storm(trial, storm, tally, args.seconds, chance)
        if not await fleet.all_well(trial, WELL_S):
            tally.examples.append("the fleet did not recover: see its logs")
            tally.hung += 1
        tally.leaked_permits = await leaks.permits(trial)
        tally.leaked_sockets = await leaks.leaked_sockets(trial, before)
        tally.leaked_permits += await leaks.stop_in_order(trial)
        tally.leaked_processes = len(leaks.leaked_processes(trial))
    return tally, storm


async def _storm(trial: fleet.Trial, storm: faults.Storm, tally: Tally, seconds: float, chance: random.Random) -> None:
    """Clients ask while it blows, and until each has its last answer."""
    tasks, ended = Tasks("clients"), asyncio.Event()
    asking = [
        tasks.start(str(number), clients.client(trial.url, random.Random(chance.random()), tally, ended))
        for number in range(CLIENTS)
    ]
    await storm.blow(seconds)
    await storm.calm()
    ended.set()
    await asyncio.wait(asking)
    for task in asking:
        task.result()


def _table(tally: Tally, storm: faults.Storm) -> str:
    rows = [("faults", ", ".join(f"{count} {what}" for what, count in sorted(storm.done.items()))), ("", "")]
    for name, value in tally.told().items():
        if isinstance(value, dict):
            rows.append(("well-formed errors", str(sum(value.values()))))
            rows += [(f"  {code}", str(count)) for code, count in value.items()]
        else:
            rows.append((name.replace("_", " "), str(value)))
    rows.insert(3, ("left by their clients", str(tally.left)))
    return "\n".join(f"{name:<34}{value}".rstrip() for name, value in rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="build/chaos",
        description=f"{CLIENTS} clients over four neurons with real engines and two fakes, under random faults.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=120.0, metavar="N", help="of faults (%(default)g)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of chance (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the logs and configurations go")
    return parser


if __name__ == "__main__":
    sys.exit(main())
