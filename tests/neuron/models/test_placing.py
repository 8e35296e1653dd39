"""placing: which GPUs a load gets, and how it is divided among them. Tables, no hardware."""

from __future__ import annotations

import pytest

from cortex.errors import CortexError
from cortex.neuron.models.placing import Room, choose_devices, shares


def rooms(*free_mb, lost=(), parts=(), foreign=()):
    return [
        Room(
            index,
            mb,
            problem="GPU is lost" if index in lost else None,
            foreign="its CUDA is for 89-real, not for RTX 3060 (8.6)" if index in foreign else None,
            is_part=index in parts,
        )
        for index, mb in enumerate(free_mb)
    ]


def chosen(wanted, gpus, **more):
    settings = {"required": False, "tensor_parallel": None, "gpu_layers": None, **more}
    return choose_devices(wanted, gpus=gpus, **settings)


@pytest.mark.parametrize(
    ("wanted", "gpus", "more", "devices"),
    [
        (None, rooms(), {}, ()),
        ((0,), rooms(), {}, ()),  # what every client of the first generation sends, also to CPU hosts
        (None, rooms(4000, 8000), {}, (1,)),
        (None, rooms(4000, 8000, 6000), {"tensor_parallel": 2}, (1, 2)),
        ((1, 0), rooms(4000, 8000), {}, (1, 0)),
        ((1, 0), rooms(4000, 8000), {"tensor_parallel": 2}, (1, 0)),
        ((1, 1), rooms(4000, 8000), {}, (1,)),
        (None, rooms(None, 10), {}, (1,)),
        ((0,), rooms(4000), {"gpu_layers": 0}, ()),  # gpu_layers = 0 is the processor, whatever else was said
        ((0,), rooms(4000), {"processor_only": "its library knows no GPU"}, ()),
        (None, rooms(4000, 8000), {"processor_only": "its library knows no GPU", "tensor_parallel": 2}, ()),
        (None, rooms(4000, 8000, lost=(1,)), {}, (0,)),  # a card that does not answer is nobody's choice
        (None, rooms(100, 90, parts=(0, 1)), {}, (0,)),
        (None, rooms(100, 90, 80, 70, parts=(0, 1)), {"tensor_parallel": 2}, (2, 3)),  # instances cannot be joined
        (None, rooms(4000, 8000, foreign=(1,)), {}, (0,)),  # a card that the build does not know has no room
        (None, rooms(4000, 8000, 6000, 9000, foreign=(1,)), {"tensor_parallel": 3}, (0, 2, 3)),
        ((2, 0), rooms(4000, 8000, 6000, foreign=(1,)), {}, (2, 0)),
        (None, [Room(1, 500), Room(3, 900)], {}, (3,)),  # indices need not begin at 0
        ((3,), [Room(1, 500), Room(3, 900)], {}, (3,)),
    ],
)
def test_devices(wanted, gpus, more, devices):
    """What was asked for where it exists, else the most free; the processor where there is no GPU that could be used."""
    assert chosen(wanted, gpus, **more).devices == devices


@pytest.mark.parametrize(
    ("wanted", "gpus", "more", "note"),
    [
        ((0,), rooms(), {}, "no GPU"),
        (None, rooms(1), {"gpu_layers": 0}, "gpu_layers = 0"),
        ((0,), rooms(1), {"processor_only": "its library knows no GPU"}, "host memory"),
    ],
)
def test_what_is_decided_for_the_asker_is_told(wanted, gpus, more, note):
    """A processor that stands in for a GPU is a note of the job."""
    assert note in chosen(wanted, gpus, **more).notes[0]


@pytest.mark.parametrize(
    ("wanted", "gpus", "more", "told"),
    [
        ((0,), rooms(), {"required": True}, "no GPU"),
        ((2,), rooms(1, 1), {}, "device 2 does not exist on this host; it has [0, 1]"),
        ((-1,), rooms(1), {}, "device -1"),
        ((0,), [Room(1)], {}, "it has [1]"),
        (None, rooms(1, 1), {"tensor_parallel": 3}, "tensor_parallel 3 wants 3 devices, and this host has [0, 1]"),
        ((0,), rooms(1, 1), {"tensor_parallel": 2}, "devices [0] were asked for"),
        ((0, 1), rooms(1, 1, parts=(0, 1)), {}, "MIG"),
        ((0,), rooms(1), {"processor_only": "its library knows no GPU", "required": True}, "leave them out"),
    ],
)
def test_a_wish_that_cannot_be_is_an_error_that_lists_what_is_there(wanted, gpus, more, told):
    """400, with the devices that answer."""
    with pytest.raises(CortexError) as wrong:
        chosen(wanted, gpus, **more)
    assert (wrong.value.status, wrong.value.code) == (400, "no_such_device")
    assert told in wrong.value.message
    assert wrong.value.extras["devices"] == [gpu.index for gpu in gpus]


