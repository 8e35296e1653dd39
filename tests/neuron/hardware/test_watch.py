"""The readings of a host's hardware, taken by whoever wants fresh ones, while the driver does as it likes."""

from __future__ import annotations

import asyncio
import os
import time

import httpx
import pytest
from helpers.fake_nvml import GPU_IS_LOST, MISMATCH, RTX_3060, RTX_4090, Machine, driver, fails, uuid
from helpers.live import SCRIPTED_MODEL, running_neuron
from helpers.roles import running_role
from helpers.waiting import until

from cortex.neuron.hardware import watch as watching
from cortex.neuron.hardware.probe import Probe
from cortex.neuron.hardware.watch import HardwareWatch


def test_whoever_reads_at_the_same_time_shares_a_probe_and_disturbs_nobody():
    """A load and the clock ask for readings as they like: none of them looks at the other's unfinished probe."""

    async def scenario():
        async with HardwareWatch(None).running() as watch:

            async def read(pause: int) -> None:
                for _ in range(30):
                    await watch.refresh()
                    for _ in range(pause):
                        await asyncio.sleep(0)

            await asyncio.gather(*(read(pause) for pause in range(8)))
            assert watch.memory_free_mb

    asyncio.run(scenario())


def test_a_reading_is_never_older_than_the_question():
    """Who asks while a probe runs gets the next one: what the running one saw may be from before."""
    order: list[int] = []

    def read() -> None:
        order.append(len(order))
        time.sleep(0.01)

    async def scenario():
        probe = Probe("test", read)
        first = probe.ask()
        await until(lambda: order == [0])
        second, third = probe.ask(), probe.ask()
        assert second is third
        await first
        assert order in ([0], [0, 1])
        await second
        assert order == [0, 1]
        assert probe.running_s == 0

    asyncio.run(scenario())


def test_a_probe_that_fails_tells_who_asked_and_is_asked_again():
    """Its error is in the future, its last good reading keeps its age."""
    answers = iter([None, OSError("no such thing"), None])

    def read() -> None:
        if error := next(answers):
            raise error

    async def scenario():
        probe = Probe("test", read)
        await probe.ask()
        finished = probe.finished
        with pytest.raises(OSError, match="no such thing"):
            await probe.ask()
        assert probe.finished == finished
        await probe.ask()
        assert probe.finished != finished

    asyncio.run(scenario())


@pytest.fixture
def two_cards(machine):
    machine.set(**driver(2))
    machine.card(0, **RTX_3060, uuid=uuid(1))
    machine.card(1, **RTX_4090, uuid=uuid(2))
    return machine


@pytest.fixture
def impatient(monkeypatch):
    """A driver is silent after a moment."""
    monkeypatch.setattr(watching, "REFRESH_S", 0.05)
    monkeypatch.setattr(watching, "SILENT_S", 0.3)


@pytest.mark.usefixtures("impatient")
def test_discovery_answers_at_once_while_the_driver_hangs(two_cards, tmp_path, capsys):
    """200 polls, none of which waits for the driver: the last reading with its age; memory of the host stays fresh."""

    async def scenario():
        async with running_neuron(tmp_path) as neuron:
            assert (await neuron.get("/discovery"))["cuda_unavailable_reason"]  # this build has no CUDA
            two_cards.set(hang=1)
            await until(lambda: two_cards.is_hung)
            took, ages = [], []
            for _ in range(200):
                began = time.perf_counter()
                discovery = await neuron.get("/discovery")
                took.append(time.perf_counter() - began)
                ages.append(discovery["devices_age_secs"])
                assert [device["uuid"] for device in discovery["devices"]] == [uuid(1), uuid(2)]
            assert two_cards.is_hung
            assert ages == sorted(ages)
            async with asyncio.timeout(10):
                while "not answered for" not in (await neuron.get("/discovery"))["cuda_unavailable_reason"]:
                    await asyncio.sleep(0.01)
            refused = await neuron.load(SCRIPTED_MODEL | {"model_id": "any"})
            two_cards.set(hang=None)
            async with asyncio.timeout(10):
                while "not answered for" in (await neuron.get("/discovery"))["cuda_unavailable_reason"]:
                    await asyncio.sleep(0.01)
            return took, refused

    took, refused = asyncio.run(scenario())
    with capsys.disabled():
        slow = sum(each > 0.05 for each in took)
        print(f" [200 polls of a hung driver: {slow} above 50 ms, the slowest {max(took) * 1000:.1f} ms]", end="")
    assert refused.status_code == 404  # there is no such file, and that is said at once


