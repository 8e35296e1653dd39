"""build/test gpu: what it tells of a machine that is lent for one run, whatever happens in it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import gpu, gpu_plan
from benchmarks.errors import CannotRun
from benchmarks.gpu_plan import Plan
from benchmarks.gpu_report import Report
from helpers.backends import CUDA, compile_backend, write_manifest

from cortex.neuron.hardware.nvidia import NvidiaReading
from cortex.wire.fleet import Device, DeviceHealth

ROOT = Path(__file__).resolve().parent.parent


def kept(folder):
    return json.loads((folder / "figures.json").read_text())


@pytest.mark.parametrize("error", [CannotRun("no server"), KeyError("choices"), ValueError("no JSON"), OSError("gone")])
def test_a_part_that_fails_leaves_the_others_and_what_is_known(tmp_path, error):
    """Whatever it was, it is a claim that did not hold; figures of before and after it are kept as they come."""
    report = Report(tmp_path / "gpu")
    assert kept(tmp_path / "gpu")["claims"] == {}

    def fails():
        report.note("first", load_s=[1.0])
        raise error

    report.part("first", fails)
    assert kept(tmp_path / "gpu")["figures"] == {"first": {"load_s": [1.0]}}
    report.part("second", lambda: report("it goes on", held=True))
    told = kept(tmp_path / "gpu")
    assert [name.partition(":")[0] for name in report.failed] == ["first"]
    assert told["claims"]["it goes on"] is True
    assert told["seconds"].keys() == {"first", "second"}


def test_without_time_no_part_is_begun_and_nothing_waits_long(tmp_path):
    """What could not be shown any more is told as such."""
    late = Report(tmp_path, within_s=0)
    begun = []
    late.part("late", lambda: begun.append(1))
    assert (begun, late.failed) == ([], ["late: there was no time for it"])
    assert late.within(900) == 1
    assert Report(tmp_path, within_s=10_000).within(900) == 900
    assert Report(tmp_path).within(900) == 900


def test_the_table_has_what_was_found_and_gaps_for_what_was_not(tmp_path):
    """One line for each way to serve; speeds beside those of the bare server."""
    report = Report(tmp_path)
    report.note("discovery", hostname="beast")
    report.note(gpu.ALONE, tokens_per_s={1: 400.0, 8: 2000.0})
    report.note("built-in engine", tokens_per_s={1: 380.0, 8: 1900.0}, load_s=[2.0, 0.8])
    report.note("built-in engine", memory_mb={"before": 4, "loaded": 804, "after": 5}, told={"vram_estimate_mb": 900})
    report.note("ctransformers", memory_mb={"before": 4, "loaded": 804, "after": 5}, told={"vram_estimate_mb": 700})
    lines = gpu.table(report, NvidiaReading(driver_version="580", cuda_version="13.0")).splitlines()
    assert lines[0].startswith("| the processor, driver 580, CUDA 13.0 | load, s | MiB before, loaded, after |")
    assert lines[2:] == [
        "| llama-server alone |  |  |  | 400 | 1.00 | 2000 | 1.00 |",
        "| built-in engine | 2.0, 0.8 | 4, 804, 5 | 900 | 380 | 0.95 | 1900 | 0.95 |",
        "| ctransformers |  | 4, 804, 5 | 700 |  |  |  |  |",
    ]


def plan(tmp_path, **more):
    facts = {"server": tmp_path / "none", "backends": tmp_path, "libraries": None, "tokens": 8, "offline": True}
    return Plan(Device(index=1, name="RTX 4090", compute_capability="8.9"), tmp_path, **facts | more)


def test_what_is_missing_is_told_with_the_command_that_makes_it(tmp_path):
    """For the one card that is used, and nothing is made where nothing may be."""
    with pytest.raises(CannotRun, match="build/engine makes one"):
        gpu_plan.make_server(plan(tmp_path), Report(tmp_path))
    with pytest.raises(CannotRun, match=r"is missing; build/backends --cpu --cuda 89 makes one"):
        gpu_plan.check_backends(plan(tmp_path))
    compile_backend(tmp_path / "libggml-cuda.so")
    write_manifest(tmp_path, cuda=CUDA | {"architectures": ["90-real"]})
    with pytest.raises(CannotRun, match=r"compiled for 90-real, not for RTX 4090 \(8\.9\); build/backends"):
        gpu_plan.check_backends(plan(tmp_path))
    write_manifest(tmp_path, cuda=CUDA)
    gpu_plan.check_backends(plan(tmp_path))


def test_the_card_with_the_most_room_is_used(tmp_path):
    """Of those that answer; a host on which none does can show nothing."""
    health = [DeviceHealth(index=0, vram_free_mb=99, problem="GPU is lost")]
    health += [DeviceHealth(index=index, vram_free_mb=index) for index in (1, 2)]
    devices = tuple(Device(index=index, name="GPU") for index in range(3))
    args = argparse.Namespace(
        rehearse=False, model=tmp_path, server=None, backends=None, cuda12=None, tokens=None, offline=False
    )
    assert gpu_plan.of(args, NvidiaReading(devices, tuple(health))).settings == {"devices": [2]}
    with pytest.raises(CannotRun, match="no GPU of this host answers"):
        gpu_plan.of(args, NvidiaReading(devices[:1], tuple(health[:1])))


@pytest.mark.model
def test_a_rehearsal_walks_through_its_parts(tmp_path):
    """A short one: what needs no engine. The whole is `build/test gpu --rehearse`."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--output", str(tmp_path / "gpu"), "--json"]
    done = subprocess.run(
        [*command, "--parts", "discovery", "strangers"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={"PYTHONPATH": "build:tests", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert "all of it held" in done.stderr
    told = json.loads(done.stdout)
    assert told == kept(tmp_path / "gpu")
    assert told["claims"]["discovery lists what NVML lists"] is True
    assert any("compiled for other GPUs is refused" in claim for claim in told["claims"])
