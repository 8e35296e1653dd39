"""fit: the refusal with its numbers. Tables, no hardware."""

import pytest

from cortex.neuron.models.fit import Memory, Resident, refusal


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


@pytest.mark.parametrize(
    ("needed_mb", "shares", "free_mb", "short"),
    [
        (9000, (0.5, 0.5), (4000, 8000), (0, 4500, 4000)),  # together there is room, on the small card there is not
        (9000, (1 / 3, 2 / 3), (4000, 8000), None),
        (9000, (1.0, 0.0), (4000, 8000), (0, 9000, 4000)),
        (9000, (0.5, 0.5), (None, 4000), (1, 4500, 4000)),
        (9000, (0.5, 0.5), (None, None), None),
    ],
)
def test_each_gpu_must_have_room_for_its_part(needed_mb, shares, free_mb, short):
    """The refusal names the device that is short, and its own numbers."""
    known = [mb for mb in free_mb if mb is not None]
    memory = Memory(sum(known) if len(known) == 2 else None, free_mb)
    refused = refusal("m", needed_mb, memory, shares, (0, 1))
    told = refused and (refused.extras["required_mb"], refused.extras["free_mb"])
    assert told == (short and short[1:])
    assert refused is None or f"on device {short[0]}" in refused.message
