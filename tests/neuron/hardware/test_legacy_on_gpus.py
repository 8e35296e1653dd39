"""Legacy models on GPUs that are not there: NVML and the computing part of the driver are stand-ins, the rest is real."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.fake_nvml import MISMATCH, RTX_3060, RTX_4090, driver, fails, uuid
from helpers.legacy_ggml import ANSWER, PROMPT
from helpers.live import running_neuron
from helpers.processes import children

from cortex.neuron.harness import ctransformers_cuda
from cortex.neuron.harness.ctransformers_cuda import LIBRARIES
from cortex.neuron.models.deaths import FORGIVEN

pytestmark = pytest.mark.model

# A folder with NVIDIA's three libraries (860 MB); without it, what is installed in this environment.
CUDA_12 = "CORTEX_TEST_CUDA12"


@pytest.fixture
def named_libraries(tmp_path):
    """A folder with files of the right names: as much as a neuron looks at."""
    (folder := tmp_path / "cuda").mkdir()
    for name in LIBRARIES:
        (folder / name).write_bytes(b"\x7fELF")
    return folder


@pytest.fixture(scope="session")
def real_libraries():
    named = os.environ.get(CUDA_12)
    found = ctransformers_cuda.find(Path(named) if named else None)
    if found.problem:
        pytest.skip(f"{found.problem}; {CUDA_12} names a folder")
    return Path(named) if named else None


@pytest.fixture(scope="session")
def libcuda(tmp_path_factory):
    """The folder of a stand-in that says that there is a GPU."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) for the stand-in of libcuda.so.1")
    folder = tmp_path_factory.mktemp("libcuda")
    source = Path(__file__).with_name("fake_libcuda.c")
    command = ["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", folder / "libcuda.so.1", source]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture
def one_card(machine):
    machine.set(**driver(1))
    machine.card(0, **RTX_4090, uuid=uuid(1))
    return machine


def legacy_neuron(models_dir, libraries, tmp_path, **more):
    section = {"ctransformers": {"cuda_libraries": str(libraries)}} if libraries else {}
    return running_neuron(models_dir, harness=section, state_dir=str(tmp_path / "state"), **more)


async def detail(neuron):
    details = (await neuron.get("/discovery"))["harness_details"]
    return next(each for each in details if each["name"] == "ctransformers")


def refusal(answer):
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.usefixtures("machine")
def test_gpu_layers_without_a_gpu_are_refused_and_no_engine_is_started(legacy_dir, named_libraries, tmp_path):
    """The library would end its process; the sentence comes before there is one. Without the wish the processor answers."""

    async def scenario():
        async with legacy_neuron(legacy_dir, named_libraries, tmp_path) as neuron:
            for layers in (-1, 1):
                refused = await neuron.load({"model_id": "starcoder", "threads": 1, "gpu_layers": layers})
                assert refusal(refused) == (422, "cuda_unsupported")
                assert "NVML tells of no NVIDIA GPU" in refused.json()["error"]["message"]
                assert not children()
            assert "no NVIDIA GPU" in (await detail(neuron))["cuda_unavailable_reason"]
            assert (await neuron.load({"model_id": "starcoder", "threads": 1})).status_code == 200
            body = {"model": "starcoder", "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
            answer = (await neuron.http.post("/v1/completions", json=body)).json()
            assert answer["choices"][0]["text"] == ANSWER

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("facts", "card", "words"),
    [
        ({"cuda": 12000}, {}, "is for CUDA 12.0"),
        ({"cuda": None}, {}, "does not say which CUDA"),
        ({}, {"capability": "5 0"}, "compute capability 5.2"),
    ],
)
def test_a_driver_or_card_that_is_too_old_is_named(one_card, facts, card, words, legacy_dir, named_libraries, tmp_path):
    """A GPU is here, so that nothing runs on the processor in its place unless that is asked for."""
    one_card.set(**facts)
    one_card.card(0, **card)

    async def scenario():
        async with legacy_neuron(legacy_dir, named_libraries, tmp_path) as neuron:
            for wish in ({}, {"gpu_layers": 2}):
                refused = await neuron.load({"model_id": "mpt", "threads": 1, **wish})
                assert refusal(refused) == (422, "cuda_unsupported")
                assert words in refused.json()["error"]["message"]
            assert not children()
            assert (await neuron.load({"model_id": "mpt", "threads": 1, "gpu_layers": 0})).status_code == 200
            assert words in (await detail(neuron))["cuda_unavailable_reason"]

    asyncio.run(scenario())