@pytest.mark.parametrize(
    ("gpus", "usable", "told"),
    [
        (rooms(1, 1, 1, foreign=(1,)), [0, 2], "devices [0, 2] can be used"),
        (rooms(1, 1, 1, foreign=(1,), lost=(0,)), [2], "devices [2] can be used"),
        (rooms(1, 1, foreign=(0, 1)), [], "no other can be used now"),
    ],
)
def test_a_card_that_the_build_does_not_know_is_refused_by_name(gpus, usable, told):
    """422 with what the build has, and the devices that can be used."""
    with pytest.raises(CortexError) as wrong:
        chosen((1,), gpus)
    assert (wrong.value.status, wrong.value.code, wrong.value.param) == (422, "cuda_unsupported", "devices")
    assert wrong.value.message == f"device 1: its CUDA is for 89-real, not for RTX 3060 (8.6); {told}"
    assert wrong.value.extras["devices"] == usable


def test_too_few_cards_that_the_build_knows_are_told_with_the_others():
    """Whoever counts the cards of the host hears why one of them does not count."""
    with pytest.raises(CortexError) as wrong:
        chosen(None, rooms(1, 1, foreign=(1,)), tensor_parallel=2)
    assert (wrong.value.status, wrong.value.param, wrong.value.extras["devices"]) == (400, "tensor_parallel", [0])
    assert "this host has [0] (device 1: its CUDA is for 89-real" in wrong.value.message


@pytest.mark.parametrize(
    ("wanted", "gpus", "more"),
    [
        (None, rooms(1, 9, lost=(0,), foreign=(1,)), {}),  # the one that is left cannot stand in
        ((1,), rooms(1, 1, lost=(1,)), {}),
        (None, rooms(1, lost=(0,)), {}),
        (None, rooms(1, 1, lost=(1,)), {"tensor_parallel": 2}),
    ],
)
def test_a_card_that_does_not_answer_may_come_back(wanted, gpus, more):
    """503 with the reason: another host may serve meanwhile."""
    with pytest.raises(CortexError) as lost:
        chosen(wanted, gpus, **more)
    assert (lost.value.status, lost.value.code) == (503, "device_lost")
    assert "GPU is lost" in lost.value.message
    assert lost.value.retry_after


@pytest.mark.parametrize(
    ("asked", "free_mb", "parts"),
    [
        (None, (8000,), (1.0,)),
        (None, (12_000, 24_000), (1 / 3, 2 / 3)),  # unequal cards are filled alike
        (None, (None, 24_000), (0.5, 0.5)),  # not told: equal parts
        ((3.0, 1.0), (12_000, 24_000), (0.75, 0.25)),  # the operator's word
        ((0.0, 1.0), (1, 1), (0.0, 1.0)),
    ],
)
def test_parts_follow_free_memory(asked, free_mb, parts):
    """Unless somebody says otherwise; together they are 1."""
    assert shares(asked, free_mb) == pytest.approx(parts)


@pytest.mark.parametrize(
    ("asked", "free_mb", "mode", "param"),
    [
        ((1.0,), (1, 1), None, "tensor_split"),
        ((0.0, 0.0), (1, 1), None, "tensor_split"),
        ((-1.0, 2.0), (1, 1), "layer", "tensor_split"),
        (None, (1, 1), "none", "split_mode"),
    ],
)
def test_parts_that_cannot_be_are_refused(asked, free_mb, mode, param):
    """400 that names the setting."""
    with pytest.raises(CortexError) as wrong:
        shares(asked, free_mb, split_mode=mode)
    assert (wrong.value.status, wrong.value.param) == (400, param)
