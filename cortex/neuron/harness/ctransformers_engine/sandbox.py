"""Chat templates run in a process of their own, whose time and memory the kernel bounds.

They are programs that come with files nobody has checked. Nothing within an interpreter bounds one: loops in loops,
`10 ** 10 ** 9`, `"x" * 10 ** 10`, lists that hold themselves twice thirty times over and are written out, all of them
also at compile time, some in a single call that nothing interrupts. So a small process, forked off before there is a
model or a second thread, forks again for each rendering. That child may take CPU_S seconds of processor time (whatever
else the machine does) and MEMORY_BYTES more than it began with, and what it writes is bounded as well; the kernel ends
it at once when it takes more, and the engine does not notice.

For real conversations, which come with their own room, the bounds are far away.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import resource
import signal
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from io import BufferedRWPair
from pathlib import Path
from typing import Any, NoReturn

from cortex.neuron.harness.ctransformers_engine import rendering
from cortex.neuron.harness.ctransformers_engine.rendering import Message

CPU_S = 2.0
MEMORY_BYTES = 256 << 20
MEMORY_A_BYTE = 16  # for each byte that came: decoded, joined and encoded again
TEXT_BYTES = 1 << 20
TEXT_A_BYTE = 4
_HEAD = struct.Struct("<qQ")  # how the child ended, and the length of what follows
_PAGE_BYTES = resource.getpagesize()
_RIGHT, _WRONG, _LONG, _BROKEN = range(4)
_TOLD = 500  # characters of a template's own complaint


class Sandbox:
    """Renders templates, one at a time, for any thread. Made before anything else: it forks. Lives as long as its owner's process."""

    def __init__(self, cpu_s: float = CPU_S) -> None:
        self._cpu_s = cpu_s
        self._turn = threading.Lock()
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            _serve(theirs, cpu_s)
        theirs.close()
        self._stream = ours.makefile("rwb")

    def check(self, source: str) -> None:
        """Raises ValueError for a template that does not compile."""
        self._ask(source)

    def render(self, source: str, messages: Sequence[Message], variables: Mapping[str, Any]) -> str:
        """Raises ValueError when the template does not take these messages, or takes too much for them."""
        return self._ask(source, list(messages), dict(variables))

    def _ask(self, *arguments: Any) -> str:
        with self._turn:
            _write(self._stream, 0, marshal.dumps(arguments))
            answer = _read(self._stream)
        if answer is None:
            raise RuntimeError("the process that renders chat templates is gone")
        code, text = answer[0], answer[1].decode()
        if code != _RIGHT:
            raise ValueError(text if code == _WRONG else self._too_much(code))
        return text

    def _too_much(self, code: int) -> str:
        if code == -signal.SIGPROF:
            return f"it takes more than {self._cpu_s:g} s of processor time"
        return "it writes far more than it was given" if code == _LONG else "it takes more than it may have"


def _serve(channel: socket.socket, cpu_s: float) -> NoReturn:
    """The small process: until its owner is gone. It holds nothing of his."""
    try:
        with contextlib.suppress(OSError):
            Path("/proc/self/comm").write_text("cortex-template")
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        os.dup2(channel.fileno(), 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        with contextlib.suppress(OSError), socket.socket(fileno=3) as own, own.makefile("rwb") as stream:
            while asked := _read(stream):
                _write(stream, *_bounded(asked[1], cpu_s))
    finally:
        os._exit(0)


def _bounded(asked: bytes, cpu_s: float) -> tuple[int, bytes]:
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        _work(writer, asked, cpu_s)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code, text if code in (_RIGHT, _WRONG) else b""


def _work(writer: int, asked: bytes, cpu_s: float) -> NoReturn:
    """One rendering, in the child. Nothing leaves it but bytes and an exit code."""
    code = _BROKEN
    try:
        _limit(cpu_s, MEMORY_BYTES + MEMORY_A_BYTE * len(asked))
        code, text = _rendered(asked)
        with os.fdopen(writer, "wb") as file:
            file.write(text)
    finally:
        os._exit(code)


def _limit(cpu_s: float, memory_bytes: int) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes, used + memory_bytes))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)


def _rendered(asked: bytes) -> tuple[int, bytes]:
    source, *rest = marshal.loads(asked)  # noqa: S302  the engine wrote it
    try:
        if rest:
            text = rendering.render(source, *rest).encode()
        else:
            rendering.check(source)
            text = b""
    except ValueError as error:
        return _WRONG, str(error)[:_TOLD].encode(errors="replace")
    return (_RIGHT, text) if len(text) <= TEXT_BYTES + TEXT_A_BYTE * len(asked) else (_LONG, b"")


# ---- messages between the processes


def _write(stream: BufferedRWPair, code: int, content: bytes) -> None:
    stream.write(_HEAD.pack(code, len(content)))
    stream.write(content)
    stream.flush()


def _read(stream: BufferedRWPair) -> tuple[int, bytes] | None:
    """None when the other side is gone."""
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    code, length = _HEAD.unpack(head)
    content = stream.read(length)
    return (code, content) if len(content) == length else None