def test_a_driver_that_does_not_work_refuses_and_other_families_do_not_need_it(
    machine, legacy_dir, named_libraries, tmp_path
):
    """503 for what would go to a GPU; what never does is served."""
    machine.set(init=fails(MISMATCH))

    async def scenario():
        async with legacy_neuron(legacy_dir, named_libraries, tmp_path) as neuron:
            refused = await neuron.load({"model_id": "falcon", "threads": 1})
            assert refusal(refused) == (503, "cuda_unavailable")
            assert (await neuron.load({"model_id": "gpt2", "threads": 1})).status_code == 200

    asyncio.run(scenario())


@pytest.mark.usefixtures("one_card")
def test_what_is_missing_is_told_all_at_once(legacy_dir, tmp_path):
    """On /discovery and to whoever wants GPU layers; without the wish the job says why the processor computes."""
    (folder := tmp_path / "cuda").mkdir()
    (folder / "libcublas.so.12").touch()

    async def scenario():
        async with legacy_neuron(legacy_dir, folder, tmp_path) as neuron:
            told = await detail(neuron)
            assert told["processor_only"] is True
            assert "has no libcudart.so.12, libcublasLt.so.12" in told["cuda_unavailable_reason"]
            assert str(tmp_path) not in told["cuda_unavailable_reason"]
            refused = await neuron.load({"model_id": "starcoder", "threads": 1, "gpu_layers": -1})
            assert refusal(refused) == (422, "cuda_unsupported")
            assert not children()
            loaded = await neuron.load({"model_id": "starcoder", "threads": 1})
            assert loaded.status_code == 200
            assert any("libcudart.so.12" in note and "host memory" in note for note in loaded.json()["notes"])

    asyncio.run(scenario())


@pytest.mark.usefixtures("one_card")
def test_a_family_that_the_library_has_no_gpu_code_for_stays_on_the_processor(legacy_dir, named_libraries, tmp_path):
    """Said on /models before anybody loads it, and to whoever asks for GPU layers."""

    async def scenario():
        async with legacy_neuron(legacy_dir, named_libraries, tmp_path) as neuron:
            listed = {entry["id"]: entry.get("processor_only") for entry in await neuron.get("/models?all=true")}
            on_gpus = {name for name, processor_only in listed.items() if not processor_only}
            assert on_gpus == {"falcon", "mpt", "starcoder"}
            refused = await neuron.load({"model_id": "gptj", "threads": 1, "gpu_layers": 1})
            assert refusal(refused) == (422, "cuda_unsupported")
            assert "this is 'gptj'" in refused.json()["error"]["message"]
            assert (await neuron.load({"model_id": "gptj", "threads": 1})).status_code == 200

    asyncio.run(scenario())


def test_a_legacy_model_is_promised_memory_of_one_card(machine, legacy_dir, named_libraries, tmp_path):
    """A card without room refuses it with the numbers, and two cards for one model are refused by name."""
    machine.set(**driver(2))
    machine.card(0, **RTX_3060 | {"memory": "12288 12200"}, uuid=uuid(1))
    machine.card(1, **RTX_3060 | {"memory": "12288 12100"}, uuid=uuid(2))

    async def scenario():
        async with legacy_neuron(legacy_dir, named_libraries, tmp_path) as neuron:
            refused = await neuron.load({"model_id": "starcoder", "threads": 1})
            assert refusal(refused) == (503, "insufficient_vram")
            assert (refused.json()["error"]["free_mb"], refused.json()["error"]["required_mb"] > 500) == (188, True)
            both = await neuron.load({"model_id": "starcoder", "threads": 1, "devices": [0, 1]})
            assert (both.status_code, both.json()["error"]["param"]) == (400, "devices")
            assert not children()

    asyncio.run(scenario())


@pytest.mark.usefixtures("one_card")
def test_what_a_legacy_model_keeps_in_host_memory_needs_room_there(legacy_dir, named_libraries, tmp_path):
    """Its cache is never on the GPU: a host without room for it refuses the load, whatever the card has free."""

    async def scenario():
        async with legacy_neuron(legacy_dir, named_libraries, tmp_path, limits={"memory_mb": 10}) as neuron:
            refused = await neuron.load({"model_id": "starcoder", "threads": 1})
            assert refusal(refused) == (503, "insufficient_memory")
            assert not children()

    asyncio.run(scenario())


