"""build/portable: build/compile in a Debian 11 root, so that the program runs on systems as old as glibc 2.28.

The root is made once, and stays; what is compiled is the commit that is checked out, in a checkout of the root's own.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from binary import __main__ as compiling
from binary import chroot, oldest
from binary.chroot import Root
from binary.environment import caches
from binary.flavours import FLAVOURS, Flavour, Refused
from binary.linkage import GLIBC, text
from binary.tools import ROOT, Missing

CHECKOUT = "/build/cortex"
CACHE = "/var/cache/cortex-build"
# ccache knows the second time what it compiled, for CMake as well.
COMPILING = {
    "CORTEX_BUILD_CACHE": CACHE,
    "CCACHE_DIR": f"{CACHE}/ccache",
    "CMAKE_C_COMPILER_LAUNCHER": "ccache",
    "CMAKE_CXX_COMPILER_LAUNCHER": "ccache",
    "PYTHON": oldest.PYTHON,
    "PATH": f"{chroot.ENVIRONMENT['PATH']}:{oldest.CLANG}",
}
_PROXY = re.compile(r"(https?|ftp|all|no)_proxy", re.IGNORECASE)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_fail("ended; a second run goes on where this one was", 143)))
    args, rest = _arguments()
    wanted = compiling.arguments(rest)
    try:
        check(args, FLAVOURS[wanted.flavour], wanted.engine_wheel)
        chroot.bootstrap(args.root, args.mirror)
        root = furnished(args)
        check_out(root)
        compile_in(root, rest, wanted)
    except Missing as missing:
        return _fail(str(missing), 3)
    except Refused as refusal:
        return _fail(str(refusal), 1)
    except KeyboardInterrupt:
        return _fail("interrupted; a second run goes on where this one was", 130)
    except subprocess.CalledProcessError as error:
        return _fail(f"a step in {args.root} ended with exit code {error.returncode}; its own words are above", 1)
    return 0


def check(args: argparse.Namespace, flavour: Flavour, engine_wheel: Path | None) -> None:
    """What would stop it later. Raises Missing, Refused."""
    chroot.check()
    if flavour.is_cuda and engine_wheel is None:
        raise Refused(f"the root has no CUDA toolkit: flavour '{flavour.name}' needs --engine-wheel FILE here")
    if args.python_source:
        oldest.verify(args.python_source, args.python_sha256)


def furnished(args: argparse.Namespace) -> Root:
    proxies = {name: value for name, value in os.environ.items() if _PROXY.fullmatch(name)}
    root = Root(args.root, COMPILING | proxies)
    sources = oldest.apt_sources(args.mirror or oldest.mirror(root), args.security_mirror)
    say(f"in {root.folder}: compilers, OpenSSL, Python")
    oldest.furnish(root, sources=sources, tarball=args.python_source, pgo=args.pgo, update=args.update)
    return root


def compile_in(root: Root, rest: Sequence[str], wanted: argparse.Namespace) -> None:
    """build/compile with the arguments `rest`; the program is where they say. Raises CalledProcessError."""
    output = (wanted.output or compiling.default_output(FLAVOURS[wanted.flavour])).resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["--glibc", text(GLIBC), *rest, "--output", str(output)]
    settings = pip_settings(_pip_config(), os.environ)
    lent = list(named_paths(settings.values()))
    if wanted.engine_wheel:
        lent.append(wanted.engine_wheel.resolve())
        arguments += ["--engine-wheel", str(lent[-1])]
    epoch = {name: value for name, value in os.environ.items() if name == "SOURCE_DATE_EPOCH"}
    inside = replace(root, environment={**root.environment, **settings, **epoch}, lent=lent, written=[output.parent])
    inside.run("build/compile", *arguments, folder=CHECKOUT)
    _give(output)


def check_out(root: Root) -> None:
    """The commit that is checked out here, in the root; what is ignored there (sources of engines) stays. Raises Refused."""
    place = root.folder / CHECKOUT.lstrip("/")
    trust = root.folder / "build" / "gitconfig"  # root reads a checkout that is somebody else's
    trust.write_text("[safe]\n\tdirectory = *\n")
    trusting = os.environ | {"GIT_CONFIG_GLOBAL": str(trust)}
    if changed := _git(ROOT, trusting, "status", "--porcelain").splitlines():
        say(f"not in it, for it is not committed: {', '.join(line[3:] for line in changed[:5])}")
    place.mkdir(exist_ok=True)
    for command in (
        ("init", "-q"),
        ("fetch", "-q", "--depth", "1", f"file://{ROOT}", "HEAD"),
        ("checkout", "-q", "--force", "--detach", "FETCH_HEAD"),
        ("clean", "-qfd"),
    ):
        _git(place, trusting, *command)


def pip_settings(config: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What pip is set to here, as its environment variables: `config` is what `pip config list` says.

    By way of the environment, addresses with passwords are in no file of the root. pip's own order: files for all commands,
    for one command, the environment.
    """
    found = re.findall(r"^(\w+)\.([\w-]+)=(.+)$", config, re.MULTILINE)
    found.sort(key=lambda setting: setting[0] != "global")
    of_files = {_variable(name): " ".join(str(ast.literal_eval(value)).split()) for _, name, value in found}
    return of_files | {name: value for name, value in environ.items() if name.startswith("PIP_")}


