"""What is in the one file: a bill of materials as CycloneDX 1.6 JSON, beside the binary.

Packages are those that the compiler's report names, with the versions that compile.lock fixed; shared libraries are those
that lie in the unpacked program, with their SHA-256, and with the package of this machine's distribution that they came
from. Licences are NOTICE's for packages, and the table's below for libraries.

Format: https://cyclonedx.org/docs/1.6/json/. Package URLs: https://github.com/package-url/purl-spec.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import ssl
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from binary import facts
from binary.backends import ENGINE
from binary.environment import LEGACY, Workshop
from binary.linkage import elf_files
from binary.tools import ROOT
from binary.variants import WANTED

SUFFIX = ".cdx.json"
GPL_RUNTIME = "GPL-3.0-or-later WITH GCC-exception-3.1"
OF_NVIDIA = "LicenseRef-NVIDIA-CUDA-EULA"
BACKENDS = "backends"
# By the name of a shared library before its first dot, without what a wheel's repair put behind it.
LIBRARIES = {
    "libbz2": "bzip2-1.0.6",
    "libcom_err": "MIT",
    "libcrypt": "LGPL-2.1-or-later",
    "libcrypto": "Apache-2.0",
    **dict.fromkeys(("libcublas", "libcublasLt", "libcudart"), OF_NVIDIA),
    "libexpat": "MIT",
    "libffi": "MIT",
    **dict.fromkeys(("libggml-cuda", *(f"libggml-cpu-{name}" for name in WANTED)), "MIT"),
    "libgfortran": GPL_RUNTIME,
    "libgomp": GPL_RUNTIME,
    "libgssapi_krb5": "MIT",
    "libk5crypto": "MIT",
    "libkeyutils": "LGPL-2.1-or-later",
    "libkrb5": "MIT",
    "libkrb5support": "MIT",
    "liblber": "OLDAP-2.8",
    "libldap": "OLDAP-2.8",
    "liblzma": "0BSD",
    "libpcre2-8": "BSD-3-Clause",
    "libpq": "PostgreSQL",
    "libpython3": "PSF-2.0",
    "libquadmath": "LGPL-2.1-or-later",
    "libsasl2": "BSD-Attribution-HPND-disclaimer",
    "libscipy_openblas64_": "BSD-3-Clause",
    "libselinux": "libselinux-1.0",
    "libsqlite3": "blessing",
    "libssl": "Apache-2.0",
    "libuuid": "BSD-3-Clause",
    "libz": "Zlib",
}
_REPAIRED = re.compile(r"(-[0-9a-f]{8})+$")


@dataclass(frozen=True, slots=True)
class Component:
    """One part. `licence` is an SPDX expression, None where nobody said one; `inside` are the parts that it carries itself."""

    name: str
    version: str | None
    licence: str | None
    purl: str | None = None
    sha256: str | None = None
    kind: str = "library"
    inside: tuple[Component, ...] = field(default=())

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name

    def as_json(self) -> dict[str, Any]:
        told = {
            "type": self.kind,
            "bom-ref": self.reference,
            "name": self.name,
            "version": self.version,
            "purl": self.purl,
            "licenses": [{"expression": self.licence}] if self.licence else None,
            "hashes": [{"alg": "SHA-256", "content": self.sha256}] if self.sha256 else None,
            "components": [each.as_json() for each in self.inside],
        }
        return {key: value for key, value in told.items() if value}


def document(subject: Component, parts: list[Component], made_at: str) -> dict[str, Any]:
    """The bill of `subject`. The same parts give the same bill: its serial number is made of them."""
    ordered = sorted(parts, key=lambda part: part.reference)
    named = json.dumps([subject.as_json(), *(part.as_json() for part in ordered)])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, named)}",
        "version": 1,
        "metadata": {"timestamp": made_at, "component": subject.as_json()},
        "components": [part.as_json() for part in ordered],
        "dependencies": [{"ref": subject.reference, "dependsOn": [part.reference for part in ordered]}],
    }


def unlicensed(bill: Mapping[str, Any]) -> list[str]:
    """The parts of which nobody said a licence, by name."""
    return [part["name"] for part in bill["components"] if "licenses" not in part]


def write(shop: Workshop, program: Path, output: Path, known: Mapping[str, str | None]) -> list[str]:
    """The bill of the file `output`, beside it; the names of parts without a licence. `known` is what facts.write returned."""
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    subject = Component("cortex", facts.version(), "GPL-3.0-only", sha256=digest, kind="application")
    parts = [*toolchain(shop), *packages(shop), *libraries(program)]
    bill = document(subject, parts, known["built_at"] or "")
    output.with_name(output.name + SUFFIX).write_text(json.dumps(bill, indent=1) + "\n")
    return unlicensed(bill)


# ---- the parts


def toolchain(shop: Workshop) -> Iterator[Component]:
    """What the compiler and the launcher put into every program."""
    python, nuitka = platform.python_version(), installed(shop)["nuitka"]
    exception = "AGPL-3.0-only AND LicenseRef-Nuitka-Runtime-Library-Exception-1.0"
    yield Component("cpython", python, "PSF-2.0", f"pkg:generic/cpython@{python}")
    yield Component("nuitka", nuitka, exception, f"pkg:pypi/nuitka@{nuitka}")
    yield Component("zstd", None, "BSD-3-Clause")
    yield Component(
        "glibc", (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ") or None, "LGPL-2.1-or-later"
    )


def packages(shop: Workshop) -> Iterator[Component]:
    """Those of which the compiler took something, and the engine libraries with what they carry."""
    report = ET.parse(shop.report).getroot()  # noqa: S314  our compiler wrote it a minute ago
    shipped = {_canonical(each.attrib["name"]) for each in report.iter("distribution")} | {ENGINE, LEGACY}
    versions, licences = installed(shop), noticed()
    for name in sorted(shipped & versions.keys()):
        version = versions[name]
        inside: tuple[Component, ...] = ()
        if name == ENGINE:
            llama_cpp = f"b{version.split('.')[2]}"  # as cortex/version.py reads it
            inside = (Component("llama.cpp", llama_cpp, "MIT", f"pkg:github/ggml-org/llama.cpp@{llama_cpp}"),)
        yield Component(name, version, licences.get(name), f"pkg:pypi/{name}@{version}", inside=inside)


def libraries(program: Path) -> Iterator[Component]:
    """Shared libraries beside the program and among the backends: from this machine, a wheel that brought its own, or made here."""
    for file in elf_files(program):
        if file.parent in {program, program / ENGINE / BACKENDS} and file.name.startswith("lib"):
            name, _, version = file.name.partition(".so")
            licence = LIBRARIES.get(_REPAIRED.sub("", name).partition(".")[0])
            origin = None if _REPAIRED.search(name) else distribution_package(file.name) or compiled_here(name)
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            yield Component(file.name, version.lstrip(".") or None, licence, origin, sha256=digest)


def installed(shop: Workshop) -> dict[str, str]:
    """Package → version, of the build's environment."""
    found = metadata.distributions(path=[str(shop.packages)])
    return {_canonical(each.metadata["Name"]): each.version for each in found}


