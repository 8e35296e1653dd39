"""Engines that keep dying: counted by cause, and started again later and later."""

import pytest

from cortex.neuron.engine.outcome import cause_of, exit_of
from cortex.neuron.models.deaths import LONGEST_PAUSE_S, WINDOW_S, Deaths, pause_after

CUDA_LOG = (
    "slot update: decoding",
    "CUDA error: an illegal memory access was encountered",
    "  current device: 0, in function ggml_backend_cuda_synchronize at ggml-cuda.cu:2966",
    "ggml-cuda.cu:98: CUDA error",
)


@pytest.mark.parametrize(("deaths", "pause"), [(0, 0), (1, 0), (4, 0), (5, 5), (6, 10), (8, 40), (11, 300), (90, 300)])
def test_pauses_double_after_those_that_are_forgiven(deaths, pause):
    """A few at once, then ever longer, and never for ever."""
    assert pause_after(deaths) == pause
    assert pause <= LONGEST_PAUSE_S


def test_deaths_are_forgotten_after_a_while():
    """A pause counts from the last death, of one model; what is long ago is not counted, and the totals stay."""
    now = 1000.0
    deaths = Deaths(lambda: now)
    for _ in range(6):
        deaths.add("a", "gpu")
    deaths.add("b", "crash")
    assert (deaths.pause_s("a"), deaths.pause_s("b"), deaths.pauses()) == (10.0, 0.0, {"a": 10.0})
    now += 4
    assert deaths.pause_s("a") == 6.0
    now += WINDOW_S
    assert deaths.pauses() == {}
    assert deaths.counts == {("a", "gpu"): 6, ("b", "crash"): 1}


@pytest.mark.parametrize(
    ("returncode", "log", "reason", "cause"),
    [
        (-6, CUDA_LOG, "killed by signal 6 (SIGABRT): CUDA error: an illegal memory access was encountered", "gpu"),
        (
            1,
            ("CUDA error 35 at ggml-cuda.cu:5007",),
            "ended with exit code 1: CUDA error 35 at ggml-cuda.cu:5007",
            "gpu",
        ),
        (
            -6,
            ("ggml.c:1: GGML_ASSERT(x) failed",),
            "killed by signal 6 (SIGABRT): ggml.c:1: GGML_ASSERT(x) failed",
            "crash",
        ),
        (-9, (), "killed by the kernel, probably out of memory (SIGKILL)", "memory"),
        (-11, (), "killed by signal 11 (SIGSEGV)", "crash"),
    ],
)
def test_an_end_says_what_the_gpu_said(returncode, log, reason, cause):
    """The first words of the GPU's library, which say what it was; those that follow say where."""
    ended = exit_of(returncode, log, asked=False)
    assert ended.reason == reason
    assert cause_of(ended.reason) == cause
