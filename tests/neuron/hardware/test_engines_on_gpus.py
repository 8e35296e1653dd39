"""What engines are told of GPUs: NVML is the stand-in, the engine a program that writes down how it was started."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
import uvloop
from helpers.fake_llama_server import FakeLlamaServer
from helpers.fake_nvml import H100, NO_PERMISSION, RTX_3060, RTX_4090, driver, fails, uuid
from helpers.live import SCRIPTED_MODEL, running_neuron
from helpers.waiting import until

pytestmark = pytest.mark.model


@pytest.fixture
def server(tmp_path):
    (folder := tmp_path / "server").mkdir()
    return FakeLlamaServer(folder)


@pytest.fixture
def two_cards(machine):
    """A small card, and a large one of which something is in use."""
    machine.set(**driver(2))
    machine.card(0, **RTX_3060, uuid=uuid(1))
    machine.card(1, **RTX_4090, uuid=uuid(2))
    return machine


@pytest.fixture
def models(tmp_path, scripted_model, legacy_dir):
    """The scripted model twice, and a file of before GGUF."""
    (folder := tmp_path / "models").mkdir()
    for name, file in (
        ("one.gguf", scripted_model),
        ("two.gguf", scripted_model),
        ("old.bin", legacy_dir / "gpt2.bin"),
    ):
        (folder / name).symlink_to(file)
    return folder


@contextlib.asynccontextmanager
async def neuron_with(server, models, **more):
    section = {"llamacpp": {"server_binary": str(server.path if isinstance(server, FakeLlamaServer) else server)}}
    async with running_neuron(models, harness=section, **more) as neuron:
        yield neuron


def model(name, **settings):
    return SCRIPTED_MODEL | {"model_id": name, **settings}


@pytest.mark.usefixtures("two_cards")
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_one_model_on_one_card(run, server, models, monkeypatch):
    """The one with the most free memory, by its UUID; nothing is split, and no secret is inherited."""

    async def scenario():
        async with neuron_with(server, models) as neuron:
            loaded = await neuron.load(model("one"))
            assert loaded.status_code == 200, loaded.text
            (entry,) = await neuron.get("/models")
            assert (entry["harness"], entry["devices"]) == ("llamacpp", [1])

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    run(scenario())
    (start,) = server.starts
    assert start["env"]["CUDA_VISIBLE_DEVICES"] == uuid(2)
    assert "HF_TOKEN" not in start["env"]
    assert (server.option("--n-gpu-layers"), server.option("--tensor-split")) == ("999", None)


@pytest.mark.parametrize(
    ("settings", "visible", "split", "mode", "main"),
    [
        ({"tensor_parallel": 2}, (1, 2), "0.3324,0.6676", "layer", "1"),  # 11,978 and 24,052 MiB are free
        ({"devices": [1, 0]}, (2, 1), "0.6676,0.3324", "layer", "0"),
        ({"devices": [0, 1], "split_mode": "row", "main_gpu": 0}, (1, 2), "0.3324,0.6676", "row", "0"),
        ({"devices": [0, 1], "tensor_split": [1, 1]}, (1, 2), "0.5,0.5", "layer", "1"),
    ],
)
@pytest.mark.usefixtures("two_cards")
def test_one_model_over_two_unequal_cards(settings, visible, split, mode, main, server, models):
    """Each takes its part by what it has free, unless somebody says otherwise; the order is that of the request."""

    async def scenario():
        async with neuron_with(server, models) as neuron:
            loaded = await neuron.load(model("one", **settings))
            assert loaded.status_code == 200, loaded.text

    asyncio.run(scenario())
    assert server.starts[0]["env"]["CUDA_VISIBLE_DEVICES"] == ",".join(map(uuid, visible))
    told = [server.option(name) for name in ("--tensor-split", "--split-mode", "--main-gpu")]
    assert told == [split, mode, main]


def test_an_instance_of_a_partitioned_card_is_a_device_of_its_own(machine, server, models):
    """CUDA is told the instance's UUID; its memory alone is room, and no other instance can join it."""
    machine.set(**driver(1))
    machine.card(0, **H100, uuid=uuid(1), mig_mode=1, mig_most=7)
    for number, used in ((0, 20), (1, 40_000)):
        facts = {"name": "NVIDIA H100 80GB HBM3 MIG 3g.40gb", "memory": f"40448 {used}", "uuid": uuid(number, "MIG")}
        machine.set(**{f"0_mig{number}.{key}": value for key, value in facts.items()})

    async def scenario():
        async with neuron_with(server, models) as neuron:
            assert (await neuron.load(model("one"))).status_code == 200
            assert (await neuron.get("/models"))[0]["devices"] == [0]
            full = (await neuron.load(model("two", devices=[1]))).json()["error"]
            assert (full["code"], full["free_mb"]) == ("insufficient_vram", 448)
            both = await neuron.load(model("two", devices=[0, 1]))
            assert (both.status_code, "MIG" in both.json()["error"]["message"]) == (400, True)

    asyncio.run(scenario())
    assert [start["env"]["CUDA_VISIBLE_DEVICES"] for start in server.starts] == [uuid(0, "MIG")]


