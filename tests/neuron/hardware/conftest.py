"""pynvml itself, on a stand-in of the driver's library."""

import ctypes
import shutil

import pynvml
import pytest
from helpers.fake_nvml import Machine, compile_library


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) for the stand-in of libnvidia-ml.so.1")
    return compile_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(nvml_library, tmp_path, monkeypatch):
    """A machine to describe; until then it has no driver."""
    made = Machine(tmp_path / "machine")
    monkeypatch.setenv("FAKE_NVML", str(made.file))
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(nvml_library)))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    yield made
    if "hang" in made.facts:
        made.set(hang=None)  # the thread of a test that failed ends, too