@pytest.mark.model
@pytest.mark.usefixtures("impatient")
def test_loads_are_refused_while_the_driver_hangs(two_cards, models_dir):
    """With the reason, and soon: an engine that opened these GPUs would hang as well. The processor still serves."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            two_cards.set(hang=1)
            await until(lambda: two_cards.is_hung)
            async with asyncio.timeout(10):
                while "not answered for" not in (await neuron.get("/discovery"))["cuda_unavailable_reason"]:
                    await asyncio.sleep(0.01)
            refused = await neuron.load(SCRIPTED_MODEL)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "cuda_unavailable")
            assert refused.headers["retry-after"]
            loaded = await neuron.load(SCRIPTED_MODEL | {"gpu_layers": 0})
            assert loaded.json()["status"] == "loaded"
            assert two_cards.is_hung
        assert two_cards.is_hung  # the neuron has ended all the same

    asyncio.run(scenario())


def test_a_driver_that_hangs_from_the_start_does_not_keep_the_neuron_from_listening(machine, tmp_path, monkeypatch):
    """It says that the driver has not answered yet."""
    monkeypatch.setattr(watching, "FIRST_READING_S", 0.1)
    machine.set(**driver(1) | {"hang": 1})

    async def scenario():
        async with running_neuron(tmp_path) as neuron:
            discovery = await neuron.get("/discovery")
            assert discovery["devices_age_secs"] is None
            assert "has not answered" in discovery["cuda_unavailable_reason"]

    asyncio.run(scenario())


@pytest.mark.model
def test_loads_on_a_host_whose_driver_and_library_differ_are_refused(machine, models_dir):
    """Nothing runs on the processor instead unless that is asked for."""
    machine.set(init=fails(MISMATCH))

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            assert "different versions" in (await neuron.get("/discovery"))["cuda_unavailable_reason"]
            refused = await neuron.load(SCRIPTED_MODEL)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "cuda_unavailable")
            assert (await neuron.load(SCRIPTED_MODEL | {"gpu_layers": 0})).status_code == 200

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_neuron_ends_although_its_driver_hangs(nvml_library, tmp_path):
    """A process of its own, which finds the library by its name: it tells the card, and SIGTERM ends it in the middle of a hung call."""
    machine = Machine(tmp_path / "machine")
    machine.set(**driver(1))
    machine.card(0, **RTX_4090, uuid=uuid(1))
    (config := tmp_path / "neuron.toml").write_text(
        f'port = 0\nstate_dir = "{tmp_path}"\nhub = {{ enabled = false }}\n'
    )
    environ = {"LD_LIBRARY_PATH": str(nvml_library.parent), "FAKE_NVML": str(machine.file), "PATH": os.environ["PATH"]}
    with running_role("--role", "neuron", "--config", config, **environ) as neuron:
        with httpx.Client(base_url=neuron.url, trust_env=False) as http:
            (card,) = http.get("/discovery").json()["devices"]
            assert (card["name"], card["uuid"]) == (RTX_4090["name"], uuid(1))
            machine.set(hang=1)
            deadline = time.monotonic() + 20
            while not machine.is_hung and time.monotonic() < deadline:
                time.sleep(0.01)
            assert machine.is_hung
        assert neuron.end() == 0
        assert machine.is_hung


@pytest.mark.usefixtures("impatient")
def test_health_and_metrics_show_what_the_cards_do(two_cards, tmp_path):
    """Power, clocks and what throttles; a card that is lost says so and shows no old figures."""

    async def scenario():
        async with running_neuron(tmp_path) as neuron:
            busy = (await neuron.get("/health"))["devices"][1]
            assert (busy["power_w"], busy["sm_clock_mhz"], busy["throttled_by"]) == (432, 2520, ["power cap"])
            metrics = (await neuron.http.get("/metrics")).text
            assert 'neuron_device_power_w{device="1"} 432.0' in metrics
            assert 'neuron_device_answers{device="0"} 1.0' in metrics
            two_cards.card(0, memory=fails(GPU_IS_LOST))
            async with asyncio.timeout(10):
                while (lost := (await neuron.get("/health"))["devices"][0])["problem"] is None:
                    await asyncio.sleep(0.01)
            assert (lost["problem"], lost["vram_free_mb"], lost["temp_c"]) == ("GPU is lost", None, None)
            assert 'neuron_device_answers{device="0"} 0.0' in (await neuron.http.get("/metrics")).text

    asyncio.run(scenario())
