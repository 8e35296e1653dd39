"""What may be typed. Each command has a summary, an example and a function that imports its work when it is called.

No import beyond argparse here: help and mistakes must come at once.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROLES = ("gateway", "neuron", "all")
DEFAULT_ENDPOINT = "http://127.0.0.1:31313"
EXIT_CODES = """\
exit codes:
  0  ok
  1  the answer is no: not found, refused, failed
  2  a mistake on the command line or in a configuration, or an address that is taken
  3  the gateway or the neuron cannot be reached"""

Run = Callable[[argparse.Namespace], int]


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    summary: str
    example: str
    run: Run
    arguments: Callable[[argparse.ArgumentParser], None]


# ---- what each command does, imported late


def _role(args: argparse.Namespace) -> int:
    from cortex.cli.running import run_role

    return run_role(args)


def _status(args: argparse.Namespace) -> int:
    from cortex.cli.status import status

    return status(args)


def _models(args: argparse.Namespace) -> int:
    from cortex.cli.status import models

    return models(args)


def _load(args: argparse.Namespace) -> int:
    from cortex.cli.lifecycle import load

    return load(args)


def _unload(args: argparse.Namespace) -> int:
    from cortex.cli.lifecycle import unload

    return unload(args)


def _drain(args: argparse.Namespace) -> int:
    from cortex.cli.draining import drain

    return drain(args)


def _undrain(args: argparse.Namespace) -> int:
    from cortex.cli.draining import undrain

    return undrain(args)


def _plan(args: argparse.Namespace) -> int:
    from cortex.cli.plan import plan

    return plan(args)


def _pull(args: argparse.Namespace) -> int:
    from cortex.cli.pull import pull

    return pull(args)


def _validate(args: argparse.Namespace) -> int:
    from cortex.cli.validate import validate

    return validate(args)


def _check(args: argparse.Namespace) -> int:
    from cortex.cli.check import check

    return check(args)


def _inspect(args: argparse.Namespace) -> int:
    from cortex.cli.inspect import inspect

    return inspect(args)


def _key(args: argparse.Namespace) -> int:
    from cortex.cli.key import new

    return new(args)


def _openapi(args: argparse.Namespace) -> int:
    from cortex.cli.openapi import openapi

    return openapi(args)


def _version(args: argparse.Namespace) -> int:
    from cortex.cli.version import version

    return version(args)


# ---- what each command takes


def _role_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-c", "--config", type=_existing_file, metavar="FILE", help="cortex.toml or neuron.toml; without it: defaults")
    add("-p", "--port", type=_port, metavar="N", help="port to listen on (of the gateway, with --role all)")
    add("--listen", metavar="HOST:PORT", help="address and port to listen on")
    add("--models-dir", type=_existing_folder, metavar="DIR", help="folder with *.gguf files (neuron and all)")
    add("--log-level", choices=("debug", "info", "warning", "error"), help="default: CORTEX_LOG, else info")
    parser.set_defaults(run=_role)


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    _role_arguments(parser)
    parser.set_defaults(role="gateway")


def _neuron_arguments(parser: argparse.ArgumentParser) -> None:
    _role_arguments(parser)
    parser.set_defaults(role="neuron")


def _endpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-e",
        "--endpoint",
        metavar="URL",
        default=os.environ.get("CORTEX_ENDPOINT", DEFAULT_ENDPOINT),
        help=f"the gateway; default: CORTEX_ENDPOINT, else {DEFAULT_ENDPOINT}",
    )


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def _query_arguments(parser: argparse.ArgumentParser) -> None:
    _endpoint(parser)
    _json(parser)


def _load_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model's id, or an alias")
    parser.add_argument("--node", metavar="NAME", help="which neuron; default: the gateway chooses")
    parser.add_argument("--quant", metavar="QUANT", help="which quantisation, e.g. Q4_K_M")
    parser.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="stay until it is loaded, with a progress bar (the default)",
    )
    _query_arguments(parser)


def _unload_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model's id, or an alias")
    parser.add_argument("--node", metavar="NAME", help="which neuron; default: every one that has it")
    _query_arguments(parser)


def _undrain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="the neuron's name, as `cortex status` shows it")
    _query_arguments(parser)


def _drain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", action="store_true", help="stay until nothing runs there any more")
    _undrain_arguments(parser)


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model's id, or an alias")
    _query_arguments(parser)


def _pull_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="REPO[:QUANT]", help="a repository with GGUF files, and which of them")
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help="a folder for a neuron's models_dir; default: Hugging Face's cache"
    )
    _json(parser)


def _validate_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "host",
        nargs="?",
        default="127.0.0.1",
        metavar="HOST",
        help="the neuron, HOST, HOST:PORT (NEURON_PORT) or a URL",
    )
    add("model", nargs="?", default="unsloth/Qwen3-0.6B-GGUF", metavar="MODEL", help="default: %(default)s")
    add("quant", nargs="?", default="Q4_K_M", metavar="QUANT", help="default: %(default)s")
    # For tests of a neuron that hangs: seconds for health, load and answer.
    add("--timeouts", nargs=3, type=float, default=(5.0, 600.0, 120.0), help=argparse.SUPPRESS)


def _inspect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a *.gguf, or a *.bin of before GGUF")
    _json(parser)


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True, prog="cortex config")
    action = actions.add_parser(
        "check",
        help="read a file as a role would, and name every mistake in it",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  cortex config check cortex.toml",
        allow_abbrev=False,
    )
    action.add_argument("file", type=Path, metavar="FILE", help="cortex.toml, neuron.toml or models.toml")


def _key_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True, prog="cortex key")
    action = actions.add_parser(
        "new",
        help="make a key: the secret on stderr, once, and the lines for cortex.toml on stdout",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  cortex key new alice >> cortex.toml",
        allow_abbrev=False,
    )
    action.add_argument("name", metavar="NAME", help="the account that it is for")
    _json(action)


def _openapi_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("role", choices=("gateway", "neuron"), metavar="ROLE", help="gateway or neuron")


COMMANDS = (
    Command("serve", "run the gateway", "cortex serve -c cortex.toml", _role, _serve_arguments),
    Command("neuron", "run the neuron of this host", "cortex neuron -c neuron.toml -p 13131", _role, _neuron_arguments),
    Command("status", "show the fleet: neurons, memory, models", "cortex status", _status, _query_arguments),
    Command("models", "list what can be asked for, and where it is", "cortex models --json", _models, _query_arguments),
    Command("load", "load a model", "cortex load unsloth/Qwen3-0.6B-GGUF --quant Q4_K_M", _load, _load_arguments),
    Command(
        "plan",
        "explain what a request for a model would do, and do nothing",
        "cortex plan unsloth/Qwen3-0.6B-GGUF",
        _plan,
        _plan_arguments,
    ),
    Command("unload", "unload a model", "cortex unload unsloth/Qwen3-0.6B-GGUF", _unload, _unload_arguments),
    Command(
        "drain",
        "let a neuron finish what runs, and take nothing new",
        "cortex drain beast --wait",
        _drain,
        _drain_arguments,
    ),
    Command("undrain", "let a drained neuron work again", "cortex undrain beast", _undrain, _undrain_arguments),
    Command(
        "pull",
        "download a model to this host, continuing where the last try broke off",
        "cortex pull unsloth/Qwen3-0.6B-GGUF:Q4_K_M --to models",
        _pull,
        _pull_arguments,
    ),
    Command(
        "validate",
        "prove that a neuron works: health, load, one answer",
        "cortex validate 127.0.0.1 unsloth/Qwen3-0.6B-GGUF Q4_K_M > answer.json",
        _validate,
        _validate_arguments,
    ),
    Command(
        "inspect",
        "say what a model file is, which harness would serve it and why, and what is wrong with it",
        "cortex inspect models/llama-7b.ggmlv3.q4_0.bin",
        _inspect,
        _inspect_arguments,
    ),
    Command("config", "check a configuration file", "cortex config check cortex.toml", _check, _config_arguments),
    Command("key", "make an API key", "cortex key new alice", _key, _key_arguments),
    Command("openapi", "print a role's API as OpenAPI", "cortex openapi gateway", _openapi, _openapi_arguments),
    Command("version", "say what runs here", "cortex version", _version, _json),
)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line as a namespace with `run`. Ends the process on --help and on mistakes, as argparse does."""
    asks_for_role = any(word == "--role" or word.startswith("--role=") for word in arguments)
    return (role_parser() if asks_for_role else command_parser()).parse_args(list(arguments))


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
    _role_arguments(parser)
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
    parser.add_argument("--version", action="store_const", const=_version, dest="run", help="as `cortex version`")
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


def _existing_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file '{text}'")
    return path


def _existing_folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder '{text}'")
    return path


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port: a number from 0 (any free one) to 65535")
    return int(text)
