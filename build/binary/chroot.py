"""A minimal Debian in a folder, and commands in it.

Each command has a mount namespace of its own: what it sees of this machine (devices, name servers, folders that are lent to
it) is gone with it, however it ends, and was never there for anybody else. The network is this machine's.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from binary.tools import Missing

SUITE = "bullseye"
PROGRAMS = {
    "debootstrap": "debootstrap",
    "unshare": "util-linux",
    "mount": "mount",
    "chroot": "coreutils",
    "git": "git",
}
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
_ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_OF_HOST = (Path("/etc/resolv.conf"), Path("/etc/hosts"))


def check() -> None:
    """Raises Missing unless a root may be made and entered here."""
    if os.geteuid() != 0:
        raise Missing("only root may make and enter a Debian root: run it as root, on a builder's own machine")
    absent = [
        f"{program} (Debian: {package})" for program, package in PROGRAMS.items() if shutil.which(program) is None
    ]
    if absent:
        raise Missing(f"not installed: {', '.join(absent)}")


@dataclass(frozen=True, slots=True)
class Root:
    """`lent` are files and folders of this machine that commands see at their own places; those of `written` they may change."""

    folder: Path
    environment: Mapping[str, str]
    lent: Sequence[Path] = ()
    written: Sequence[Path] = ()

    @property
    def made(self) -> Path:
        """What of `once` is done."""
        return self.folder / "build" / "made"

    def run(self, *command: str, folder: str = "/") -> None:
        """With this process's output. Raises CalledProcessError."""
        entered = ["chroot", str(self.folder), "env", "-i", *self._assignments(), "sh", "-ec", 'cd "$0"; exec "$@"']
        script = "\n".join([*self._mounts(), shlex.join(["exec", "nice", "-n", "10", *entered, folder, *command])])
        subprocess.run([*_ALONE, "sh", "-ec", script], stdin=subprocess.DEVNULL, check=True)

    def script(self, text: str, *arguments: str) -> None:
        """A shell script that tells on stderr: the first command that fails ends it. Raises CalledProcessError."""
        self.run("bash", "-euo", "pipefail", "-c", f"exec >&2\n{text}", "bash", *arguments)

    def once(self, step: str, ingredients: str, text: str, *arguments: str) -> bool:
        """`script`, unless it has come to its end here with the same ingredients; whether it was run."""
        stamp, made_of = self.made / step, "\n".join([text, *arguments, ingredients])
        if stamp.exists() and stamp.read_text() == made_of:
            return False
        stamp.unlink(missing_ok=True)
        self.script(text, *arguments)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(made_of)
        return True

    def _assignments(self) -> Iterable[str]:
        return (f"{name}={value}" for name, value in {**ENVIRONMENT, **self.environment}.items())

    def _mounts(self) -> Iterable[str]:
        yield shlex.join(["mount", "-t", "proc", "proc", f"{self.folder}/proc"])
        yield shlex.join(["mount", "--rbind", "/dev", f"{self.folder}/dev"])
        for source in (*_OF_HOST, *self.lent):
            yield shlex.join(["mount", "--bind", "-o", "ro", str(source), str(self._place(source))])
        for source in self.written:
            yield shlex.join(["mount", "--bind", str(source), str(self._place(source))])

    def _place(self, source: Path) -> Path:
        """Where `source` is seen: something to mount on is made."""
        place = self.folder / source.relative_to("/")
        if source.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        return place


def bootstrap(folder: Path, mirror: str | None) -> None:
    """A minimal Debian at `folder`, unless there is one. Without a mirror debootstrap's own. Raises CalledProcessError."""
    if folder.exists():
        return
    fresh = folder.with_name(folder.name + ".new")
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(parents=True)
    command = ["nice", "-n", "10", "debootstrap", "--variant=minbase", SUITE, str(fresh), *([mirror] if mirror else [])]
    subprocess.run([*_ALONE, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    fresh.rename(folder)
