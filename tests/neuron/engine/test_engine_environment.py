"""What an engine's process inherits of the neuron's environment."""

from __future__ import annotations

import os

import pytest

from cortex.neuron.engine.environment import without_secrets


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "hush") for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "DB_PASS", "SSH_PASSPHRASE")),
        *((name, "hush") for name in ("OPENAI_API_KEY", "OPENAI_KEY", "APIKEY", "AZURE_STORAGE_KEY", "GITHUB_PAT")),
        *(
            (name, "hush")
            for name in ("HTTP_AUTHORIZATION", "GOOGLE_CREDENTIALS", "NEURON_TOKEN", "CORTEX_X", "NEURON_X")
        ),
        ("https_proxy", "http://me:hush@proxy.example:3128"),
        ("PIP_INDEX_URL", "https://hush@index.example/simple"),
        ("DATABASE_URL", "postgresql://me:hush@db.example/budget"),
    ],
)
def test_a_secret_stays_with_the_neuron(monkeypatch, name, value):
    """Known by its name, or by a login in an address: engines read untrusted files, and reach nobody."""
    monkeypatch.setenv(name, value)
    assert name not in without_secrets()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LD_LIBRARY_PATH", "/opt/cuda/lib64:/opt/patched"),
        ("CUDA_CACHE_PATH", "/var/lib/neuron/cuda-cache"),
        ("GGML_CUDA_ENABLE_UNIFIED_MEMORY", "1"),
        ("XKB_KEYMAP", "us"),
        ("http_proxy", "http://proxy.example:3128"),
    ],
)
def test_what_libraries_need_is_handed_on(monkeypatch, name, value):
    """Drivers and libraries are set up by their variables."""
    monkeypatch.setenv(name, value)
    assert without_secrets()[name] == value
    assert without_secrets()["PATH"] == os.environ["PATH"]
