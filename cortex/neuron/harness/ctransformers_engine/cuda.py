"""The library's build for NVIDIA GPUs, in an engine process.

It calls exit() where the driver cannot be used. The neuron has asked NVML, which says nothing about the part of the
driver that computes (a container may have been given one without the other); so that part is asked here, and answers.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path

from cortex.neuron.engine.outcome import EngineFailed

_DRIVER = "libcuda.so.1"


def on_gpu(library: str, needed: Sequence[str]) -> ctypes.CDLL:
    """The library, which finds by their names what was loaded before it. Raises EngineFailed (backend) with the driver's words."""
    _ask_driver()
    try:
        for file in needed:
            ctypes.CDLL(file)
        return ctypes.CDLL(library)
    except OSError as error:  # damaged, or of another CUDA than its name says
        told = functools.reduce(_without_folder, (library, *needed), str(error))
        raise _failed(f"CUDA error: ctransformers' library for GPUs cannot be loaded: {told}") from None


def _ask_driver() -> None:
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError as error:
        raise _failed(f"CUDA error: the part of the driver that computes cannot be loaded: {error}") from None
    count = ctypes.c_int(0)
    if code := driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        raise _failed(f"CUDA error {code}: {_words(driver, code)}")
    if not count.value:
        raise _failed("CUDA error: the driver shows no GPU to this process")


def _words(driver: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    driver.cuGetErrorString(code, ctypes.byref(text))
    return text.value.decode(errors="replace") if text.value else "the driver cannot be used"


def _failed(reason: str) -> EngineFailed:
    return EngineFailed(reason, kind="backend")


def _without_folder(text: str, file: str) -> str:
    return text.replace(f"{Path(file).parent}/", "")
