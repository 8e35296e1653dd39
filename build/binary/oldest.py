"""What a Debian 11 root is given, so that build/compile makes programs for glibc 2.28 in it: compilers, OpenSSL, Python.

Debian 11's own Python is older than ours, and later ones need a later glibc: so CPython is compiled there, from the source
package of Debian 12, with those of Debian's patches that are fixes from upstream. The same for OpenSSL, whose series in
Debian 11 is no longer maintained upstream. apt verifies signatures and checksums of what it fetches.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from binary.chroot import SUITE, Root
from binary.flavours import Refused

SOURCES_SUITE = "bookworm"
PACKAGES = (
    *("gcc", "g++", "make", "patch", "perl", "patchelf", "binutils", "ccache", "git", "ca-certificates", "xz-utils"),
    "clang-16",  # GCC 10 knows neither AMX nor AVX-VNNI
    *("zlib1g-dev", "libffi-dev", "libsqlite3-dev", "liblzma-dev", "libbz2-dev", "libexpat1-dev", "uuid-dev"),
)
PYTHON = "/usr/local/bin/python3"
CLANG = "/usr/lib/llvm-16/bin"
NO_SECURITY = "none"
_FETCHED = "/build/sources"
_DEBIANS = "python3.11"
_TARBALL = "*.orig.tar.*z"
_FETCHING = ("packages", "openssl-source", "python-source")

_APT = """
printf '%s\\n' "$1" > /etc/apt/sources.list
apt-get -qq update
apt-get -qq -y dist-upgrade > /dev/null
shift
apt-get -qq -y --no-install-recommends install "$@" > /dev/null
"""
# A mirror that lacks files of the newest version may have those of the one before.
_FETCH = f"""
mkdir -p {_FETCHED}/$1
chmod a+rwx {_FETCHED}/$1
cd {_FETCHED}/$1
rm -rf ./*
apt-get -qq source --download-only $2 "$1" && exit 0
echo "   the mirror lacks files of the newest $1: that of {SOURCES_SUITE}'s last release is taken" >&2
rm -rf ./*
apt-get -qq source --download-only $2 "$1/{SOURCES_SUITE}"
"""
_UNPACK = f"""
export CC='ccache gcc'
rm -rf /build/work && mkdir -p /build/work && cd /build/work
tar -xf "$(echo {_FETCHED}/$1/$2)" --strip-components=1
"""
# Certificates are looked for where distributions agree on: OpenSSL's own default would be below /usr/local.
_OPENSSL = """
./Configure linux-x86_64 --prefix=/usr/local --libdir=lib --openssldir=/etc/ssl shared no-tests no-legacy > /dev/null
make -s -j"$(nproc)" build_libs
make -s install_dev > /dev/null
ldconfig
rm -rf /build/work
"""
# *.patch and CVE-*: what Debian took from upstream; the others are Debian's own ways. One of them has pyexpat use an internal
# header, which Debian may do because it links it into the interpreter.
_PATCHES = f"""
mkdir debianised
tar -xf {_FETCHED}/$1/*.debian.tar.xz -C debianised
grep -E '^CVE-|\\.patch$' debianised/debian/patches/series | while read -r name; do
  patch --quiet -p1 -N < "debianised/debian/patches/$name"
done
printf '*shared*\\npyexpat pyexpat.c -DPy_BUILD_CORE_MODULE -lexpat\\n' > Modules/Setup.local
"""
# sem_clockwait came with glibc 2.30; without it Python waits for locks by sem_timedwait, as it always did.
_PYTHON = """
./configure -q ac_cv_func_sem_clockwait=no --enable-shared --with-system-expat --with-openssl=/usr/local $3 \\
  CFLAGS=-fno-semantic-interposition LDFLAGS=-fno-semantic-interposition
make -s -j"$(nproc)"
make -s install > /dev/null
ldconfig
rm -rf /build/work
"""


def furnish(root: Root, *, sources: str, tarball: Path | None, pgo: bool, update: bool) -> None:
    """Everything that is not there yet. `tarball` is a Python in place of Debian's. Raises CalledProcessError."""
    if update:
        for step in _FETCHING:
            (root.made / step).unlink(missing_ok=True)
    root.once("packages", "", _APT, sources, *PACKAGES)
    root.once("openssl-source", "", _FETCH, "openssl", "--tar-only")
    openssl = _names(root, "openssl")
    root.once("openssl", openssl, _UNPACK + _OPENSSL, "openssl", _TARBALL)
    ways = "--enable-optimizations" if pgo else ""
    if tarball:
        root.once("python", openssl + _given(root, tarball), _UNPACK + _PYTHON, "given", "python", ways)
        return
    root.once("python-source", "", _FETCH, _DEBIANS, "")
    ingredients = openssl + _names(root, _DEBIANS)
    root.once("python", ingredients, _UNPACK + _PATCHES + _PYTHON, _DEBIANS, _TARBALL, ways)


def apt_sources(mirror: str, security: str | None) -> str:
    """sources.list: programs of the root's suite, sources of the later one. Mirrors keep security updates beside the rest."""
    security = security or f"{mirror.rstrip('/')}-security"
    lines = [f"deb {mirror} {SUITE} main", f"deb-src {mirror} {SOURCES_SUITE} main"]
    if security != NO_SECURITY:
        lines += [f"deb {security} {SUITE}-security main", f"deb-src {security} {SOURCES_SUITE}-security main"]
    return "\n".join(lines)


def verify(tarball: Path, digest: str) -> None:
    """Raises Refused where `tarball` is not what its checksum says."""
    try:
        found = hashlib.sha256(tarball.read_bytes()).hexdigest()
    except OSError as error:
        raise Refused(f"{tarball} cannot be read: {error.strerror}") from error
    if found != digest.lower():
        raise Refused(f"{tarball} has the SHA-256 {found}, not {digest}")


def mirror(root: Root) -> str:
    """The one that the root was made from."""
    return (root.folder / "etc/apt/sources.list").read_text().split()[1]


def _given(root: Root, tarball: Path) -> str:
    """The SHA-256 of `tarball`, which is in the root then."""
    place = root.folder / _FETCHED.lstrip("/") / "given" / "python"
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tarball, place)
    return hashlib.sha256(place.read_bytes()).hexdigest()


def _names(root: Root, package: str) -> str:
    return " ".join(sorted(file.name for file in (root.folder / _FETCHED.lstrip("/") / package).iterdir()))