@pytest.mark.usefixtures("two_cards")
def test_wrong_devices_are_refused_with_the_list(server, models):
    """400, before any process is started."""

    async def scenario():
        async with neuron_with(server, models) as neuron:
            refused = await neuron.load(model("one", devices=[2]))
            assert refused.status_code == 400
            assert refused.json()["error"]["devices"] == [0, 1]
            assert (await neuron.load(model("one", tensor_parallel=3))).status_code == 400
            assert (await neuron.load(model("one", devices=[0], main_gpu=1))).status_code == 400

    asyncio.run(scenario())
    assert not server.starts


def test_two_models_on_one_card_with_measured_memory(two_cards, server, models):
    """The second load sees what the driver shows of the first, and what was measured is what is listed."""
    two_cards.card(1, memory="24564 20000")

    async def scenario():
        async with neuron_with(server, models) as neuron:
            assert (await neuron.load(model("one", devices=[1]))).status_code == 200
            pid = server.starts[0]["pid"]
            two_cards.card(1, memory="24564 24500", processes=f"{pid}:4321")
            refused = await neuron.load(model("two", devices=[1]))
            error = refused.json()["error"]
            assert (refused.status_code, error["code"], error["free_mb"]) == (503, "insufficient_vram", 64)
            assert [held["memory_mb"] for held in error["resident"]] == [4321]
            assert (await neuron.get("/models"))[0]["vram_used_mb"] == 4321
            two_cards.card(1, memory="24564 22000")
            assert (await neuron.load(model("two", devices=[1]))).status_code == 200

    asyncio.run(scenario())


@pytest.mark.usefixtures("two_cards")
def test_layers_that_stay_in_host_memory_need_room_there(server, models):
    """A GPU with room is not enough: what does not go there is weighed as a model on the processor is."""

    async def scenario():
        async with neuron_with(server, models, limits={"memory_mb": 1}) as neuron:
            refused = await neuron.load(model("one", gpu_layers=1))
            error = refused.json()["error"]
            assert (refused.status_code, error["code"]) == (503, "insufficient_memory")
            assert "beside its GPU, and 1 MiB are free" in error["message"]
            assert (await neuron.load(model("one"))).status_code == 200

    asyncio.run(scenario())
    assert len(server.starts) == 1


def test_where_the_driver_tells_no_processes_the_difference_is_the_measure(two_cards, server, models):
    """As in containers: what the card had less after the load."""
    two_cards.card(1, processes=fails(NO_PERMISSION))

    server.slow(is_slow=True)

    async def scenario():
        async with neuron_with(server, models) as neuron, asyncio.TaskGroup() as tasks:
            loading = tasks.create_task(neuron.load(model("one")))
            await until(lambda: server.starts)
            two_cards.card(1, memory=f"24564 {512 + 777}")
            server.slow(is_slow=False)
            assert (await loading).status_code == 200
            assert (await neuron.get("/models"))[0]["vram_used_mb"] == 777

    asyncio.run(scenario())


@pytest.mark.usefixtures("two_cards")
def test_a_file_of_before_gguf_takes_no_gpu_memory(server, models):
    """Its harness computes on the processor: host memory is promised, no device is listed, and the job says so."""

    async def scenario():
        async with neuron_with(server, models) as neuron:
            loaded = await neuron.load({"model_id": "old", "threads": 1})
            assert loaded.status_code == 200, loaded.text
            assert any("host memory" in note for note in loaded.json()["notes"])
            (entry,) = await neuron.get("/models")
            assert (entry["harness"], entry["devices"]) == ("ctransformers", [])
            assert "before GGUF" in entry["harness_reason"]

    asyncio.run(scenario())
    assert not server.starts


@pytest.mark.usefixtures("two_cards")
def test_a_server_without_cuda_on_a_host_with_gpus_is_named(tmp_path, models):
    """It would compute on the processor without a word."""
    (folder := tmp_path / "cpu").mkdir()
    server = FakeLlamaServer(folder, devices="Available devices:\n  (none)")

    async def scenario():
        async with neuron_with(server, models) as neuron:
            refused = await neuron.load(model("one"))
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "cuda_unsupported")
            assert "lists no GPU" in (await neuron.get("/discovery"))["cuda_unavailable_reason"]
            assert (await neuron.load(model("one", gpu_layers=0))).status_code == 200

    asyncio.run(scenario())
    assert server.starts[0]["env"]["CUDA_VISIBLE_DEVICES"] == ""
    assert server.option("--n-gpu-layers") == "0"


