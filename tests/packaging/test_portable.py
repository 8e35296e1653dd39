"""build/portable: what stops it is said before anything is made; what pip is set to here, it is set to in the root."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from binary import linkage, oldest, portable
from binary.chroot import Root
from binary.flavours import Refused
from helpers.one_file import BINARY, wanted

ROOT = Path(__file__).parent.parent.parent

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may enter another root")


def run(*arguments, **environ):
    command = [ROOT / "build" / "portable", *arguments]
    return subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--no-backend"], "unrecognized arguments: --no-backend"),
        (["--flavour", "voodoo"], "invalid choice: 'voodoo'"),
        (["--python-source", "x.tar.xz"], "--python-source and --python-sha256 belong together"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_at_once(tmp_path, arguments, said):
    """Also in what is meant for build/compile, a quarter of an hour before that is called."""
    done = run("--root", str(tmp_path / "root"), *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


@as_root
def test_whoever_is_not_root_is_refused(tmp_path):
    """One sentence, exit status 3, and nothing is made."""
    folder = tmp_path / "root"
    command = ["setpriv", "--reuid=65534", "--clear-groups", ROOT / "build" / "portable", "--root", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 3
    assert "only root may make and enter a Debian root" in done.stderr
    assert not folder.exists()


@as_root
def test_a_program_that_is_not_there_is_named_with_its_package(tmp_path):
    """debootstrap above all."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname"):
        (tools / name).symlink_to(shutil.which(name))
    done = run("--root", str(tmp_path / "root"), PATH=str(tools), PYTHON=sys.executable)
    assert done.returncode == 3
    assert "not installed: debootstrap (Debian: debootstrap)" in done.stderr


def test_a_tarball_that_is_not_what_its_checksum_says_is_refused(tmp_path):
    """By name, with both sums."""
    tarball = tmp_path / "Python.tar.xz"
    tarball.write_bytes(b"not that")
    with pytest.raises(Refused, match=r"Python.tar.xz has the SHA-256 [0-9a-f]{64}, not 00ff"):
        oldest.verify(tarball, "00ff")
    with pytest.raises(Refused, match="cannot be read: No such file"):
        oldest.verify(tmp_path / "none", "00ff")


def test_sources_of_packages():
    """Programs of Debian 11, sources of Debian 12; security updates beside the mirror, elsewhere, or not at all."""
    lines = oldest.apt_sources("http://mirror.example/debian/", None).splitlines()
    assert lines == [
        "deb http://mirror.example/debian/ bullseye main",
        "deb-src http://mirror.example/debian/ bookworm main",
        "deb http://mirror.example/debian-security bullseye-security main",
        "deb-src http://mirror.example/debian-security bookworm-security main",
    ]
    assert "http://s.example bullseye-security" in oldest.apt_sources("http://m.example", "http://s.example")
    assert "security" not in oldest.apt_sources("http://m.example", "none")


def test_pip_is_set_in_the_root_as_it_is_here():
    """Files first, then what is said for one command, then the environment: as pip itself reads them."""
    config = (
        "install.timeout='9'\n:env:.cert='/elsewhere'\nglobal.timeout='5'\nglobal.index-url='https://index.example/simple'\n"
        "global.extra-index-url='\\nfile:///srv/one/simple\\nfile:///srv/two/simple'\n"
    )
    assert portable.pip_settings(config, {"PIP_CERT": "/cert.pem", "HOME": "/root"}) == {
        "PIP_TIMEOUT": "9",
        "PIP_INDEX_URL": "https://index.example/simple",
        "PIP_EXTRA_INDEX_URL": "file:///srv/one/simple file:///srv/two/simple",
        "PIP_CERT": "/cert.pem",
    }


def test_what_the_settings_name_is_lent_to_the_root(tmp_path):
    """Certificates, folders of wheels, an index with the files beside it; what is not there, and addresses, are not."""
    wheels, index, certificate = tmp_path / "wheels", tmp_path / "index" / "simple", tmp_path / "cert.pem"
    wheels.mkdir()
    index.mkdir(parents=True)
    certificate.touch()
    settings = [f"file://{index} https://index.example/simple", f"{wheels} /nowhere", str(certificate), str(wheels)]
    assert list(portable.named_paths(settings)) == [index.parent, wheels, certificate]


@as_root
def test_a_root_sees_what_is_lent_to_it_and_leaves_no_mount(tmp_path):
    """A command sees the lent file and may write where it is told to; a step is run once for the same ingredients."""
    refused = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False
    ).returncode
    if refused or not Path("/bin").is_symlink():
        pytest.skip("no mount namespaces here, or programs outside /usr")
    folder, lent, written = tmp_path / "root", tmp_path / "lent", tmp_path / "written"
    for name in ("proc", "dev", "etc"):
        (folder / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (folder / name).symlink_to(f"usr/{name}")
    lent.write_text("lent")
    written.mkdir()
    root = Root(folder, {"WORD": "seen"}, [Path("/usr"), lent], [written])
    script = f'read -r word < {lent} || true; echo "$word $WORD $1" >> {written}/said; ! (echo x > {lent}) 2> /dev/null'
    assert root.once("step", "1", script, "here")
    assert not root.once("step", "1", script, "here")
    assert root.once("step", "2", script, "here")
    assert (written / "said").read_text() == "lent seen here\n" * 2
    assert lent.read_text() == "lent"
    with pytest.raises(subprocess.CalledProcessError):
        root.once("step", "3", "false; true")
    assert not (root.made / "step").exists()
    assert str(folder) not in Path("/proc/mounts").read_text()


@pytest.mark.slow
@wanted
def test_the_program_asks_for_no_newer_glibc_than_was_told(tmp_path):
    """Every file that it unpacks, the highest symbol version of each."""
    beside = BINARY.with_name(BINARY.name + ".json")
    told = json.loads(beside.read_text()) if beside.exists() else {}
    if "libstdcxx" not in told:
        pytest.skip(f"{beside.name} does not say so")
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir(mode=0o700)
    subprocess.run([BINARY, "version"], env={"CORTEX_UNPACK_DIR": str(unpacked)}, capture_output=True, check=True)
    for file, found in linkage.needed(unpacked).items():
        print(f"{linkage.text(max(found, default=(0,))):>6}  {file.partition('/')[2]}")
    assert linkage.text(linkage.highest(unpacked)) == told["glibc"]
    assert linkage.text(linkage.highest(unpacked, "GLIBCXX")) == told["libstdcxx"]
