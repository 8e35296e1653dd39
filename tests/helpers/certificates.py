"""Certificates for tests, made by the openssl command, each its own authority."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Certificate:
    """PEM files."""

    certificate: Path
    key: Path

    @property
    def listener(self) -> dict[str, str]:
        """The keys of a configuration that show it."""
        return {"tls_cert": str(self.certificate), "tls_key": str(self.key)}


def certificate(folder: Path, name: str, hosts: str = "IP:127.0.0.1,DNS:localhost") -> Certificate:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command to make certificates with")
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={hosts}"]
    files = ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    return made