def test_gpus_of_another_maker_are_the_servers_own_affair(tmp_path, models):
    """Without NVML their memory is not watched; the server gets all layers, and no word about CUDA."""
    (folder := tmp_path / "vulkan").mkdir()
    server = FakeLlamaServer(
        folder, devices="Available devices:\n  Vulkan0: AMD Radeon RX 7900 XTX (24560 MiB, 24000 MiB free)"
    )

    async def scenario():
        async with neuron_with(server, models) as neuron:
            loaded = await neuron.load(model("one"))
            assert any("Vulkan0" in note for note in loaded.json()["notes"])
            (harness,) = [
                each for each in (await neuron.get("/discovery"))["harness_details"] if each["name"] == "llamacpp"
            ]
            assert harness["gpus"][0].startswith("Vulkan0: AMD Radeon")

    asyncio.run(scenario())
    assert server.option("--n-gpu-layers") == "999"
    assert "CUDA_VISIBLE_DEVICES" not in server.starts[0]["env"]


def test_a_server_that_is_not_there_is_named(models, tmp_path):
    """On /discovery and to whoever loads; other harnesses serve, and the built-in engine is no silent substitute."""

    async def scenario():
        async with neuron_with(tmp_path / "nowhere", models) as neuron:
            refused = await neuron.load(model("one"))
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "harness_unusable")
            assert "'nowhere' of harness.llamacpp.server_binary does not exist" in refused.json()["error"]["message"]
            details = {each["name"]: each for each in (await neuron.get("/discovery"))["harness_details"]}
            assert "does not exist" in details["llamacpp"]["problem"]
            assert details["ctransformers"].get("problem") is None
            assert (await neuron.load({"model_id": "old", "threads": 1})).status_code == 200

    asyncio.run(scenario())


def test_a_server_that_goes_away_after_the_start_is_named(server, models):
    """Its file was there when it was asked, and is not when a model is loaded."""

    async def scenario():
        async with neuron_with(server, models) as neuron:
            Path(server.path).unlink()
            failed = await neuron.load(model("one"))
            assert failed.status_code == 500
            assert "'llama-server' cannot be started: No such file" in failed.json()["error"]["message"]

    asyncio.run(scenario())


@pytest.mark.usefixtures("two_cards")
def test_an_engine_that_dies_of_a_cuda_error_is_started_again_and_says_why(server, models):
    """Its words stay with the model, its death is counted by cause, and the card is there for the next one."""

    async def scenario():
        async with neuron_with(server, models) as neuron:
            assert (await neuron.load(model("one"))).status_code == 200
            server.die()
            async with asyncio.timeout(20):
                while (entry := (await neuron.get("/models"))[0])["status"] != "loaded" or "last_death" not in entry:
                    await asyncio.sleep(0.01)
            assert entry["last_death"] == (
                "killed by signal 6 (SIGABRT): CUDA error: an illegal memory access was encountered"
            )
            metrics = (await neuron.http.get("/metrics")).text
            assert 'neuron_engine_deaths_total{cause="gpu",model="one"} 1.0' in metrics
            assert (await neuron.load(model("two"))).status_code == 200

    asyncio.run(scenario())
    assert [start["env"]["CUDA_VISIBLE_DEVICES"] for start in server.starts] == [uuid(2)] * 3


@pytest.mark.usefixtures("two_cards")
def test_a_model_whose_engines_keep_dying_waits_longer_and_longer(server, models):
    """Whoever asks again hears 503 with the time and the reason, and no engine is started for it."""
    server.die_at_load()

    async def scenario():
        async with neuron_with(server, models) as neuron:
            for _ in range(5):
                failed = await neuron.load(model("one"))
                assert failed.json()["error"]["code"] == "engine_failed"
            waits = await neuron.load(model("one"))
            assert waits.status_code == 503
            assert 0 < int(waits.headers["retry-after"]) <= 5
            assert "CUDA error: an illegal memory access" in waits.json()["error"]["message"]
            assert 'neuron_model_backoff_seconds{model="one"}' in (await neuron.http.get("/metrics")).text
            server.die_at_load(always=False)
            assert (await neuron.load(model("two"))).status_code == 200

    asyncio.run(scenario())
    assert len(server.starts) == 6
