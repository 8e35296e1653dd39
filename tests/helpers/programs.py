"""Other people's programs, each in a home and a folder of its own, as `build/clients` installed them."""

from __future__ import annotations

import asyncio
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / ".clients"
OURS = (INSTALLED / "node_modules" / ".bin", INSTALLED / "venv" / "bin", INSTALLED / "aider" / "bin")
PATH = ":".join([*map(str, OURS), "/usr/local/bin", "/usr/bin", "/bin"])
TIMEOUT_S = 240


def missing(program: str) -> str | None:
    """Why a program cannot be run; None when it can."""
    if "CORTEX_PROGRAMS" not in os.environ:
        return "other people's programs run in build/test clients, which takes the network away from them"
    if not shutil.which(program, path=PATH):
        return f"{program} is not installed: build/clients does that, with a package index in reach"
    return None


@dataclass
class Program:
    """A clean environment below `folder`: nothing of whoever runs the tests is seen or changed."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir()
        self.work.mkdir()

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def file(self, path: str, text: str) -> None:
        """A file of its home."""
        target = self.home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    async def run(self, *command: str) -> str:
        """What it prints. Its failure shows all that it said."""
        clean = {"PATH": PATH, "HOME": str(self.home), "LANG": "C.UTF-8", "TERM": "dumb", "TMPDIR": str(self.folder)}
        program = shutil.which(command[0], path=PATH)
        assert program, missing(command[0])
        process = await asyncio.create_subprocess_exec(
            program,
            *command[1:],
            cwd=self.work,
            env=clean | self.environment,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, f"{command[0]} ended with {process.returncode}:\n{out.decode()}\n{err.decode()}"
        return out.decode()
