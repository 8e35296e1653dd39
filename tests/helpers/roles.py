"""A role as a process of its own, its log, and its end."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

WITHIN_S = 30.0


class Role:
    """A running role. Its log is read all the time, so that it never waits for a reader."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        self.lines.extend(iter(self.process.stderr.readline, ""))

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def said(self, pattern: str) -> re.Match[str] | None:
        return re.search(pattern, self.log)

    def until(self, pattern: str) -> re.Match[str]:
        """Wait for a line of the log."""
        end = time.monotonic() + WITHIN_S
        while not (found := self.said(pattern)):
            ended = self.process.poll() is not None and not self._reader.is_alive()
            assert not ended or self.said(pattern), f"it ended without {pattern!r}:\n{self.log}"
            assert time.monotonic() < end, f"no {pattern!r} in {WITHIN_S:g} s:\n{self.log}"
            time.sleep(0.01)
        return found

    @property
    def url(self) -> str:
        return self.until(r"(gateway|neuron) listens on (https?://)?([\d.:]+)")[3].join(("http://", ""))

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        self.send(number)
        code = self.process.wait(timeout=WITHIN_S)
        self._reader.join(WITHIN_S)
        return code


@contextlib.contextmanager
def running_role(*arguments: str | Path, **environ: str) -> Iterator[Role]:
    """`cortex` with these arguments; killed at the end if it is still there."""
    command = [sys.executable, "-m", "cortex", *map(str, arguments)]
    settings = {"CORTEX_GATEWAY__METRICS_LISTEN": "127.0.0.1:0", "CORTEX_LOG": "info", **environ}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=settings) as process:
        role = Role(process)
        try:
            yield role
        finally:
            process.kill()
            role._reader.join(WITHIN_S)
