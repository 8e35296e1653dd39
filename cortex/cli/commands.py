"""The commands. Each has a summary, an example and a function that imports its work when it is called.

No import beyond argparse here: help and mistakes must come at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from cortex.cli import arguments

Run = Callable[[argparse.Namespace], int]


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    summary: str
    example: str
    run: Run
    arguments: Callable[[argparse.ArgumentParser], None]


# ---- what each command does, imported late


def role(args: argparse.Namespace) -> int:
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


def _push(args: argparse.Namespace) -> int:
    from cortex.cli.push import push

    return push(args)


def _bundle(args: argparse.Namespace) -> int:
    from cortex.cli import bundle

    return {"create": bundle.create, "verify": bundle.verify, "import": bundle.bring}[args.action](args)


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


def version(args: argparse.Namespace) -> int:
    from cortex.cli.version import version as said

    return said(args)


COMMANDS = (
    Command("serve", "run the gateway", "cortex serve -c cortex.toml", role, arguments.serve),
    Command("neuron", "run the neuron of this host", "cortex neuron -c neuron.toml -p 13131", role, arguments.neuron),
    Command("status", "show the fleet: neurons, memory, models", "cortex status", _status, arguments.query),
    Command("models", "list what can be asked for, and where it is", "cortex models --json", _models, arguments.query),
    Command("load", "load a model", "cortex load unsloth/Qwen3-0.6B-GGUF --quant Q4_K_M", _load, arguments.load),
    Command(
        "plan",
        "explain what a request for a model would do, and do nothing",
        "cortex plan unsloth/Qwen3-0.6B-GGUF",
        _plan,
        arguments.plan,
    ),
    Command("unload", "unload a model", "cortex unload unsloth/Qwen3-0.6B-GGUF", _unload, arguments.unload),
    Command(
        "drain",
        "let a neuron finish what runs, and take nothing new",
        "cortex drain beast --wait",
        _drain,
        arguments.drain,
    ),
    Command("undrain", "let a drained neuron work again", "cortex undrain beast", _undrain, arguments.undrain),
    Command(
        "pull",
        "download a model to this host, continuing where the last try broke off",
        "cortex pull unsloth/Qwen3-0.6B-GGUF:Q4_K_M --to models",
        _pull,
        arguments.pull,
    ),
    Command(
        "push",
        "copy a model's files to a neuron that has none, through the gateway, continuing after a cut",
        "cortex push unsloth/Qwen3-0.6B-GGUF benjy --rate 50MB/s",
        _push,
        arguments.push,
    ),
    Command(
        "bundle",
        "carry a model as one file to a host without internet: weights, projector, template, profile, checksums",
        "cortex bundle create qwen3.tar --model unsloth/Qwen3-0.6B-GGUF",
        _bundle,
        arguments.bundle,
    ),
    Command(
        "validate",
        "prove that a neuron works: health, load, one answer",
        "cortex validate 127.0.0.1 unsloth/Qwen3-0.6B-GGUF Q4_K_M > answer.json",
        _validate,
        arguments.validate,
    ),
    Command(
        "inspect",
        "say what a model file is, which harness would serve it and why, and what is wrong with it",
        "cortex inspect models/llama-7b.ggmlv3.q4_0.bin",
        _inspect,
        arguments.inspect,
    ),
    Command("config", "check a configuration file", "cortex config check cortex.toml", _check, arguments.config),
    Command("key", "make an API key", "cortex key new alice", _key, arguments.key),
    Command("openapi", "print a role's API as OpenAPI", "cortex openapi gateway", _openapi, arguments.openapi),
    Command("version", "say what runs here", "cortex version", version, arguments.json_option),
)
