"""What exit codes and last words mean."""

import pytest

from cortex.neuron.engine.outcome import exit_of, failure_of, last_words


@pytest.mark.parametrize(
    ("returncode", "reason"),
    [
        (0, "ended with exit code 0"),
        (3, "ended with exit code 3"),
        (-11, "killed by signal 11 (SIGSEGV)"),
        (-6, "killed by signal 6 (SIGABRT): x.cpp:1: GGML_ASSERT(n > 0) failed"),
        (-9, "killed by the kernel, probably out of memory (SIGKILL)"),
        (-40, "killed by signal 40 (unknown)"),
    ],
)
def test_the_reason_of_an_end(returncode, reason):
    """An end that nobody asked for says how it came."""
    tail = ("loading", "x.cpp:1: GGML_ASSERT(n > 0) failed", "bye") if returncode == -6 else ()
    assert exit_of(returncode, tail, asked=False).reason == reason


def test_an_end_that_was_asked_for():
    """Our own SIGKILL is not taken for the kernel's."""
    assert exit_of(-9, (), asked=True).reason == "stopped on request"


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        (
            "0.00.008.566 E llama_model_load: error loading model: tensor 'x' data is not within the file bounds, model is corrupted or incomplete",
            "model",
            "tensor 'x' data is not within the file bounds, model is corrupted or incomplete",
        ),
        (
            "0.00.1 E llama_model_load: error loading model: error loading model architecture: unknown model architecture: 'foo'",
            "model",
            "error loading model architecture: unknown model architecture: 'foo'",
        ),
        (
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 1024.00 MiB on device 0: cudaMalloc failed: out of memory",
            "memory",
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 1024.00 MiB on device 0: cudaMalloc failed: out of memory",
        ),
        (
            "0.01.2 E alloc_tensor_range: failed to allocate CPU buffer of size 99",
            "memory",
            "failed to allocate CPU buffer of size 99",
        ),
        (
            "0.00.2 E srv start: couldn't bind HTTP server socket, hostname: /x",
            "start",
            "couldn't bind HTTP server socket, hostname: /x",
        ),
    ],
)
def test_last_words(line, kind, reason):
    """Of everything that is printed before the end, the line that tells why is found."""
    noise = ("0.00.0 I srv init: loading model", "0.00.9 E srv init: exiting due to model loading error")
    assert last_words((noise[0], line, noise[1])) == (kind, reason)


def test_unknown_last_words():
    """What is not known is not guessed."""
    assert last_words(("hello", "bye")) is None


@pytest.mark.parametrize(
    ("returncode", "tail", "message", "kind", "reason"),
    [
        (1, ("couldn't bind x",), {"error": "failed", "kind": "model"}, "start", "couldn't bind x"),
        (1, (), {"error": "failed", "kind": "model"}, "model", "failed"),
        (3, (), {}, "crash", "the engine ended with exit code 3 while it loaded"),
        (-11, (), {}, "crash", "the engine was killed by signal 11 (SIGSEGV) while it loaded"),
        (-6, ("cudaMalloc failed: out of memory",), {}, "memory", "cudaMalloc failed: out of memory"),
        (-9, (), {}, "memory", "the engine was killed by the kernel, probably out of memory (SIGKILL) while it loaded"),
    ],
)
def test_why_it_never_became_ready(returncode, tail, message, kind, reason):
    """The most telling of last words, own message and end; an abort for lack of memory is a matter of memory."""
    failed = failure_of(exit_of(returncode, tail, asked=False), message)
    assert (failed.kind, failed.reason) == (kind, reason)
