"""Source packages of the index, unpacked once below .engine/."""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
from collections.abc import Collection
from pathlib import Path

from binary.flavours import Refused
from binary.tools import WORK, pip


def pinned(package: str, lock: str) -> tuple[str, frozenset[str]]:
    """Version and SHA-256s of `package` in `lock`, the text of a lock file."""
    found = re.search(rf"^{re.escape(package)}==(\S+)((?:.*\\\n)*.*)", lock, re.MULTILINE)
    if not found:
        raise Refused(f"the lock file names no version of {package}")
    return found[1], frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", found[2]))


def unpacked(package: str, version: str, hashes: Collection[str] = ()) -> Path:
    """The folder of the sources; `hashes`: what the archive may be, empty where nobody knows. Raises Refused."""
    name = f"{package.replace('-', '_')}-{version}"
    folder, archive = WORK / name, WORK / f"{name}.tar.gz"
    if folder.exists():
        return folder
    WORK.mkdir(exist_ok=True)
    if not archive.exists():
        exactly = ("--no-deps", "--no-binary", package, f"{package}=={version}")
        pip("download", "-qq", "--dest", WORK, *exactly)
    verify(archive, hashes)
    with tempfile.TemporaryDirectory(dir=WORK) as fresh:
        # tarfile is safe from Python 3.11.4 on
        subprocess.run(["tar", "-xzf", archive, "-C", fresh, "--no-same-owner"], check=True)
        (Path(fresh) / name).rename(folder)  # whole, or not there
    return folder


def verify(archive: Path, hashes: Collection[str]) -> None:
    """Raises Refused where `archive` is none of `hashes`."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if hashes and digest not in hashes:
        raise Refused(f"{archive} is not what the lock file fixed (its SHA-256 is {digest}): remove it and try again")
