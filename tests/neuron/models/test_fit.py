"""fit: which devices a load gets, and the refusal with its numbers. Tables, no hardware."""

import pytest

from cortex.errors import CortexError
from cortex.neuron.models.fit import Memory, Resident, choose_devices, refusal


@pytest.mark.parametrize(
    ("wanted", "tensor_parallel", "free_mb", "gpu_layers", "chosen"),
    [
        (None, None, (), None, ()),
        ((0,), None, (), None, ()),  # what every client of the first generation sends, also to CPU hosts
        (None, None, (4000, 8000), None, (1,)),
        (None, 2, (4000, 8000, 6000), None, (1, 2)),
        ((1, 0), None, (4000, 8000), None, (1, 0)),
        ((1, 1), None, (4000, 8000), None, (1,)),
        (None, None, (None, 10), None, (1,)),
        ((0,), None, (4000,), 0, ()),  # gpu_layers = 0 is the processor, whatever else was said
    ],
)
def test_devices(wanted, tensor_parallel, free_mb, gpu_layers, chosen):
    """What was asked for where it exists, else the most free; the processor on a host without GPUs."""
    choice = choose_devices(
        wanted, required=False, tensor_parallel=tensor_parallel, free_mb=free_mb, gpu_layers=gpu_layers
    )
    assert choice.devices == chosen


def test_a_note_says_that_the_asked_device_is_not_there():
    """The first generation's devices: [0] on a CPU host is told in the job, not refused."""
    choice = choose_devices((0,), required=False, tensor_parallel=None, free_mb=(), gpu_layers=None)
    assert "no GPU" in choice.notes[0]


@pytest.mark.parametrize(
    ("wanted", "required", "free_mb"), [((0,), True, ()), ((2,), False, (1, 1)), ((-1,), False, (1,))]
)
def test_devices_that_are_not_there_are_an_error_that_lists_those_that_are(wanted, required, free_mb):
    """An operator's own GPU demand, and any wrong index on a GPU host, is 400."""
    with pytest.raises(CortexError) as wrong:
        choose_devices(wanted, required=required, tensor_parallel=None, free_mb=free_mb, gpu_layers=None)
    assert (wrong.value.status, wrong.value.code) == (400, "no_such_device")
    assert wrong.value.extras["devices"] == list(range(len(free_mb)))


def test_a_load_that_does_not_fit_is_refused_with_the_numbers():
    """Needed, free, who is resident and who is busy: enough for a gateway to plan again."""
    memory = Memory(free_mb=100, residents=(Resident("a", 50, busy=True),))
    refused = refusal("m", 200, memory)
    assert refused is not None
    assert (refused.status, refused.code, refused.retry_after) == (503, "insufficient_vram", 5)
    assert refused.extras == {
        "free_mb": 100,
        "required_mb": 200,
        "resident": [{"id": "a", "memory_mb": 50, "busy": True}],
    }


@pytest.mark.parametrize("free_mb", [None, 200, 5000])
def test_unknown_or_enough_memory_refuses_nothing(free_mb):
    """None is "the host does not tell", and that is not zero."""
    assert refusal("m", 200, Memory(free_mb)) is None