def named_paths(settings: Iterable[str]) -> Iterator[Path]:
    """The files and folders of this machine that pip's settings name (certificates, wheels, an index), each once."""
    words = (word.removeprefix("file://") for setting in settings for word in setting.split())
    named = dict.fromkeys(Path(word) for word in words if word.startswith("/"))
    # An index below a folder refers to files beside it.
    folders = dict.fromkeys(path.parent if path.name == "simple" else path for path in named)
    return (path for path in folders if path.exists() and path != Path("/"))


def _variable(name: str) -> str:
    return f"PIP_{name.replace('-', '_').upper()}"


def _pip_config() -> str:
    """Empty where this Python has no pip."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _git(folder: Path, environ: Mapping[str, str], *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused(f"a git checkout with a commit is needed: git {arguments[0]} says {done.stderr.strip()}")
    return done.stdout


def _give(output: Path) -> None:
    """To whoever has the checkout: root made it for them."""
    owner = ROOT.stat()
    for file in output.parent.glob(f"{output.name}*"):
        os.chown(file, owner.st_uid, owner.st_gid)


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="build/portable",
        usage="build/portable [options] [arguments of build/compile]",
        description="Make one executable file that runs where glibc is 2.28 or newer: build/compile in a Debian 11 root.",
        epilog="The root is made once, with debootstrap, and stays: compilers, OpenSSL, and CPython from Debian 12's source\n"
        "packages, whose signatures apt checks. That takes a quarter of an hour on two cores, and 3 GB; a second build finds\n"
        "all of it, and what ccache knows of the program. The commit that is checked out is compiled, nothing else. What of\n"
        "this is interrupted goes on where it was. To start anew, remove the root.\n\n"
        "It is a builder's tool, for a machine that trusts this checkout, the mirror and the package index: all of it runs\n"
        "as root, on this machine's network, and a root folder is not a sandbox. Programs see pip's settings and the proxies\n"
        "of this machine, and no other variable but SOURCE_DATE_EPOCH.\n\n"
        "Exit codes: 0 made, 1 refused or failed, 2 a mistake on the command line, 3 root, or a program, is missing.\n"
        "example: build/portable --no-backends --output dist/portable/cortex",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--root", type=_path, default=caches() / "portable", metavar="DIR", help="(%(default)s)")
    parser.add_argument(
        "--mirror",
        default=os.environ.get("CORTEX_DEBIAN_MIRROR"),
        metavar="URL",
        help="of Debian; $CORTEX_DEBIAN_MIRROR (debootstrap's)",
    )
    parser.add_argument(
        "--security-mirror",
        default=os.environ.get("CORTEX_DEBIAN_SECURITY_MIRROR"),
        metavar="URL",
        help=f"of Debian's security updates, or '{oldest.NO_SECURITY}'; $CORTEX_DEBIAN_SECURITY_MIRROR (the mirror's, with -security)",
    )
    parser.add_argument("--update", action="store_true", help="fetch what is newer than what the root has")
    parser.add_argument("--python-source", type=_path, metavar="FILE", help="a tarball of CPython 3.11 or newer")
    parser.add_argument("--python-sha256", metavar="HEX", help="its checksum")
    parser.add_argument(
        "--pgo", action="store_true", help="optimize Python by the profile of its own tests: some tens of minutes, once"
    )
    args, rest = parser.parse_known_args()
    if (args.python_source is None) != (args.python_sha256 is None):
        parser.error("--python-source and --python-sha256 belong together")
    return args, rest


def _path(text: str) -> Path:
    return Path(text).resolve()


def say(told: str) -> None:
    print(told, file=sys.stderr, flush=True)


def _fail(message: str, status: int) -> int:
    say(f"build/portable: {message}")
    return status


if __name__ == "__main__":
    sys.exit(main())
