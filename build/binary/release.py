"""build/release: everything that is published of one version, in dist/, or a sentence that says why not.

The order: what would stop it is found out first, then each flavour is compiled and packed, and the checksums come last.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from binary import facts, linkage, sbom
from binary.flavours import FLAVOURS, Refused
from binary.tools import ROOT

SUMS = "SHA256SUMS"
NOTES = "NOTES.md"
UNRELEASED = "unreleased"


def main() -> int:
    args = _arguments()
    try:
        made = release(args.flavour or ["cpu"], args.packages, args.glibc, ROOT / "dist")
    except Refused as refusal:
        return _fail(str(refusal))
    except subprocess.CalledProcessError as error:
        return _fail(f"{Path(str(error.cmd[0])).name} ended with exit code {error.returncode}; its own words are above")
    print("\n".join(str(file.relative_to(ROOT)) for file in made))
    return 0


def release(flavours: list[str], packages: list[str], glibc: str, folder: Path) -> list[Path]:
    """The files of the release, checksums last. Raises Refused, CalledProcessError."""
    version = facts.version()
    notes = section((ROOT / "CHANGELOG.md").read_text(), version)
    check_tree(version, notes)
    folder.mkdir(exist_ok=True)
    made = []
    for flavour in flavours:
        made += one_flavour(flavour, packages, glibc, folder)
    (folder / NOTES).write_text(notes)
    made.append(folder / NOTES)
    (folder / SUMS).write_text(checksums(made))
    return [*made, folder / SUMS]


def check_tree(version: str, notes: str) -> None:
    """Raises Refused unless what will be built is what the commit says, and a tag is that of a finished section."""
    changed = _git("status", "--porcelain").splitlines()
    if changed:
        raise Refused(f"the working tree is not what its commit says: {', '.join(line[3:] for line in changed[:5])}")
    tags = _git("tag", "--points-at", "HEAD").split()
    if f"v{version}" in tags and UNRELEASED in notes.splitlines()[0]:
        raise Refused(f"v{version} is tagged, and CHANGELOG.md still calls {version} {UNRELEASED}: give it its date")
    other = [tag for tag in tags if tag.startswith("v") and tag != f"v{version}"]
    if other:
        raise Refused(f"this commit is tagged {', '.join(other)}, and cortex/__init__.py says {version}")


def section(changelog: str, version: str) -> str:
    """What CHANGELOG.md says of `version`, with its heading. Raises Refused where it says nothing."""
    parts = re.split(r"^(?=## )", changelog, flags=re.MULTILINE)[1:]
    for part in parts:
        heading, _, text = part.partition("\n")
        if heading.removeprefix("## ").split(" ")[0].strip("[]") == version:
            if not text.strip():
                raise Refused(f"CHANGELOG.md says nothing of {version}")
            return part.rstrip() + "\n"
    known = ", ".join(part.partition("\n")[0].removeprefix("## ") for part in parts)
    raise Refused(f"CHANGELOG.md has no section '## {version}'; it has {known or 'none'}")


def one_flavour(flavour: str, packages: list[str], glibc: str, folder: Path) -> list[Path]:
    """The binary, its SBOM and its packages."""
    binary = folder / FLAVOURS[flavour].program
    if not is_of_this_commit(binary, flavour):
        check_system(binary, linkage.parse(glibc))
        _run("build/compile", "--flavour", flavour, "--output", str(binary))
    check_glibc(json.loads(binary.with_name(binary.name + ".json").read_text()), glibc)
    bill = binary.with_name(binary.name + sbom.SUFFIX)
    if unnamed := sbom.unlicensed(json.loads(bill.read_text())):
        raise Refused(
            f"{bill.name} names no licence of {', '.join(unnamed)}: say them in build/binary/sbom.py or NOTICE"
        )
    made = _run("build/package", *packages, "--flavour", flavour, "--binary", str(binary)).split()
    return [binary, bill, *map(Path, made)]


def check_system(binary: Path, limit: linkage.Version) -> None:
    """Raises Refused where a program made here, for hosts as old as promised, would be made in vain."""
    name, here = platform.libc_ver()
    if name == "glibc" and limit <= linkage.GLIBC and linkage.parse(here) > limit:
        raise Refused(
            f"{binary.name} of this commit is not there, and what is compiled on this system (glibc {here}) does not run "
            f"with {linkage.text(limit)}: make it with build/portable --output {binary}, or promise more with --glibc"
        )


def check_glibc(made: dict[str, Any], limit: str) -> None:
    """Raises Refused where a program needs more than hosts are promised to have."""
    if more := linkage.exceeded(made, linkage.parse(limit)):
        told = "\n  ".join(["", *made["glibc_beyond"]])
        raise Refused(
            f"{Path(made['file']).name} needs {more}: build/portable makes one that does not, or say "
            f"--glibc {made['glibc']}. What needs it:{told}"
        )


def is_of_this_commit(binary: Path, flavour: str) -> bool:
    """Whether build/compile has made it already, of the very commit."""
    if not binary.exists() or not binary.with_name(binary.name + sbom.SUFFIX).exists():
        return False
    told: dict[str, Any] = json.loads(_run(str(binary), "version", "--json"))
    return (told["flavour"], told["git_sha"]) == (flavour, facts.commit())


def checksums(files: Iterable[Path]) -> str:
    """As `sha256sum -c` reads them, in the folder of the files."""
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)


def _git(*arguments: str) -> str:
    try:
        return _run("git", *arguments)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Refused("a release is made from a git checkout: it says of which commit it is") from error


def _run(*command: str) -> str:
    """What it says on stdout; stderr is the operator's to read."""
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="build/release",
        description="Make what is published of the version in cortex/__init__.py, in dist/.",
        epilog="It writes the binary, its SBOM (CycloneDX), packages, NOTES.md (CHANGELOG.md's section) and SHA256SUMS.\n"
        "A program for glibc 2.28 is made beforehand, by build/portable; this finds it, as long as it is of the very commit.\n"
        "It refuses a working tree with changes, and a version of which CHANGELOG.md has no section. A commit that is not\n"
        "tagged vVERSION gives packages that sort before the release.\n\n"
        "Exit codes: 0 made, 1 refused or failed, with a sentence, 2 a mistake on the command line.\n"
        "example: build/release --flavour cpu --flavour ada --glibc 2.28",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--flavour", choices=FLAVOURS, action="append", help="once for each (cpu)")
    parser.add_argument("--packages", choices=("rpm", "deb"), nargs="*", default=["rpm", "deb"], help="(rpm deb)")
    parser.add_argument(
        "--glibc", default="2.28", metavar="2.28", help="the newest that hosts need to have; more is refused (2.28)"
    )
    return parser.parse_args()


def _fail(message: str) -> int:
    print(f"build/release: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
