"""The command line. `cortex --role ROLE` starts a role, `cortex COMMAND` talks to one that runs.

    parser.py      what may be typed, and the help that teaches it
    commands.py    each command: summary, example
    arguments.py   what each takes
    outcome.py     exit codes, and the failure that carries one
    roles.py       files, environment and flags → what a role runs with
    running.py     a role's process: one loop, ordered stop, the two signals
    starting.py    why a role cannot start, and whether trying again may help
    reloading.py   its configuration read again: SIGHUP, or a file that changed
    client.py      HTTP to a gateway or a neuron (httpx), its failures as sentences
    show.py        tables and progress bars, or plain text where nobody watches
    status.py      status, models          lifecycle.py   load, unload
    draining.py    drain, undrain
    pull.py        pull                    plan.py        plan
    push.py        push                    bundle.py      bundle create, verify, import
    validate.py    validate
    inspect.py     inspect: one model file, without a role
    check.py       config check            version.py     version
    key.py         key new                 openapi.py     openapi

Every command is imported when it is asked for: `cortex version` starts without a server, a role without the other's half.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cortex.cli.outcome import Exit, Failure

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. A failure is one sentence on stderr, never a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:2] == ["--role", "engine"]:  # started by a neuron: it has no use for the rest of the command line
        from cortex.neuron.engine import main as engine

        return engine.run()
    from cortex.cli.parser import parse

    parsed = parse(arguments)
    try:
        code: int = parsed.run(parsed)
        sys.stdout.flush()
    except Failure as failure:
        return _fail(str(failure), failure.code)
    except KeyboardInterrupt:
        return 130
    except (
        BrokenPipeError
    ):  # `cortex models | head`: nobody reads any more, and the interpreter's own flush must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # a mistake of ours
        return _fail(f"internal error: {error!r}; CORTEX_LOG=debug shows where", Exit.failed)
    return code


def _fail(message: str, code: int) -> int:
    if os.environ.get("CORTEX_LOG", "").lower() == "debug":
        import traceback

        traceback.print_exc()
    print(f"cortex: {message}", file=sys.stderr)
    return code
