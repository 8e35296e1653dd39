"""How an engine ended, or why it did not start: pure reading of exit codes and of last words."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["model", "memory", "timeout", "crash", "start", "backend"]
Cause = Literal["gpu", "memory", "crash"]


@dataclass(frozen=True, slots=True)
class EngineExit:
    """The end of an engine. `code` or `signal` is set, `reason` is a sentence's end ("the engine was …")."""

    code: int | None
    signal: int | None
    reason: str
    log_tail: tuple[str, ...] = ()
    asked: bool = False  # it was stopped by us


class EngineFailed(Exception):  # noqa: N818  reads as what happened
    """An engine did not become ready.

    kind   model: the file cannot be served; memory: it does not fit; timeout: it was not ready in time;
           crash: the process died; start: the process could not be started as specified;
           backend: its code for GPUs cannot be loaded, or sees none
    """

    def __init__(self, reason: str, *, kind: Kind, log_tail: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind: Kind = kind
        self.log_tail = log_tail


def exit_of(returncode: int, log_tail: tuple[str, ...], *, asked: bool) -> EngineExit:
    """`returncode` as subprocess gives it: negative for a signal."""
    code, number = (returncode, None) if returncode >= 0 else (None, -returncode)
    reason = "stopped on request" if asked else _reason(code, number, log_tail)
    return EngineExit(code, number, reason, log_tail, asked)


def _reason(code: int | None, number: int | None, log_tail: tuple[str, ...]) -> str:
    if number is None:
        told = gpu_error(log_tail)
        return f"ended with exit code {code}" + (f": {told}" if told else "")
    if number == signal.SIGKILL:
        return "killed by the kernel, probably out of memory (SIGKILL)"
    killed = f"killed by signal {number} ({_signal_name(number)})"
    abort = next((line for line in reversed(log_tail) if "GGML_ASSERT" in line or "GGML_ABORT" in line), None)
    told = gpu_error(log_tail) or abort
    return f"{killed}: {told}" if told else killed


def gpu_error(log_tail: tuple[str, ...]) -> str | None:
    """What the GPU's library said first; what follows is where it was said."""
    return next((found[0] for line in log_tail if (found := _GPU_ERROR.search(line))), None)


def cause_of(reason: str) -> Cause:
    """Of what an engine died, from its end or its failure as told to people."""
    if _GPU_ERROR.search(reason):
        return "gpu"
    return "memory" if "out of memory" in reason else "crash"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return "unknown"


_GPU_ERROR = re.compile(r"(?:CUDA|ROCm|HIP|MUSA|SYCL) error\b.*|.*(?:ErrorDeviceLost|DeviceLostError).*")
_PREFIX = re.compile(r"^[\d.]+ [A-Z] +")  # llama.cpp's time and level
_LAST_WORDS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (
        "memory",
        re.compile(
            r"((?:failed|unable) to allocate(?!.* pinned memory).*|.*out of memory.*|.*bad_alloc.*)", re.IGNORECASE
        ),
    ),
    ("start", re.compile(r"(couldn't bind.*)")),
    ("model", re.compile(r"common_chat_templates_init: error: (.*)")),
    ("model", re.compile(r"(.*exceeds maximum.*)")),
    ("model", re.compile(r"gguf_init_from_\w+: (.*)")),
    ("model", re.compile(r"error loading model: (.*)")),
    ("model", re.compile(r"((?:failed to load|failed to create|failed to initialize|unable to load).*)")),
)


def last_words(log_tail: tuple[str, ...]) -> tuple[Kind, str] | None:
    """What llama.cpp and ggml say before they give up, most telling first; None when nothing of it is known."""
    lines = [_PREFIX.sub("", line) for line in log_tail]
    for kind, pattern in _LAST_WORDS:
        for line in lines:
            if found := pattern.search(line):
                return kind, found.group(1).strip()
    return None


def failure_of(ended: EngineExit, message: Mapping[str, Any]) -> EngineFailed:
    """Why an engine that has ended never became ready: its last words if they are known, else its own `message`, else its end.

    A library that runs out of memory may abort, and the kernel may be faster than it: both are a matter of memory.
    """
    if message.get("kind") == "backend":  # what its log says is in there already
        return EngineFailed(message["error"], kind="backend", log_tail=ended.log_tail)
    words = last_words(ended.log_tail)
    if ended.signal is not None and not (words and words[0] == "memory"):
        kind: Kind = "memory" if ended.signal == signal.SIGKILL else "crash"
        return EngineFailed(f"the engine was {ended.reason} while it loaded", kind=kind, log_tail=ended.log_tail)
    if words:
        return EngineFailed(words[1], kind=words[0], log_tail=ended.log_tail)
    if message:
        return EngineFailed(message["error"], kind=message["kind"], log_tail=ended.log_tail)
    return EngineFailed(f"the engine {ended.reason} while it loaded", kind="crash", log_tail=ended.log_tail)
