"""The environment of a hub, compared with what huggingface_hub makes of it."""

import json
import os
import subprocess
import sys

import pytest

from cortex.neuron.models.source import hub_settings

LIBRARYS = """
import json
from huggingface_hub import constants, get_token, hf_hub_url
print(json.dumps([constants.ENDPOINT, constants.is_offline_mode(), get_token(), hf_hub_url("org/repo", "a folder/x#1.gguf", revision="refs/pr/1", endpoint=constants.ENDPOINT)]))
"""
OURS = """
import json
from cortex.neuron.models.source import hub_settings as s
print(json.dumps([s.endpoint(), s.is_offline(), s.token(), s.file_url(s.endpoint(), "org/repo", "a folder/x#1.gguf", "refs/pr/1")]))
"""


def read(script, environment):
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS"))
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=clean | environment, capture_output=True, check=True, text=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HF_ENDPOINT": "http://mirror:8080/hub/", "HF_HUB_OFFLINE": "yes", "HF_TOKEN": " hf_spaces\n"},
        {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1", "HUGGING_FACE_HUB_TOKEN": "hf_old"},
        {"TRANSFORMERS_OFFLINE": "true", "HF_TOKEN": "\n", "HF_TOKEN_PATH": "$HF_HOME/mine"},
    ],
)
def test_the_hubs_environment_means_what_it_means_to_the_library(tmp_path, environment):
    """Address, offline, token from variable or file, and a file's URL are those of huggingface_hub."""
    (tmp_path / "token").write_text("hf_saved\n")
    (tmp_path / "mine").write_text("hf_mine")
    environment = {"HF_HOME": str(tmp_path), **environment}
    assert read(OURS, environment) == read(LIBRARYS, environment)


def test_nobody_is_logged_in_without_a_token(tmp_path, monkeypatch):
    """No variable and no file: no token, and no complaint."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
    assert hub_settings.token() is None


def test_a_saved_token_that_cannot_be_read_is_told(tmp_path, monkeypatch, caplog):
    """A service goes on without the token, and says why."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").mkdir()
    assert hub_settings.token() is None
    assert "cannot be read" in caplog.text
