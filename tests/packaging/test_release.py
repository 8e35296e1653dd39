"""build/release: what is published of a version, or a sentence that says why not. Run in a clone, around a stand-in."""

import json
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from binary import facts, linkage, release
from binary.flavours import Refused

ROOT = Path(__file__).parent.parent.parent
VERSION = facts.version()

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="releases are made from a checkout")
needs_packers = pytest.mark.skipif(
    not (shutil.which("rpmbuild") and shutil.which("dpkg-deb")), reason="rpmbuild and dpkg-deb are not installed"
)


def git(folder, *arguments):
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


@pytest.fixture
def clone(tmp_path):
    """A checkout of its own, of what is committed, with the scripts of this one."""
    folder = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(ROOT), str(folder))
    for path in ("build", "rpm"):
        shutil.copytree(ROOT / path, folder / path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "as it is here")
    return folder


def run(folder, *arguments):
    command = ["build/release", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


def stand_in(clone, *, glibc="2.28", libstdcxx="3.4.22", licence="MIT"):
    """What build/compile would have made of this very commit."""
    told = {
        "package_version": VERSION,
        "flavour": "cpu",
        "git_sha": git(clone, "describe", "--always", "--abbrev=12", "--exclude=*"),
        "built_at": "2026-11-23T16:00:00Z",
    }
    dist = clone / "dist"
    dist.mkdir()
    (dist / "cortex").write_text(f"#!/bin/sh\necho '{json.dumps(told)}'\n")
    (dist / "cortex").chmod(0o755)
    made = {
        "file": "dist/cortex",
        "glibc": glibc,
        "libstdcxx": libstdcxx,
        "glibc_beyond": [f"libx.so: {glibc}: dlopen"],
    }
    (dist / "cortex.json").write_text(json.dumps(made))
    part = {"name": "libx.so"} | ({"licenses": [{"expression": licence}]} if licence else {})
    (dist / "cortex.cdx.json").write_text(json.dumps({"components": [part]}))


def test_a_working_tree_with_changes_is_refused_by_name(clone):
    """What is published is what the commit says."""
    (clone / "stray.txt").touch()
    done = run(clone)
    assert done.returncode == 1
    assert done.stderr == "build/release: the working tree is not what its commit says: stray.txt\n"
    assert not (clone / "dist").exists()


def test_a_version_that_the_changelog_does_not_know_is_refused_by_name(clone):
    """Users read there what is new."""
    (clone / "CHANGELOG.md").write_text("# Changelog\n\n## 0.0.1 (2020-01-01)\n\n- First.\n")
    git(clone, "commit", "-aqm", "no notes")
    done = run(clone)
    assert done.returncode == 1
    assert f"CHANGELOG.md has no section '## {VERSION}'; it has 0.0.1 (2020-01-01)" in done.stderr


def test_a_tag_and_the_sources_must_agree(clone):
    """A tag of another version, or of a section that is not finished, is refused."""
    git(clone, "tag", "v99.0.0")
    assert "this commit is tagged v99.0.0" in run(clone).stderr
    git(clone, "tag", "-d", "v99.0.0")
    changelog = clone / "CHANGELOG.md"
    changelog.write_text(f"# Changelog\n\n## {VERSION} (unreleased)\n\n- New.\n")
    git(clone, "commit", "-aqm", "unfinished", "--allow-empty")
    git(clone, "tag", f"v{VERSION}")
    assert f"still calls {VERSION} unreleased" in run(clone).stderr


def test_a_binary_for_newer_systems_than_promised_is_refused(clone):
    """Hosts with the promised glibc could not run it; what needs more is named."""
    stand_in(clone, glibc="2.34")
    done = run(clone)
    assert done.returncode == 1
    assert "needs glibc 2.34, and hosts have 2.28" in done.stderr
    assert "libx.so: 2.34: dlopen" in done.stderr


@pytest.mark.skipif(linkage.parse(platform.libc_ver()[1] or "0") <= (2, 28), reason="this system is as old as promised")
def test_a_build_that_would_be_in_vain_is_refused_before_it_begins(clone):
    """A system with a newer glibc than hosts have is told which command makes the program."""
    done = run(clone)
    assert done.returncode == 1
    assert "make it with build/portable" in done.stderr


def test_a_binary_for_newer_compilers_than_promised_is_refused(clone):
    """A host's libstdc++ is as old as its glibc."""
    stand_in(clone, libstdcxx="3.4.29")
    done = run(clone)
    assert done.returncode == 1
    assert "needs libstdc++'s symbols 3.4.29, and hosts with glibc 2.28 have 3.4.25" in done.stderr


def test_a_part_without_a_licence_is_refused(clone):
    """Nobody may publish what nobody may copy."""
    stand_in(clone, licence=None)
    assert "names no licence of libx.so" in run(clone).stderr


@needs_packers
def test_a_release_has_checksums_of_all_that_it_is(clone):
    """Binary, SBOM, packages, notes; `sha256sum -c` says that they are whole."""
    stand_in(clone)
    done = run(clone)
    assert done.returncode == 0, done.stderr
    made = {Path(line).name for line in done.stdout.splitlines()}
    assert {"cortex", "cortex.cdx.json", "NOTES.md", "SHA256SUMS"} < made
    assert {Path(name).suffix for name in made} >= {".rpm", ".deb"}
    assert (clone / "dist/NOTES.md").read_text().startswith(f"## {VERSION}")
    checked = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=clone / "dist", capture_output=True, text=True, timeout=60, check=True
    )
    assert {line.removesuffix(": OK") for line in checked.stdout.splitlines()} == made - {"SHA256SUMS"}


def test_notes_are_one_section():
    """From its heading to the next one."""
    changelog = (
        "# Changelog\n\n## [1.1.0] - 2026-11-01\n\n### Added\n\n- A.\n\n## 1.0.0 (2026-01-01)\n\n- B.\n\n## 0.9.0\n"
    )
    assert release.section(changelog, "1.1.0") == "## [1.1.0] - 2026-11-01\n\n### Added\n\n- A.\n"
    assert release.section(changelog, "1.0.0") == "## 1.0.0 (2026-01-01)\n\n- B.\n"
    with pytest.raises(Refused, match=r"says nothing of 0\.9\.0"):
        release.section(changelog, "0.9.0")
    with pytest.raises(Refused, match=r"no section .## 1\.1."):
        release.section(changelog, "1.1")
