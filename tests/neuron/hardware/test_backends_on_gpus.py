"""CUDA backends of the built-in engine on hosts with GPUs: NVML is the stand-in, the backends misbehave."""

from __future__ import annotations

import asyncio

import pytest
from helpers.backends import CUDA, compile_backend, write_manifest
from helpers.fake_nvml import H100, RTX_3060, RTX_4090, driver, uuid
from helpers.live import SCRIPTED, SCRIPTED_MODEL, running_neuron

pytestmark = pytest.mark.model


def neuron_with(folder, models):
    return running_neuron(models, harness={"llamacpp": {"backends": str(folder)}})


@pytest.fixture
def gpu(machine):
    """A host with a 4090 and a driver for CUDA 13."""
    machine.set(**driver(1))
    machine.card(0, **RTX_4090, uuid=uuid(1))
    return machine


@pytest.mark.usefixtures("gpu")
def test_a_load_for_the_processor_loads_nothing_of_cuda(models_dir, tmp_path):
    """A CUDA backend that would end its process at once does no harm where no GPU is used."""
    compile_backend(tmp_path / "libggml-cuda.so", ABORT=1)
    write_manifest(tmp_path, cuda=CUDA)

    async def scenario():
        async with neuron_with(tmp_path, models_dir) as neuron:
            assert (await neuron.load(SCRIPTED_MODEL | {"gpu_layers": 0})).status_code == 200
            await neuron.http.post("/models/unload", json={"model_id": SCRIPTED})
            ended = (await neuron.load(SCRIPTED_MODEL)).json()["error"]
            assert "SIGABRT" in ended["message"]  # with a GPU it is loaded, or this test shows nothing

    asyncio.run(scenario())


@pytest.mark.usefixtures("gpu")
def test_a_cuda_backend_that_sees_no_gpu_fails_the_load(models_dir, tmp_path):
    """503 with CUDA's own words, and no answer from the processor instead; what it is compiled for is on `/discovery`."""
    complaint = "ggml_cuda_init: failed to initialize CUDA: system not yet initialized"
    compile_backend(tmp_path / "libggml-cuda.so", COMPLAINT=complaint)
    write_manifest(tmp_path, cuda=CUDA)

    async def scenario():
        async with neuron_with(tmp_path, models_dir) as neuron:
            details = (await neuron.get("/discovery"))["harness_details"][0]
            assert (details["cuda_build"], details["cuda_architectures"]) == ("12.4", ["89-real"])
            assert "cuda_unavailable_reason" not in await neuron.get("/discovery")
            refused = await neuron.load(SCRIPTED_MODEL)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "cuda_unavailable")
            message = refused.json()["error"]["message"]
            assert f"sees no GPU: {complaint}; with gpu_layers = 0" in message
            assert str(tmp_path) not in message

    asyncio.run(scenario())


@pytest.mark.usefixtures("gpu")
def test_a_folder_that_is_not_right_is_why_gpus_are_not_used(models_dir, tmp_path):
    """The same sentence wherever somebody looks, and none about a build without CUDA."""

    async def scenario():
        async with neuron_with(tmp_path / "nowhere", models_dir) as neuron:
            reason = (await neuron.get("/discovery"))["cuda_unavailable_reason"]
            assert reason == "the folder 'nowhere' of harness.llamacpp.backends does not exist"

    asyncio.run(scenario())


def test_gpus_that_its_cuda_is_not_compiled_for_are_refused_beforehand(gpu, models_dir, tmp_path):
    """No process is started for them: the reason is on `/discovery`, and in the answer."""
    gpu.card(0, **H100)
    compile_backend(tmp_path / "libggml-cuda.so")
    write_manifest(tmp_path, cuda=CUDA)

    async def scenario():
        async with neuron_with(tmp_path, models_dir) as neuron:
            reason = (await neuron.get("/discovery"))["cuda_unavailable_reason"]
            assert reason == ("this build's CUDA backend is compiled for 89-real, not for NVIDIA H100 80GB HBM3 (9.0)")
            refused = await neuron.load(SCRIPTED_MODEL)
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "cuda_unsupported")
            assert reason in refused.json()["error"]["message"]

    asyncio.run(scenario())


@pytest.fixture
def mixed(gpu):
    """A 3060, on which more is free than on the 4090 beside it, and another 4090."""
    gpu.set(count=3)
    gpu.card(0, **RTX_3060 | {"memory": "99999 0"}, uuid=uuid(1))
    for index in (1, 2):
        gpu.card(index, **RTX_4090, uuid=uuid(index + 1))
    return gpu


