"""`build/up` as a person runs it: a real process, its printed lines, and nothing left of it afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ports import free_ports

ROOT = Path(__file__).parents[2]
MODEL = "SmolLM2-135M-Instruct.Q4_1"
STOP_S = 5  # what build/up promises


@dataclass(frozen=True)
class Demo:
    """A running demo: the gateway's port, the metrics' one above, the neuron's two above; and what it printed."""

    process: subprocess.Popen[str]
    port: int
    home: Path
    printed: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def neuron(self) -> str:
        return f"127.0.0.1:{self.port + 2}"

    @property
    def curls(self) -> list[str]:
        return [line for line in self.printed if line.startswith("curl ")]

    def processes(self) -> list[str]:
        """The command lines of every process that the demo started and that is still there."""
        return [name for pid, name in _processes() if _belongs(pid, self.process.pid, f"DEMO_HOME={self.home}")]

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it: to the whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(timeout=STOP_S)


@contextlib.contextmanager
def running_demo() -> Iterator[Demo]:
    """build/up from its first line to its end. Its temporary files are in a folder of their own, so that leftovers show."""
    port = free_ports(3)
    with tempfile.TemporaryDirectory(prefix="demo-") as home:
        process = subprocess.Popen(
            [ROOT / "build/up", "--port", str(port)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "TMPDIR": home, "DEMO_HOME": home, "HF_HUB_OFFLINE": "1"},
        )
        demo = Demo(process, port, Path(home), [])
        try:
            demo.printed.extend(_until_ready(process))
            yield demo
        finally:
            if process.poll() is None:
                demo.interrupt()
            if process.stdout:
                process.stdout.close()


def _until_ready(process: subprocess.Popen[str]) -> Iterator[str]:
    """The printed lines up to the last one; the pytest time-out bounds the wait."""
    assert process.stdout
    for line in process.stdout:
        yield line.rstrip("\n")
        if line.startswith("Ctrl-C ends it"):
            return
    raise AssertionError(f"build/up ended with exit code {process.wait(timeout=10)} before it was ready")


def _processes() -> Iterator[tuple[int, str]]:
    """Every process of this machine that is no zombie, with its command line."""
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and (command := (folder / "cmdline").read_bytes()):
                yield int(folder.name), command.replace(b"\0", b" ").decode(errors="replace")


def _belongs(pid: int, session: int, setting: str) -> bool:
    """Whether a process is of a session, or has a setting in its environment: a child may have left either."""
    try:
        return os.getsid(pid) == session or setting.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
