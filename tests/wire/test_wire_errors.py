"""An engine's error in a stream, read back as ours."""

import pytest

from cortex import errors
from cortex.wire.errors import error_of, openai_body


@pytest.mark.parametrize(
    "error",
    [
        errors.context_length_exceeded(9, 5),
        errors.model_not_found("x"),
        errors.over_capacity("busy", retry_after=5),
        errors.unavailable("later", retry_after=5),
        errors.upstream_stalled(3),
        errors.upstream_failed("gone"),
    ],
)
def test_our_own_errors_come_back(error):
    """What `openai_body` writes is read back whole, with the status and the wait that its code stands for."""
    read = error_of(openai_body(error)["error"])
    assert (read.message, read.code, read.status, read.type) == (error.message, error.code, error.status, error.type)
    assert (read.param, read.extras) == (error.param, error.extras)
    assert (read.retry_after is None) == (error.retry_after is None)


def test_numbers_as_codes():
    """llama.cpp's code is a status, and its overflow has a type of its own."""
    assert error_of({"code": 503, "message": "loading"}).status == 503
    overflow = error_of({"code": 400, "message": "too long", "type": "exceed_context_size_error"})
    assert (overflow.status, overflow.code) == (400, "context_length_exceeded")
