"""What runs here, as `cortex version` and both roles tell it."""

import json

import pytest

from cortex import __version__, build_info
from cortex.cli import main
from cortex.version import llama_cpp_build, version_info


def test_a_checkout_says_that_it_is_source(capsys):
    """JSON for scripts: kind, commit, libraries; what only a build knows is null."""
    assert main(["version", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["package_version"], facts["kind"]) == (__version__, "source")
    assert facts["flavour"] is facts["backends"] is facts["built_at"] is None
    assert facts["harnesses"]["llamacpp"]
    assert facts["llama_cpp"].startswith("b")


def test_a_build_tells_its_flavour_commit_time_and_backends(monkeypatch, capsys):
    """What build/compile wrote appears in the first line, and with the engine's library."""
    facts = {
        "flavour": "ada",
        "backends": "zen4 cuda-13.0",
        "git_sha": "0123456789ab-dirty",
        "built_at": "2026-11-23T12:00:00Z",
    }
    monkeypatch.setattr("cortex.version.BUILD_INFO", facts)
    version_info.cache_clear()
    try:
        assert main(["version"]) == 0
        told = capsys.readouterr().out
        assert "flavour ada, commit 0123456789ab-dirty, built 2026-11-23T12:00:00Z)" in told
        assert ", backends zen4 cuda-13.0\n" in told
    finally:
        version_info.cache_clear()


def test_the_sources_claim_no_build():
    """The committed module is empty: only a build's copy of it is not."""
    assert build_info.BUILD_INFO == {}


@pytest.mark.parametrize(
    ("library", "build"),
    [("2026.10.11549", "b11549"), ("2026.10.11549.post1", "b11549"), ("0.2.0", None), (None, None)],
)
def test_llama_cpps_build_is_read_from_the_librarys_version(library, build):
    """Other schemes of versions are not taken for it."""
    assert llama_cpp_build(library) == build
