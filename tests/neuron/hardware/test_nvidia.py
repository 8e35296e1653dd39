"""Machines with GPUs as NVML tells them: pynvml runs, and its library is a stand-in that does as it is told."""

from __future__ import annotations

import pytest
from helpers.fake_nvml import (
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    H100,
    LAPTOP,
    MISMATCH,
    NO_PERMISSION,
    NOT_SUPPORTED,
    RTX_3060,
    RTX_4090,
    driver,
    fails,
    uuid,
)

from cortex.neuron.hardware.nvidia import Nvidia, NvidiaReading
from cortex.neuron.hardware.nvidia_figures import throttles


@pytest.fixture
def nvidia():
    made = Nvidia()
    yield made
    made.close()


@pytest.fixture
def two_cards(machine):
    """A small card and a large one."""
    machine.set(**driver(2))
    machine.card(0, **RTX_3060, uuid=uuid(1))
    machine.card(1, **RTX_4090, uuid=uuid(2))
    return machine


@pytest.mark.usefixtures("two_cards")
def test_two_unequal_cards(nvidia):
    """Everything that the driver tells of either is there, in our units, and what it does not tell is None."""
    reading = nvidia.read()
    assert (reading.driver_version, reading.cuda_version, reading.unavailable_reason) == ("580.95.05", "13.0", None)
    small, large = reading.devices
    assert (small.index, small.name, small.uuid) == (0, "NVIDIA GeForce RTX 3060", uuid(1))
    assert (small.vram_total_mb, small.compute_capability, small.power_limit_w) == (12_288, "8.6", 170)
    assert (small.ecc, small.persistence, small.part_of) == (None, False, None)
    assert (large.index, large.compute_capability, large.persistence) == (1, "8.9", True)
    idle, busy = reading.health
    assert (idle.vram_used_mb, idle.vram_free_mb, idle.ecc_errors) == (310, 11_978, None)
    assert (busy.utilization_pct, busy.temp_c, busy.power_w) == (97, 71, 432)
    assert (busy.sm_clock_mhz, busy.memory_clock_mhz) == (2520, 10_501)
    assert (idle.throttled_by, busy.throttled_by) == ((), ("power cap",))


def test_eight_cards(machine, nvidia):
    """All of them, in the driver's order, each with its own memory and ECC."""
    machine.set(**driver(8))
    for index in range(8):
        machine.card(index, **H100 | {"memory": f"81559 {index * 1000}", "ecc_errors": index % 2}, uuid=uuid(index))
    reading = nvidia.read()
    assert [device.uuid for device in reading.devices] == [uuid(index) for index in range(8)]
    assert [device.vram_used_mb for device in reading.health] == [index * 1000 for index in range(8)]
    assert [device.ecc_errors for device in reading.health] == [0, 1] * 4
    assert all(device.ecc for device in reading.devices)


def test_a_laptop_card_without_power_and_ecc(machine, nvidia):
    """What a card does not support is left out, and hides nothing of the rest."""
    machine.set(**driver(1))
    machine.card(0, **LAPTOP, uuid=uuid(1))
    (device,), (health,) = nvidia.read().devices, nvidia.read().health
    assert (device.power_limit_w, device.ecc, device.persistence, health.power_w) == (None, None, None, None)
    assert (device.vram_total_mb, health.vram_free_mb, health.temp_c, health.problem) == (4096, 4090, 44, None)


def test_a_card_that_shares_the_hosts_memory(machine, nvidia):
    """No figure for its memory is no sign that it is lost."""
    machine.set(**driver(1))
    machine.card(0, **H100 | {"name": "NVIDIA GB10", "memory": fails(NOT_SUPPORTED)}, uuid=uuid(1))
    reading = nvidia.read()
    assert (reading.devices[0].vram_total_mb, reading.health[0].vram_free_mb) == (None, None)
    assert reading.health[0].problem is None


def test_instances_of_a_partitioned_card_are_the_devices(machine, nvidia):
    """MIG: what a model can be put on are the instances; memory is their own, temperature the card's."""
    machine.set(**driver(3))
    machine.card(0, **H100, uuid=uuid(1), mig_mode=1, mig_most=7)
    instance = {"name": "NVIDIA H100 80GB HBM3 MIG 3g.40gb", "memory": "40448 20", "processes": "77:15"}
    for number in (0, 4):  # the driver leaves gaps
        machine.set(**{f"0_mig{number}.{key}": value for key, value in instance.items()})
        machine.set(**{f"0_mig{number}.uuid": uuid(number, "MIG")})
    machine.card(1, **H100, uuid=uuid(2), mig_mode=1, mig_most=7)  # partitioned, and no instance yet
    machine.card(2, **H100, uuid=uuid(3), mig_mode=0)
    reading = nvidia.read()
    assert [device.uuid for device in reading.devices] == [uuid(0, "MIG"), uuid(4, "MIG"), uuid(3)]
    assert [device.part_of for device in reading.devices] == [uuid(1), uuid(1), None]
    assert reading.devices[0].compute_capability == "9.0"
    assert (reading.health[0].vram_free_mb, reading.health[0].temp_c) == (40_428, 29)
    assert reading.mb_by_process == {77: 30}
    machine.card(0, **{f"mig4.{key}": None for key in (*instance, "uuid")})  # an instance is destroyed
    assert [device.uuid for device in nvidia.read().devices] == [uuid(0, "MIG"), uuid(3)]


def test_a_driver_and_a_library_of_different_versions_are_a_fact(machine, nvidia):
    """After an update without a reboot: a sentence that says what to do, and no crash."""
    machine.set(**driver(1) | {"init": fails(MISMATCH)})
    reading = nvidia.read()
    assert reading.devices == ()
    assert "different versions" in (reading.unavailable_reason or "")
    assert "reboot" in (reading.unavailable_reason or "")


