"""What each command takes. No import beyond argparse here: help and mistakes must come at once."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

DEFAULT_ENDPOINT = "http://127.0.0.1:31313"


def role(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-c", "--config", type=_existing_file, metavar="FILE", help="cortex.toml or neuron.toml; without it: defaults")
    add("-p", "--port", type=_port, metavar="N", help="port to listen on (of the gateway, with --role all)")
    add("--listen", metavar="HOST:PORT", help="address and port to listen on")
    add("--models-dir", type=_existing_folder, metavar="DIR", help="folder with *.gguf files (neuron and all)")
    add("--log-level", choices=("debug", "info", "warning", "error"), help="default: CORTEX_LOG, else info")


def serve(parser: argparse.ArgumentParser) -> None:
    role(parser)
    parser.set_defaults(role="gateway")


def neuron(parser: argparse.ArgumentParser) -> None:
    role(parser)
    parser.set_defaults(role="neuron")


def _endpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-e",
        "--endpoint",
        metavar="URL",
        default=os.environ.get("CORTEX_ENDPOINT", DEFAULT_ENDPOINT),
        help=f"the gateway; default: CORTEX_ENDPOINT, else {DEFAULT_ENDPOINT}",
    )


def json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def query(parser: argparse.ArgumentParser) -> None:
    _endpoint(parser)
    json_option(parser)


def load(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model's id, or an alias")
    parser.add_argument("--node", metavar="NAME", help="which neuron; default: the gateway chooses")
    parser.add_argument("--quant", metavar="QUANT", help="which quantisation, e.g. Q4_K_M")
    parser.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="stay until it is loaded, with a progress bar (the default)",
    )
    query(parser)


def unload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model's id, or an alias")
    parser.add_argument("--node", metavar="NAME", help="which neuron; default: every one that has it")
    query(parser)


def undrain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="the neuron's name, as `cortex status` shows it")
    query(parser)


def drain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", action="store_true", help="stay until nothing runs there any more")
    undrain(parser)


def plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model's id, or an alias")
    query(parser)


def pull(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="REPO[:QUANT]", help="a repository with GGUF files, and which of them")
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help="a folder for a neuron's models_dir; default: Hugging Face's cache"
    )
    json_option(parser)


def push(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model's id, or an alias")
    parser.add_argument("node", metavar="NODE", help="the neuron that is to have it; it says [sync] accept = true")
    parser.add_argument(
        "--rate", metavar="RATE", help="bytes a second at most, as in 50MB/s; default: the gateway's sync.rate"
    )
    parser.add_argument(
        "--from", dest="source", metavar="NODE", help="whose files; default: the first that offers them"
    )
    query(parser)


def bundle(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(metavar="create|verify|import", required=True, prog="cortex bundle", dest="action")
    create = _action(
        actions,
        "create",
        "write a model on this host into one file, continuing what a broken try left",
        "cortex bundle create qwen3.tar --model unsloth/Qwen3-0.6B-GGUF --models-dir models --catalogue models.toml",
    )
    create.add_argument(
        "--model", required=True, metavar="MODEL", help="its id, as `cortex models` shows it, or its file"
    )
    create.add_argument("--models-dir", type=Path, metavar="DIR", help="where it is; default: Hugging Face's cache")
    create.add_argument("--catalogue", type=Path, metavar="FILE", help="a models.toml whose profile of it goes along")
    _action(actions, "verify", "read all of a bundle, and name what is wrong with it", "cortex bundle verify qwen3.tar")
    bring = _action(
        actions,
        "import",
        "put a bundle's model into a folder that a neuron serves, and say its lines for models.toml",
        "cortex bundle import qwen3.tar --models-dir /srv/models",
    )
    bring.add_argument("--models-dir", type=Path, required=True, metavar="DIR", help="a neuron's models_dir")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, example: str
) -> argparse.ArgumentParser:
    action = actions.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"example:\n  {example}",
        allow_abbrev=False,
    )
    action.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="the bundle, a tar archive; - is standard input" if name != "create" else "the bundle",
    )
    json_option(action)
    return action


def validate(parser: argparse.ArgumentParser) -> None:
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


def inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a *.gguf, or a *.bin of before GGUF")
    json_option(parser)


def config(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True, prog="cortex config")
    action = actions.add_parser(
        "check",
        help="read a file as a role would, and name every mistake in it",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  cortex config check cortex.toml",
        allow_abbrev=False,
    )
    action.add_argument("file", type=Path, metavar="FILE", help="cortex.toml, neuron.toml or models.toml")


def key(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True, prog="cortex key")
    action = actions.add_parser(
        "new",
        help="make a key: the secret on stderr, once, and the lines for cortex.toml on stdout",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  cortex key new alice >> cortex.toml",
        allow_abbrev=False,
    )
    action.add_argument("name", metavar="NAME", help="the account that it is for")
    json_option(action)


def openapi(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("role", choices=("gateway", "neuron"), metavar="ROLE", help="gateway or neuron")


# ---- kinds of arguments


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