def test_a_card_that_is_too_old_for_legacy_models_keeps_no_other_from_serving_them(
    machine, legacy_dir, named_libraries, tmp_path
):
    """Room is sought on the one that is new enough; the other is told, and refused by name."""
    machine.set(**driver(2))
    machine.card(0, **RTX_3060 | {"name": "GTX 750", "capability": "5 0", "memory": "99999 0"}, uuid=uuid(1))
    machine.card(1, **RTX_3060 | {"memory": "12288 12200"}, uuid=uuid(2))
    why = "ctransformers is for GPUs of compute capability 5.2 or newer, not for GTX 750 (5.0)"

    async def scenario():
        async with legacy_neuron(legacy_dir, named_libraries, tmp_path) as neuron:
            told = await detail(neuron)
            assert told["foreign_devices"] == [{"index": 0, "cuda_unavailable_reason": why}]
            assert told["cuda_unavailable_reason"] is None
            full = await neuron.load({"model_id": "starcoder", "threads": 1})
            assert refusal(full) == (503, "insufficient_vram")
            assert full.json()["error"]["free_mb"] == 88
            named = await neuron.load({"model_id": "starcoder", "threads": 1, "devices": [0]})
            assert refusal(named) == (422, "cuda_unsupported")
            assert f"device 0: {why}; devices [1] can be used" in named.json()["error"]["message"]
            assert not children()

    asyncio.run(scenario())


@pytest.mark.usefixtures("one_card")
def test_the_driver_is_asked_before_the_library_that_would_end_the_process(
    legacy_dir, named_libraries, libcuda, tmp_path, monkeypatch
):
    """As in a container that has NVML and cannot compute: 503 with the driver's words, and folders that it may enter."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(libcuda))
    monkeypatch.setenv("FAKE_CUDA_ERROR", "100")

    async def scenario():
        async with legacy_neuron(legacy_dir, named_libraries, tmp_path) as neuron:
            refused = await neuron.load({"model_id": "mpt", "threads": 1})
            assert refusal(refused) == (503, "cuda_unavailable")
            assert "CUDA error 100: no CUDA-capable device is detected" in refused.json()["error"]["message"]
            cache = tmp_path / "state" / "cuda-cache"
            assert [folder.stat().st_mode & 0o777 for folder in (cache, cache / "a")] == [0o700, 0o700]
            assert (cache / "a" / "kernel").stat().st_mode & 0o777 == 0o600
            monkeypatch.delenv("FAKE_CUDA_ERROR")
            damaged = await neuron.load({"model_id": "mpt", "threads": 1})
            assert refusal(damaged) == (503, "cuda_unavailable")
            assert "cannot be loaded: libcudart.so.12: " in damaged.json()["error"]["message"]

    asyncio.run(scenario())


@pytest.mark.usefixtures("one_card")
@pytest.mark.parametrize("family", ["falcon", "mpt", "starcoder", "ggjt"])
def test_an_engine_that_dies_of_the_cuda_library_is_told_in_its_words(
    family, legacy_dir, old_llama_dir, real_libraries, libcuda, tmp_path, monkeypatch
):
    """NVIDIA's real libraries and ctransformers' load by their paths; it ends its process, and the neuron lives, says why and backs off."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(libcuda))
    folder = old_llama_dir if family == "ggjt" else legacy_dir

    async def scenario():
        async with legacy_neuron(folder, real_libraries, tmp_path) as neuron:
            assert "cuda_unavailable_reason" not in {name for name, value in (await detail(neuron)).items() if value}
            model = {"model_id": family, "threads": 1, "context": 256 if family == "ggjt" else None}
            for _ in range(FORGIVEN + 1):
                failed = await neuron.load(model)
                assert failed.json()["error"]["code"] == "engine_failed", failed.text
                assert "exit code 1: CUDA error 35 at" in failed.json()["error"]["message"]
            waits = await neuron.load(model)
            assert (waits.status_code, int(waits.headers["retry-after"]) > 0) == (503, True)
            metrics = (await neuron.http.get("/metrics")).text
            assert f'neuron_engine_deaths_total{{cause="gpu",model="{family}"}} {FORGIVEN + 1}.0' in metrics
            assert not children()

    asyncio.run(scenario())
