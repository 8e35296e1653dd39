"""The bill of materials: CycloneDX, with a licence for every part."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from binary import sbom
from binary.sbom import Component


def test_a_bill_names_its_parts():
    """The shape that CycloneDX 1.6 asks for; what is not known is left out."""
    inside = Component("llama.cpp", "b1", "MIT")
    subject = Component("cortex", "1.0.0", "GPL-3.0-only", sha256="ab" * 32, kind="application")
    parts = [
        Component("xllamacpp", "1.0", "MIT", "pkg:pypi/xllamacpp@1.0", inside=(inside,)),
        Component("libx.so", None, None),
    ]
    bill = sbom.document(subject, parts, "2026-11-23T16:00:00Z")
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert bill["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert bill["components"] == [
        {"type": "library", "bom-ref": "libx.so", "name": "libx.so"},
        {
            "type": "library",
            "bom-ref": "xllamacpp@1.0",
            "name": "xllamacpp",
            "version": "1.0",
            "purl": "pkg:pypi/xllamacpp@1.0",
            "licenses": [{"expression": "MIT"}],
            "components": [
                {
                    "type": "library",
                    "bom-ref": "llama.cpp@b1",
                    "name": "llama.cpp",
                    "version": "b1",
                    "licenses": [{"expression": "MIT"}],
                }
            ],
        },
    ]
    assert bill["dependencies"] == [{"ref": "cortex@1.0.0", "dependsOn": ["libx.so", "xllamacpp@1.0"]}]
    assert sbom.unlicensed(bill) == ["libx.so"]


def test_the_same_parts_have_the_same_bill():
    """In any order: a build can be compared with another."""
    subject, parts = Component("cortex", "1", "MIT"), [Component("a", "1", "MIT"), Component("b", "2", "MIT")]
    bill = sbom.document(subject, parts, "2026-11-23T16:00:00Z")
    assert bill == sbom.document(subject, parts[::-1], "2026-11-23T16:00:00Z")
    assert bill["serialNumber"] != sbom.document(subject, parts[:1], "2026-11-23T16:00:00Z")["serialNumber"]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_a_shared_library_is_named_with_its_licence_and_checksum(tmp_path):
    """Those beside the program; a name that a wheel's repair gave it is seen through."""
    found = subprocess.run(["gcc", "-print-file-name=libgomp.so.1"], capture_output=True, text=True, check=True).stdout
    library = Path(found.strip())
    shutil.copy(library, tmp_path / "libgomp.so.1")
    shutil.copy(library, tmp_path / "libgomp-0123abcd.so.1.0.0")
    parts = {part.name: part for part in sbom.libraries(tmp_path)}
    assert parts.keys() == {"libgomp.so.1", "libgomp-0123abcd.so.1.0.0"}
    for part in parts.values():
        assert part.licence == "GPL-3.0-or-later WITH GCC-exception-3.1"
        assert part.sha256 == hashlib.sha256(library.read_bytes()).hexdigest()
    assert parts["libgomp-0123abcd.so.1.0.0"].purl is None


def test_every_package_of_the_notice_has_a_licence_there():
    """The bill takes them from it."""
    noticed = sbom.noticed()
    assert noticed["sanic"] == "MIT"
    assert {"xllamacpp", "ctransformers", "psycopg", "psycopg-binary"} <= noticed.keys()
