"""Machines with GPUs, as NVML would tell them: `fake_nvml.c` compiled, and the file that it reads.

The figures are those that such cards show in `nvidia-smi`; nobody's serial numbers.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[1] / "neuron" / "hardware" / "fake_nvml.c"
LIBRARY = "libnvidia-ml.so.1"

NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED, GPU_IS_LOST, MISMATCH, UNKNOWN = 3, 4, 9, 15, 18, 999


def compile_library(folder: Path) -> Path:
    """The stand-in in `folder`, under the name that pynvml opens."""
    library = folder / LIBRARY
    command = ["cc", "-O1", "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return library


class Machine:
    """The file that the stand-in reads. Every change is seen by its next call."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.facts: dict[str, Any] = {}

    def set(self, **facts: Any) -> None:
        """Keys as in the file, with `_` for the dot after an index: `0_name`; None takes one away, `fails(code)` makes it fail."""
        for key, value in facts.items():
            name = key.replace("_", ".", 1) if key[0].isdigit() else key
            self.facts[name] = value
            if value is None:
                del self.facts[name]
        new = self.file.with_suffix(".new")
        new.write_text("".join(f"{key}={value}\n" for key, value in self.facts.items()))
        new.replace(self.file)

    def card(self, index: int, **facts: Any) -> None:
        self.set(**{f"{index}_{key}": value for key, value in facts.items()})

    def take_card(self, index: int) -> dict[str, Any]:
        """Remove a card; returns its facts."""
        prefix = f"{index}."
        facts = {key.removeprefix(prefix): value for key, value in self.facts.items() if key.startswith(prefix)}
        self.card(index, **dict.fromkeys(facts))
        return facts

    @property
    def is_hung(self) -> bool:
        """A call of the stand-in blocks at this very moment."""
        return self.file.with_name(self.file.name + ".hung").exists()


def fails(code: int) -> str:
    return f"!{code}"


def driver(count: int, version: str = "580.95.05", cuda: int = 13000) -> dict[str, Any]:
    return {"init": 0, "driver": version, "cuda": cuda, "count": count, "driver_load": 1}


def uuid(number: int, kind: str = "GPU") -> str:
    return f"{kind}-{number:08x}-1111-2222-3333-444455556666"


RTX_3060 = {
    "name": "NVIDIA GeForce RTX 3060",
    "memory": "12288 310",
    "capability": "8 6",
    "utilization": "3 1",
    "temperature": 41,
    "power": 14_230,
    "power_limit": 170_000,
    "sm_clock": 210,
    "memory_clock": 405,
    "throttle": 1,
    "persistence": 0,
    "processes": "",
}  # ECC is not supported
RTX_4090 = {
    "name": "NVIDIA GeForce RTX 4090",
    "memory": "24564 512",
    "capability": "8 9",
    "utilization": "97 61",
    "temperature": 71,
    "power": 431_800,
    "power_limit": 450_000,
    "sm_clock": 2520,
    "memory_clock": 10_501,
    "throttle": 4,
    "persistence": 1,
    "processes": "",
}
H100 = {
    "name": "NVIDIA H100 80GB HBM3",
    "memory": "81559 4",
    "capability": "9 0",
    "utilization": "0 0",
    "temperature": 29,
    "power": 69_480,
    "power_limit": 700_000,
    "sm_clock": 345,
    "memory_clock": 2619,
    "throttle": 1,
    "persistence": 1,
    "ecc": 1,
    "ecc_errors": 0,
    "processes": "",
}
LAPTOP = {
    "name": "NVIDIA GeForce RTX 3050 Laptop GPU",
    "memory": "4096 6",
    "capability": "8 6",
    "utilization": "0 0",
    "temperature": 44,
    "sm_clock": 210,
    "memory_clock": 405,
    "throttle": 0,
    "processes": "",
}  # tells no power, no limit, no ECC, no persistence