def noticed() -> dict[str, str]:
    """Package → licence, as the table in NOTICE says."""
    return dict(re.findall(r"^  ([a-z0-9.-]+)  +(\S.*)$", (ROOT / "NOTICE").read_text(), re.MULTILINE))


def distribution_package(library: str) -> str | None:
    """The package URL of this machine's package that `library` is from; None where no package manager knows it."""
    path = subprocess.run(["gcc", f"-print-file-name={library}"], capture_output=True, text=True, check=True).stdout
    real = str(Path(path.strip()).resolve())
    return _debian(real) or _debian(real.removeprefix("/usr")) or _rpm(real)


def compiled_here(library: str) -> str | None:
    """The package URL of OpenSSL, where this Python's is no package's (build/portable)."""
    version = ssl.OPENSSL_VERSION.split()[1]
    return f"pkg:generic/openssl@{version}" if library in {"libssl", "libcrypto"} else None


def _debian(path: str) -> str | None:
    package = _output("dpkg-query", "-S", path).partition(":")[0]
    version = _output("dpkg-query", "-W", "-f", "${Version}", package) if package else ""
    return _purl("deb", package, version) if version else None


def _rpm(path: str) -> str | None:
    name, _, version = _output("rpm", "-qf", "--qf", "%{NAME} %{VERSION}-%{RELEASE}", path).partition(" ")
    return _purl("rpm", name, version) if version else None


def _purl(kind: str, package: str, version: str) -> str:
    return f"pkg:{kind}/{platform.freedesktop_os_release()['ID']}/{package}@{quote(version, safe='')}"


def _output(*command: str) -> str:
    """Empty where there is no such program, or it says no."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
