"""What may be typed: a role, or a command, and the help that teaches it.

No import beyond argparse here: help and mistakes must come at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cortex.cli import arguments as takes
from cortex.cli.commands import COMMANDS, Run, role, version

ROLES = ("gateway", "neuron", "all")
EXIT_CODES = """\
exit codes:
  0  ok
  1  the answer is no: not found, refused, failed
  2  a mistake on the command line or in a configuration, or an address that is taken
  3  the gateway or the neuron cannot be reached
  4  a bundle or a file is damaged: altered, interrupted, or not what it says"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line as a namespace with `run`. Ends the process on --help and on mistakes, as argparse does."""
    asks_for_role = any(word == "--role" or word.startswith("--role=") for word in arguments)
    words = [word.lower() if arguments[:1] == ["bundle"] and at == 1 else word for at, word in enumerate(arguments)]
    return (role_parser() if asks_for_role else command_parser()).parse_args(words)


def role_parser() -> argparse.ArgumentParser:
    parser = _parser(
        "cortex", "Run a role in the foreground until SIGINT or SIGTERM.", "cortex --role all --models-dir models"
    )
    parser.add_argument(
        "--role",
        choices=ROLES,
        required=True,
        help="gateway: the endpoint; neuron: a host with models; all: both in one process",
    )
    takes.role(parser)
    parser.set_defaults(run=role)
    return parser


def command_parser() -> argparse.ArgumentParser:
    examples = "\n".join(f"  {command.example}" for command in COMMANDS)
    parser = argparse.ArgumentParser(
        prog="cortex",
        usage="cortex --role gateway|neuron|all [--config FILE] [--port N] …\n       cortex COMMAND …",
        description="One OpenAI- and Anthropic-compatible endpoint over hosts with GGUF models.\n\n"
        "roles:\n  gateway     the endpoint in front of the fleet\n  neuron      the daemon of a host with models\n"
        "  all         both in one process, for a single host",
        epilog=f"examples:\n  cortex --role all --models-dir models\n{examples}\n\n{EXIT_CODES}\n\n"
        "`cortex --role all --help` and `cortex COMMAND --help` say more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_const", const=version, dest="run", help="as `cortex version`")
    parser.set_defaults(json=False, run=_nothing_asked(parser))
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", prog="cortex")
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=f"example:\n  {command.example}\n\n{EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(run=command.run)
        command.arguments(sub)
    return parser


def _parser(prog: str, description: str, example: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f"example:\n  {example}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _nothing_asked(parser: argparse.ArgumentParser) -> Run:
    def run(_args: argparse.Namespace) -> int:
        parser.error("say a command or --role gateway|neuron|all; `cortex --help` lists them")

    return run