def test_gpus_that_this_user_may_not_open_are_a_fact(machine, nvidia):
    """The sentence names the files."""
    machine.set(**driver(1) | {"init": fails(NO_PERMISSION)})
    assert "/dev/nvidia*" in (nvidia.read().unavailable_reason or "")


@pytest.mark.parametrize("facts", [{}, {"init": fails(DRIVER_NOT_LOADED)}])
def test_without_a_driver_it_is_a_cpu_host(facts, machine, nvidia):
    """A library that somebody installed without a card is no reason to complain."""
    machine.set(**facts)
    assert nvidia.read() == NvidiaReading()


def test_without_the_library_it_is_a_cpu_host(nvidia, monkeypatch):
    """Nor is its absence."""
    monkeypatch.setattr("pynvml.nvmlLib", None)
    monkeypatch.setattr("pynvml.CDLL", _not_found)
    assert nvidia.read() == NvidiaReading()


def _not_found(_name):
    raise OSError("libnvidia-ml.so.1: cannot open shared object file")


def test_a_lost_card_hides_no_other_and_comes_back(two_cards, nvidia):
    """It keeps its index and its facts, says why it does not answer, and is found again without a restart."""
    before = nvidia.read()
    two_cards.card(0, memory=fails(GPU_IS_LOST), handle=fails(GPU_IS_LOST))
    lost = nvidia.read()
    assert lost.devices == before.devices
    assert (lost.health[0].problem, lost.health[0].vram_free_mb) == ("GPU is lost", None)
    assert lost.health[1] == before.health[1]
    two_cards.card(0, memory="12288 310", handle=None)
    assert nvidia.read() == before


@pytest.mark.parametrize("figure", ["memory", "temperature", "processes"])
def test_a_card_that_is_lost_between_two_calls_says_so(figure, two_cards, nvidia):
    """Its handle still opens; whichever call hears of it first, nothing half-read is told."""
    before = nvidia.read()
    two_cards.card(0, **{figure: fails(GPU_IS_LOST)})
    lost, other = nvidia.read().health
    assert (lost.problem, lost.vram_free_mb) == ("GPU is lost", None)
    assert other == before.health[1]


def test_a_card_that_fell_off_the_bus_moves_no_index(two_cards, nvidia):
    """The driver counts the rest anew after a reload; who was device 1 stays device 1, by its UUID."""
    before = nvidia.read()
    two_cards.take_card(0)
    rest = two_cards.take_card(1)
    two_cards.set(count=1, driver_load=2)
    two_cards.card(0, **rest)
    after = nvidia.read()
    assert after.devices == before.devices
    assert [device.problem for device in after.health] == ["not found", None]
    assert after.health[1] == before.health[1]


def test_a_card_that_was_never_there_leaves_its_number_free(two_cards, nvidia):
    """A card that does not open at the start is not device 0 under another name."""
    two_cards.card(0, handle=fails(GPU_IS_LOST))
    assert [(device.index, device.uuid) for device in nvidia.read().devices] == [(1, uuid(2))]
    two_cards.card(0, handle=None)
    nvidia.close()
    assert [(device.index, device.uuid) for device in nvidia.read().devices] == [(0, uuid(1)), (1, uuid(2))]


def test_a_reload_of_the_driver_is_survived(two_cards, nvidia):
    """Old handles are dead after it: a new session is opened in the same reading, and the new version is told."""
    nvidia.read()
    two_cards.set(driver_load=2, driver="590.10")
    reading = nvidia.read()
    assert [device.problem for device in reading.health] == [None, None]
    assert reading.driver_version == "590.10"


def test_an_unloaded_driver_leaves_devices_that_do_not_answer(two_cards, nvidia):
    """A GPU host does not become a CPU host, on which models would be put, while somebody reloads the driver."""
    before = nvidia.read()
    two_cards.set(driver_load=2, init=fails(DRIVER_NOT_LOADED))
    gone = nvidia.read()
    assert gone.devices == before.devices
    assert [device.problem for device in gone.health] == ["Driver Not Loaded"] * 2
    assert gone.unavailable_reason == "the NVIDIA driver was unloaded"
    two_cards.set(driver_load=3, init=0)
    assert nvidia.read() == before


def test_the_memory_of_a_process_is_that_on_all_its_gpus(two_cards, nvidia):
    """What one silent driver does not tell hides nothing else."""
    two_cards.card(0, processes="10:300")
    two_cards.card(1, processes="10:200 11:50 12:-")
    assert nvidia.read().mb_by_process == {10: 500, 11: 50}


def test_without_the_permission_processes_are_not_told_and_all_else_is(two_cards, nvidia):
    """As in containers: memory of the card, and no word about who holds it."""
    for index in (0, 1):
        two_cards.card(index, processes=fails(NO_PERMISSION))
    reading = nvidia.read()
    assert reading.mb_by_process == {}
    assert [device.vram_used_mb for device in reading.health] == [310, 512]


def test_an_older_driver_tells_under_another_name_what_slows_a_card_down(two_cards, nvidia):
    """Before 535 the same figure was called a throttle reason."""
    two_cards.card(1, throttle=None, throttle_until_535=4)
    assert nvidia.read().health[1].throttled_by == ("power cap",)


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        (None, ()),
        (0, ()),
        (1, ()),
        (0x24, ("power cap", "temperature")),
        (0xC9, ("hardware slowdown", "temperature (hardware)", "power brake")),
    ],
)
def test_what_slows_a_card_down_is_told_in_words(reasons, words):
    """An idle card's low clocks are nothing to worry about."""
    assert throttles(reasons) == words
