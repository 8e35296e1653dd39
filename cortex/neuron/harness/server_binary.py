"""An external llama-server that the operator names (`harness.llamacpp.server_binary`): what it is, and how it is started.

It is asked once, when the neuron starts; a file that is missing, cannot run, is another program or is too old is a
sentence then, on `/discovery` and for whoever loads a model, and never a silent return to the built-in engine.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cortex import errors
from cortex.neuron.engine.environment import without_secrets
from cortex.neuron.engine.spec import EngineSpec

ASK_S = 20.0  # a driver may have to be woken up
NAME = "harness.llamacpp.server_binary"
_GPU = re.compile(r"^\s+((?:CUDA|ROCm|Vulkan|SYCL|Metal|MTL|HIP|MUSA|CANN)\w*): (.+?)\s*$", re.MULTILINE)
_VERSION = re.compile(r"^version:\s*(.+?)\s*$", re.MULTILINE)
_OPTION = re.compile(r"(?<![\w-])--?[a-z][\w-]*")
_NEEDED = (
    *("--model", "--alias", "--host", "--ctx-size", "--parallel", "--batch-size", "--ubatch-size", "--threads"),
    *("--n-predict", "--n-gpu-layers", "--cache-type-k", "--cache-type-v", "--flash-attn", "--jinja"),
)
# What a load request may add: how it computes, and nothing that names a file, an address, or a program.
ADDITIONS = frozenset(
    (
        *("--mlock", "--no-mmap", "--mmap", "--no-kv-offload", "-nkvo", "--no-op-offload", "--no-repack", "--swa-full"),
        *(
            "--numa",
            "--poll",
            "--prio",
            "--threads-batch",
            "-tb",
            "--cpu-mask",
            "-C",
            "--cpu-range",
            "-Cr",
            "--cpu-strict",
        ),
        *("--cpu-moe", "-cmoe", "--n-cpu-moe", "-ncmoe", "--override-tensor", "-ot", "--device", "-dev"),
        *("--rope-scaling", "--rope-scale", "--rope-freq-base", "--rope-freq-scale", "--yarn-orig-ctx"),
        *("--yarn-ext-factor", "--yarn-attn-factor", "--yarn-beta-slow", "--yarn-beta-fast"),
        *(
            "--cache-reuse",
            "--no-context-shift",
            "--context-shift",
            "--slot-prompt-similarity",
            "-sps",
            "--defrag-thold",
        ),
        *("--reasoning-format", "--reasoning-budget", "--chat-template-kwargs", "--spec-type"),
        *(
            "--draft-max",
            "--draft-min",
            "--draft-p-min",
            "--spec-draft-n-max",
            "--spec-draft-n-min",
            "--spec-draft-p-min",
        ),
        *("--no-warmup", "--warmup"),
    )
)


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """What was found out about it.

    version  as it calls itself
    gpus     as it lists them, `CUDA0: NVIDIA H100 (81559 MiB, 81000 MiB free)`
    options  that it knows
    problem  why it cannot be used, as a sentence; None: it can
    """

    path: Path
    version: str | None = None
    gpus: tuple[str, ...] = ()
    options: frozenset[str] = frozenset()
    problem: str | None = None


def examine(path: Path) -> ServerBinary:
    """Ask it. Blocks, for a minute at worst; call it from a thread."""
    try:
        said = _ask(path, "--version")
        found = _VERSION.search(said)
        if found is None:
            return _unusable(path, f"is no llama-server: asked for its version it says {said.strip()[:80]!r}")
        help_text = _ask(path, "--help")
        gpus = tuple(": ".join(match) for match in _GPU.findall(_ask(path, "--list-devices")))
    except FileNotFoundError:
        return _unusable(path, "does not exist")
    except OSError as error:
        return _unusable(path, f"cannot be started: {error.strerror}")
    except subprocess.TimeoutExpired as slow:
        return _unusable(path, f"does not answer {slow.cmd[-1]} within {ASK_S:g} s")
    options = frozenset(_OPTION.findall(help_text))
    return ServerBinary(path, found[1], gpus, options, _too_old(path, options, help_text))


def _ask(path: Path, question: str) -> str:
    """What it prints. Whatever it is, it gets no secrets and no input."""
    done = subprocess.run(
        [str(path), question],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=ASK_S,
        env=without_secrets(),
        check=False,
    )
    return done.stdout.decode(errors="replace")


def _too_old(path: Path, options: frozenset[str], help_text: str) -> str | None:
    if missing := [option for option in _NEEDED if option not in options]:
        return _named(path, f"is too old: it knows no {', '.join(missing)}")
    if ".sock" not in help_text:
        return _named(path, "is too old: it cannot listen on a Unix socket")
    return None


def _unusable(path: Path, why: str) -> ServerBinary:
    return ServerBinary(path, problem=_named(path, why))


def _named(path: Path, why: str) -> str:
    """The key and the file's name: its folder is nobody's business but the operator's, who wrote it."""
    return f"the program '{path.name}' of {NAME} {why}"


