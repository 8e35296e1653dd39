"""The RPMs and .debs: files, owners, modes, and what they ask of one another. Around a stand-in: packaging is looked at here."""

import functools
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
STAND_IN = """#!/bin/sh
echo '{"package_version": "9.8.7", "flavour": "FLAVOUR", "git_sha": "0123456789ab", "built_at": "2026-11-23T16:00:00Z"}'
"""

pytestmark = pytest.mark.skipif(shutil.which("rpmbuild") is None, reason="rpmbuild is not installed")
needs_dpkg = pytest.mark.skipif(
    not (shutil.which("dpkg-deb") and shutil.which("ar")), reason="dpkg-deb and ar are not installed"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may install packages")


def packages(folder, *kinds, flavour="cpu"):
    binary = folder / "cortex"
    binary.write_text(STAND_IN.replace("FLAVOUR", flavour))
    binary.chmod(0o755)
    (folder / "cortex.json").write_text(json.dumps({"glibc": "2.34"}))
    command = [ROOT / "build" / "package", *kinds, "--flavour", flavour, "--binary", binary]
    return run(*command).splitlines()


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`package name → .rpm`."""
    files = packages(tmp_path_factory.mktemp("rpms"), "rpm")
    return {run("rpm", "-qp", "--qf", "%{NAME}", file): file for file in files}


def listing(rpm):
    """`path → (mode, owner, group, is configuration)`."""
    lines = run(
        "rpm",
        "-qp",
        "--qf",
        "[%{FILENAMES} %{FILEMODES:octal} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILEFLAGS:fflags}\n]",
        rpm,
    )
    fields = [line.split(" ") for line in lines.splitlines()]
    return {path: (int(mode, 8) & 0o7777, user, group, flags) for path, mode, user, group, flags in fields}


def test_each_package_has_its_files_with_owners_and_modes(made):
    """Secrets are for root and the service's group; configuration survives an upgrade; the program is one file."""
    assert made.keys() == {"cortex", "cortex-bin", "helexa-neuron"}
    gateway, binary, neuron = (listing(made[name]) for name in ("cortex", "cortex-bin", "helexa-neuron"))
    assert binary["/usr/bin/cortex"] == (0o755, "root", "root", "")
    for files, user, unit, firewall in (
        (gateway, "cortex", "cortex", "cortex"),
        (neuron, "neuron", "neuron", "helexa-neuron"),
    ):
        assert files[f"/etc/{user}"] == (0o750, "root", user, "")
        assert files[f"/etc/{user}/{user}.toml"] == (0o640, "root", user, "cn")  # config(noreplace)
        for path in (
            f"/usr/lib/systemd/system/{unit}.service",
            f"/usr/lib/sysusers.d/{user}.conf",
            f"/usr/lib/tmpfiles.d/{user}.conf",
            f"/usr/lib/firewalld/services/{firewall}.xml",
        ):
            assert files[path] == (0o644, "root", "root", ""), path
        assert "/usr/bin/cortex" not in files
    assert gateway["/etc/cortex/models.toml"] == (0o644, "root", "root", "cn")


def test_packages_find_one_another(made):
    """Both roles want the binary of their own version; users are provided by name; the glibc is asked for."""
    release = "9.8.7-0.1.20261123160000.git0123456789ab"
    assert f"cortex-binary = {release}" in run("rpm", "-qp", "--requires", made["cortex"]).splitlines()
    assert f"cortex-binary = {release}" in run("rpm", "-qp", "--requires", made["helexa-neuron"]).splitlines()
    assert {"user(cortex)", "group(cortex)"} <= set(run("rpm", "-qp", "--provides", made["cortex"]).splitlines())
    assert {"user(neuron)", "group(neuron)"} <= set(run("rpm", "-qp", "--provides", made["helexa-neuron"]).splitlines())
    assert f"cortex-binary = {release}" in run("rpm", "-qp", "--provides", made["cortex-bin"]).splitlines()
    assert "libc.so.6(GLIBC_2.34)(64bit)" in run("rpm", "-qp", "--requires", made["cortex-bin"]).splitlines()


def test_flavours_exclude_one_another(made, tmp_path):
    """There is one /usr/bin/cortex; the package of a GPU family brings the neuron along."""
    names = {run("rpm", "-qp", "--qf", "%{NAME}", file): file for file in packages(tmp_path, "rpm", flavour="ada")}
    assert names.keys() == {"cortex", "cortex-bin-ada", "helexa-neuron", "helexa-neuron-ada"}
    for file in (names["cortex-bin-ada"], made["cortex-bin"]):
        assert run("rpm", "-qp", "--conflicts", file).split() == ["cortex-binary"]
    assert "cortex-bin-ada" in run("rpm", "-qp", "--requires", names["helexa-neuron-ada"]).split()


def test_a_binary_of_another_flavour_is_not_packaged(tmp_path):
    """The name of a package must not lie."""
    packages(tmp_path, "rpm", flavour="ada")
    command = [ROOT / "build" / "package", "rpm", "--binary", tmp_path / "cortex"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "is of flavour 'ada', not 'cpu'" in done.stderr


@pytest.mark.skipif(shutil.which("rpmlint") is None, reason="rpmlint is not installed")
def test_rpmlint_finds_nothing_that_was_not_argued(made):
    """What it would say besides stands in rpm/rpmlint.toml, each with a reason."""
    command = ["rpmlint", "-c", ROOT / "rpm" / "rpmlint.toml", *(ROOT / "rpm").glob("*.spec"), *made.values()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    # The stand-in is a script: what is said of the real program's file is judged with build/package.
    found = [line for line in done.stdout.splitlines() if " E: " in line or " W: " in line]
    assert [line for line in found if not line.startswith("cortex-bin.x86_64: E: no-binary")] == []


@needs_root
def test_the_packages_install_into_an_empty_root(made, tmp_path):
    """Owners and modes on the disk are those of the package."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\ncortex:x:987:\nneuron:x:986:\n")
    run("rpm", f"--root={tmp_path}", "--nodeps", "--noscripts", "--ignorearch", "--nosignature", "-i", *made.values())
    for path, gid in (("cortex/cortex.toml", 987), ("neuron/neuron.toml", 986)):
        status = (tmp_path / "etc" / path).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 0, gid)
    assert os.access(tmp_path / "usr/bin/cortex", os.X_OK)


def test_the_program_is_not_compressed_twice(made):
    """It is compressed already; a flavour with CUDA would keep its builder and every host busy for nothing."""
    assert run("rpm", "-qp", "--qf", "%{PAYLOADFLAGS}", made["cortex-bin"]).strip() == ""


@needs_dpkg
def test_the_debs_hold_the_same_trees(made, tmp_path):
    """Debian's packages are those of RPM in other words; the program is not compressed twice there either."""
    debs = packages(tmp_path, "deb")
    assert len(debs) == 3
    for deb in debs:
        name = run("dpkg-deb", "--field", deb, "Package").strip()
        tree = {line.split()[-1].strip(".").rstrip("/") for line in run("dpkg-deb", "--contents", deb).splitlines()}
        assert listing(made[name]).keys() <= tree
        members = run("ar", "t", deb).split()
        assert members[-1] == ("data.tar" if name == "cortex-bin" else "data.tar.gz")


@needs_dpkg
def test_flavours_of_debs_take_one_another_s_place(tmp_path):
    """All are cortex-binary of their own version, and only one may be installed; the package of a GPU family brings the neuron."""
    debs = {Path(deb).name.partition("_")[0]: deb for deb in packages(tmp_path, "deb", flavour="ada")}
    assert debs.keys() == {"cortex", "cortex-bin-ada", "helexa-neuron", "helexa-neuron-ada"}
    field = functools.partial(run, "dpkg-deb", "--field")
    release = "9.8.7-0.1.20261123160000.git0123456789ab"
    binary = debs["cortex-bin-ada"]
    assert field(binary, "Provides").strip() == f"cortex-binary (= {release})"
    assert {field(binary, name).strip() for name in ("Conflicts", "Replaces")} == {"cortex-binary"}
    for name in ("cortex", "helexa-neuron"):
        assert f"cortex-bin (= {release}) | cortex-binary (= {release})" in field(debs[name], "Depends")
    assert f"cortex-bin-ada (= {release})" in field(debs["helexa-neuron-ada"], "Depends")
