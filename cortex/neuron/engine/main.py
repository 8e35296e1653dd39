"""The main of an engine process: what must be in place before native code runs, then the harness's server.

Standard input brings the specification (one line) and stays open as a lifeline: its end means that the neuron is gone.
Standard output carries one JSON line of ours, `{"ready": true, "info": …}` or `{"error": …, "kind": …}`; whatever
native code prints goes to standard error, which the neuron reads.

SIGTERM keeps its default action: the kernel ends the process at once, in the middle of a load as well, and no native
destructor gets the chance to hang. All that an engine holds, the operating system takes back.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cortex.neuron.engine.outcome import EngineFailed, Kind
from cortex.neuron.engine.spec import EngineSpec

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "500"  # when memory runs out the kernel takes an engine, not the neuron that can tell the story

Serve = Callable[[EngineSpec], dict[str, Any]]


def run() -> int:
    """Serve one model until told to end. Returns only when it could not."""
    _die_with_parent()
    channel = _own_stdout()
    try:
        spec = EngineSpec.from_json(sys.stdin.buffer.readline())
    except (ValueError, TypeError, AttributeError) as error:
        return _fail(channel, f"the specification cannot be read: {error}", "start")
    if os.getppid() != spec.parent_pid:  # the neuron ended before the kernel was told to tell us
        return 0
    _contain(folders=spec.gpu_layers != 0)
    if spec.command:
        return _become(channel, spec.command)
    try:
        info = _harness(spec.harness)(spec)
    except Exception as error:  # whatever a native library throws: the neuron is told, and reads its log for the rest
        return _fail(channel, *_reason(error, spec.harness))
    _say(channel, {"ready": True, "info": info})
    sys.stdin.buffer.read()  # until the neuron is gone
    os._exit(0)


def _reason(error: Exception, harness: str) -> tuple[str, Kind]:
    match error:
        case EngineFailed():
            return error.reason, error.kind
        case ImportError():
            return f"the library of harness '{harness}' cannot be imported: {error}", "start"
        case MemoryError():
            return "out of memory", "memory"
    return str(error) or repr(error), "model"


def _harness(name: str) -> Serve:
    if name == "llamacpp":
        from cortex.neuron.harness.llamacpp_server import serve

        return serve
    if name == "ctransformers":
        from cortex.neuron.harness.ctransformers_engine.server import serve as serve_legacy

        return serve_legacy
    raise ValueError(f"this build has no harness '{name}'")


def _become(channel: int, command: tuple[str, ...]) -> int:
    """Go on as another program: it keeps our process id, our limits and our parent's hold on us.

    `channel` ends by that, and so must whatever else leads there: uvloop leaves a child the originals of its pipes.
    """
    for number in [int(file.name) for file in Path("/proc/self/fd").iterdir()]:
        if number > 2 and number != channel:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(number)
    try:
        os.execv(command[0], command)  # noqa: S606  the operator's own program, and no shell
    except OSError as error:
        return _fail(channel, f"the program '{Path(command[0]).name}' cannot be started: {error.strerror}", "start")


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):  # not on Linux: the lifeline is left
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _own_stdout() -> int:
    """A descriptor that only we know; descriptor 1 joins standard error from here on."""
    channel = os.dup(1)
    os.dup2(2, 1)
    return channel


def _contain(*, folders: bool) -> None:
    """The socket is for the neuron alone, a terminal's Ctrl-C is the neuron's, and a crash writes no core: it holds prompts, and tens of GB.

    `folders`: a driver keeps what it compiles in folders of its own making, which it must be able to enter.
    """
    os.umask(0o077 if folders else 0o177)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whatever the neuron inherited and passed on
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for file, value in (("oom_score_adj", _OOM_SCORE), ("comm", "cortex-engine")):
        with contextlib.suppress(OSError):
            Path("/proc/self", file).write_text(value)


def _fail(channel: int, message: str, kind: Kind) -> int:
    _say(channel, {"error": message, "kind": kind})
    return 1


def _say(channel: int, message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(channel, json.dumps(message).encode() + b"\n")
    os.close(channel)