def cuda_reason(server: ServerBinary) -> str | None:
    """Why it cannot use the GPUs that this host has; None: it lists some."""
    return None if server.gpus else _named(server.path, "lists no GPU: it is a build without CUDA")


# ---- its command line; pure


def command(server: ServerBinary, spec: EngineSpec, additions: Sequence[str] | None) -> tuple[str, ...]:
    """How it is started for one model. Raises CortexError (400) for additions that are not allowed."""
    _check(additions or (), server)
    return (
        os.fspath(server.path),
        *_model(spec),
        *_context(server, spec),
        *_devices(spec),
        *_where_known(server, ("--offline",), ("--no-ui",), ("--no-webui",), ("--no-slots",), ("--fit", "off")),
        *_where_known(server, ("--sse-ping-interval", "1"), ("--threads-http", str(spec.http_threads))),
        *(additions or ()),
    )


def _model(spec: EngineSpec) -> tuple[str, ...]:
    return (
        *("--model", spec.model_path, "--alias", spec.alias, "--host", spec.socket_path, "--jinja"),
        *(("--chat-template", spec.chat_template) if spec.chat_template else ()),
        *(("--mmproj", spec.mmproj) if spec.mmproj else ()),
        *(("--model-draft", spec.draft, "-ngld", _layers(spec)) if spec.draft else ()),
    )


def _context(server: ServerBinary, spec: EngineSpec) -> tuple[str, ...]:
    return (
        *(
            "--ctx-size",
            str(spec.context),
            "--parallel",
            str(spec.parallel),
            "--n-predict",
            str(spec.max_output_tokens),
        ),
        *("--batch-size", str(spec.batch), "--ubatch-size", str(spec.batch), "--threads", str(spec.threads)),
        *("--cache-type-k", spec.kv_type, "--cache-type-v", spec.kv_type, "--flash-attn", spec.flash_attention),
        *(("--embeddings",) if spec.mode != "chat" else ()),
        *(("--pooling", spec.pooling) if spec.pooling else ()),
        *_where_known(server, ("--kv-unified",), ("--cache-ram", str(spec.prompt_cache_mb))),
    )


def _devices(spec: EngineSpec) -> tuple[str, ...]:
    split = ",".join(map(str, spec.tensor_split or ()))
    return (
        *("--n-gpu-layers", _layers(spec)),
        *(("--split-mode", spec.split_mode) if spec.split_mode else ()),
        *(("--tensor-split", split) if split else ()),
        *(("--main-gpu", str(spec.main_gpu)) if spec.main_gpu is not None else ()),
    )


def _layers(spec: EngineSpec) -> str:
    return str(spec.gpu_layers if spec.gpu_layers >= 0 else 999)  # no model has so many; "all" is a recent word


def _where_known(server: ServerBinary, *arguments: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for argument in arguments if argument[0] in server.options for word in argument)


def _check(additions: Sequence[str], server: ServerBinary) -> None:
    options = [word.partition("=")[0] for word in additions if _OPTION.match(word)]
    wrong = [option for option in options if option not in ADDITIONS]
    wrong += [option for option in options if option not in server.options and option not in wrong]
    if wrong or (additions and not _OPTION.match(additions[0])):
        raise errors.invalid_request(
            f"server_args: '{(wrong or additions)[0]}' cannot be set by a load request; "
            f"this server takes {', '.join(sorted(ADDITIONS & server.options))}",
            code="unsupported_setting",
            param="server_args",
        )
