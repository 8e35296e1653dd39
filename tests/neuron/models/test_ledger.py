"""Promises: two loads never count on the same memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cortex.neuron.hardware.nvidia import NvidiaReading
from cortex.neuron.hardware.watch import HardwareWatch
from cortex.neuron.models.fit import refusal
from cortex.neuron.models.ledger import Ledger
from cortex.neuron.models.placing import shares
from cortex.wire.fleet import Device, DeviceHealth


@pytest.fixture
def host():
    """A host with GPUs of so much used and free memory, and a way to take another reading of them."""
    hardware = HardwareWatch(None)

    def read(*used_and_free):
        hardware.nvidia = NvidiaReading(
            devices=tuple(Device(index=index, name="GPU") for index in range(len(used_and_free))),
            health=tuple(
                DeviceHealth(index=index, vram_used_mb=used, vram_free_mb=free)
                for index, (used, free) in enumerate(used_and_free)
            ),
        )
        return Ledger(hardware, limit_mb=None)

    return read


def test_a_loaded_model_is_not_counted_twice(host):
    """While it loads its memory is promised; from then on the driver shows it, and the free figure is the driver's."""
    ledger = host((0, 1000))
    promise = ledger.promise("m", 400, (0,))
    assert ledger.free((0,)).free_mb == 600
    host((410, 590))
    promise.measured = lambda: None  # its driver does not tell by process
    assert ledger.free((0,)).free_mb == 590
    assert promise.held_mb == 400


def test_two_loads_on_one_card_count_different_memory(host):
    """The second one is refused what the first was promised, before the first has taken a byte of it."""
    ledger = host((0, 1000))
    ledger.promise("first", 700, (0,))
    refused = refusal("second", 400, ledger.free((0,)), (1.0,), (0,))
    assert refused is not None
    assert (refused.extras["free_mb"], refused.extras["required_mb"]) == (300, 400)
    assert [held["id"] for held in refused.extras["resident"]] == ["first"]
    assert refusal("small", 300, ledger.free((0,)), (1.0,), (0,)) is None


def test_a_model_over_unequal_cards_is_promised_its_part_of_each(host):
    """Each card gives in proportion to what it has free."""
    ledger = host((0, 8000), (0, 24_000))
    memory = ledger.free((0, 1))
    parts = shares(None, memory.per_device_mb)
    assert refusal("m", 30_000, memory, parts, (0, 1)) is None
    promise = ledger.promise("m", 16_000, (0, 1), parts)
    assert [gpu.free_mb for gpu in ledger.gpus()] == [4000, 12_000]
    ledger.release(promise)
    assert [gpu.free_mb for gpu in ledger.gpus()] == [8000, 24_000]


def test_what_a_model_on_a_gpu_has_in_host_memory_counts_there():
    """From its load to its end: what it may write to later is no room for others."""
    hardware = HardwareWatch(None)
    hardware.memory_free_mb = 100_000
    ledger = Ledger(hardware, limit_mb=1000)
    promise = ledger.promise("m", 400, (0,), host_mb=300)
    assert ledger.free().free_mb == 700
    promise.measured = lambda: 400
    assert ledger.free().free_mb == 700
    hardware.memory_free_mb = 800
    assert ledger.free().free_mb == 700
    promise.measured = None
    assert ledger.free().free_mb == 500
    ledger.release(promise)
    assert ledger.free().free_mb == 800


def test_what_a_load_took_is_seen_only_when_nobody_else_loads_there(host):
    """The difference of two readings is one model's memory only if it was alone; another card does not matter."""
    ledger = host((300, 700), (100, 900))
    assert ledger.used_mb((0, 1)) == 400
    promise = ledger.promise("m", 400, (0,))
    assert (ledger.used_mb((0,)), ledger.used_mb((0, 1)), ledger.used_mb((1,))) == (None, None, 100)
    promise.measured = lambda: 400
    assert ledger.used_mb((0,)) == 300
    assert host((None, 700)).used_mb((0,)) is None


@pytest.mark.parametrize(
    ("available", "limit", "held", "free"),
    [
        (15_000, None, (), 15_000),
        (15_000, None, (10_000,), 6_000),
        (3_000, None, (10_000,), 3_000),
        (15_000, 8_000, (5_000,), 3_000),
        (None, None, (5_000,), 11_000),
    ],
    ids=[
        "nobody there",
        "mapped weights look available",
        "others take memory, too",
        "the operator's limit",
        "not told",
    ],
)
def test_weights_that_are_mapped_from_their_files_are_not_free(monkeypatch, available, limit, held, free):
    """The kernel counts them as available, because it could drop them; an engine at work needs every page of them."""
    hardware = HardwareWatch(None)
    hardware.facts = replace(hardware.facts, memory_total_mb=16_000)
    monkeypatch.setattr(hardware, "memory_free_mb", available)
    ledger = Ledger(hardware, limit_mb=limit)
    for number, mb in enumerate(held):
        ledger.promise(f"m{number}", mb, ()).measured = lambda mb=mb: mb
    assert ledger.free().free_mb == free