NOT_FOR_THE_3060 = "this build's CUDA backend is compiled for 89-real, not for NVIDIA GeForce RTX 3060 (8.6)"


@pytest.mark.usefixtures("mixed")
def test_models_go_to_the_gpus_that_its_cuda_is_compiled_for(models_dir, tmp_path, caplog):
    """One card that it is not for keeps no other from being used; engines are not even shown it."""
    compile_backend(tmp_path / "libggml-cuda.so", VARIABLE="CUDA_VISIBLE_DEVICES")
    write_manifest(tmp_path, cuda=CUDA)

    async def scenario():
        async with neuron_with(tmp_path, models_dir) as neuron:
            for settings, visible in (
                ({}, uuid(2)),
                ({"tensor_parallel": 2}, f"{uuid(2)},{uuid(3)}"),
                ({"devices": [2]}, uuid(3)),
            ):
                ended = (await neuron.load(SCRIPTED_MODEL | settings)).json()["error"]["message"]
                assert f"CUDA_VISIBLE_DEVICES={visible};" in ended

    asyncio.run(scenario())
    assert f"models are not put on GPU 0: {NOT_FOR_THE_3060}" in caplog.messages


@pytest.mark.usefixtures("mixed")
def test_a_gpu_that_its_cuda_is_not_compiled_for_is_told_and_refused_by_name(models_dir, tmp_path):
    """On `/discovery` and `/health`, for the card and for the harness, and to whoever names it; for the host nothing is wrong."""
    compile_backend(tmp_path / "libggml-cuda.so")
    write_manifest(tmp_path, cuda=CUDA)

    async def scenario():
        async with neuron_with(tmp_path, models_dir) as neuron:
            discovery, health = await neuron.get("/discovery"), await neuron.get("/health")
            assert "cuda_unavailable_reason" not in discovery
            for told in (discovery, health):
                reasons = [device["cuda_unavailable_reason"] for device in told["devices"]]
                assert reasons == [NOT_FOR_THE_3060, None, None]
            llama, legacy = discovery["harness_details"]
            assert llama["foreign_devices"] == [{"index": 0, "cuda_unavailable_reason": NOT_FOR_THE_3060}]
            assert (llama["cuda_unavailable_reason"], legacy["foreign_devices"]) == (None, [])
            for devices in ([0], [1, 0]):
                refused = await neuron.load(SCRIPTED_MODEL | {"devices": devices})
                error = refused.json()["error"]
                assert (refused.status_code, error["code"], error["devices"]) == (422, "cuda_unsupported", [1, 2])
                assert f"device 0: {NOT_FOR_THE_3060}" in error["message"]
            too_many = await neuron.load(SCRIPTED_MODEL | {"tensor_parallel": 3})
            assert (too_many.status_code, too_many.json()["error"]["devices"]) == (400, [1, 2])

    asyncio.run(scenario())


@pytest.mark.usefixtures("gpu")
def test_backends_for_processors_alone_leave_a_gpu_unused_and_say_so(models_dir, tmp_path):
    """As without any: the library itself has no CUDA."""
    write_manifest(tmp_path)

    async def scenario():
        async with neuron_with(tmp_path, models_dir) as neuron:
            assert "no CUDA" in (await neuron.get("/discovery"))["cuda_unavailable_reason"]
            assert (await neuron.load(SCRIPTED_MODEL)).json()["error"]["code"] == "cuda_unsupported"

    asyncio.run(scenario())


def test_a_cuda_backend_on_a_host_without_a_gpu_is_told_and_not_replaced_by_the_processor(models_dir, tmp_path):
    """Its driver may have gone with an update: discovery says so, a load is refused with the way out, `gpu_layers = 0` is one."""
    compile_backend(tmp_path / "libggml-cuda.so", ABORT=1)
    write_manifest(tmp_path, cuda=CUDA)

    async def scenario():
        async with neuron_with(tmp_path, models_dir) as neuron:
            discovery = await neuron.get("/discovery")
            assert "no NVIDIA GPU is seen here" in discovery["cuda_unavailable_reason"]
            refused = (await neuron.load(SCRIPTED_MODEL)).json()["error"]
            assert (refused["code"], "gpu_layers = 0" in refused["message"]) == ("cuda_unsupported", True)
            assert (await neuron.load(SCRIPTED_MODEL | {"gpu_layers": 0})).status_code == 200

    asyncio.run(scenario())
