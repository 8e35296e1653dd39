"""The specification on its way into the engine process."""

import pytest

from cortex.neuron.engine.spec import EngineSpec

WHOLE = EngineSpec(
    harness="llamacpp",
    alias="ünïcode/model",
    model_path="/m.gguf",
    socket_path="/e.sock",
    tensor_split=(1.0, 2.0),
    env={"CUDA_VISIBLE_DEVICES": "0"},
    extras={"x": [1]},
)


def test_a_specification_comes_through_unchanged():
    """JSON and back is the same, on one line."""
    line = WHOLE.to_json()
    assert line.count(b"\n") == 1
    assert EngineSpec.from_json(line) == WHOLE


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b"nonsense", b'{"harness": "x", "unknown": 1}'])
def test_another_text_is_refused(line):
    """A line that no specification wrote raises, and never makes half of one."""
    with pytest.raises((ValueError, TypeError, AttributeError)):
        EngineSpec.from_json(line)
