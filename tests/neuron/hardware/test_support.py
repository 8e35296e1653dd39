"""Whether this build's engines can run on this host."""

import asyncio

import pytest
from helpers.fake_nvml import RTX_4090, driver, uuid
from helpers.live import SCRIPTED_MODEL, running_neuron

from cortex.neuron.hardware import host
from cortex.neuron.hardware.support import (
    backend_reason,
    covers,
    cpu_reason,
    cuda_reason,
    engine_flavour,
    of_backend,
    of_flavour,
)
from cortex.neuron.harness import ctransformers_cuda
from cortex.wire.fleet import Device

CPUINFO = "processor\t: 0\nmodel name\t: Old\nflags\t\t: fpu sse4_2 {}\n\nprocessor\t: 1\nflags\t\t: fpu\n"
NEEDED = "fma f16c bmi2 avx2"


def device(name, capability, index=0):
    return Device(index=index, name=name, compute_capability=capability)


MIXED = [device("GTX 750", "5.0", 0), device("RTX 3060", "8.6", 1), device("RTX 4090", "8.9", 2), device("?", None, 3)]


@pytest.mark.parametrize(
    ("cpuinfo", "missing"),
    [
        (CPUINFO.format(NEEDED), None),
        (CPUINFO.format("fma f16c bmi2"), "no AVX2,"),
        (CPUINFO.format("avx"), "no AVX2, FMA, F16C, BMI2,"),
        ("processor\t: 0\nFeatures\t: fp asimd\n", None),  # not x86
        ("", None),
    ],
)
def test_a_processor_without_what_engines_need_is_named(cpuinfo, missing):
    """What is missing is listed; where the host does not tell, nothing is claimed."""
    assert (cpu_reason(cpuinfo) or "") == "" if missing is None else missing in (cpu_reason(cpuinfo) or "")


@pytest.mark.parametrize(
    ("flavour", "devices", "told"),
    [
        ("cpu", [], None),
        ("cpu", [device("RTX 4090", "8.9")], "no CUDA (flavour cpu)"),
        ("cuda", [device("H100", "9.0")], None),
        ("ampere", [device("RTX 3060", "8.6"), device("RTX 4090", "8.9")], None),  # runs on later minor versions
        ("ada", [device("RTX 3060", "8.6")], "flavour ada), not for RTX 3060 (8.6)"),
        ("ada", [device("RTX 3060", "8.6"), device("RTX 4090", "8.9")], None),  # one of them will do
        ("ada", MIXED[:2], "not for GTX 750 (5.0), RTX 3060 (8.6)"),
        ("hopper", [device("RTX 5090", "12.0")], "not for RTX 5090 (12.0)"),
        ("blackwell", [device("GB10", "12.1")], "not for GB10 (12.1)"),
        ("blackwell", [device("RTX 5090", "12.0")], None),
        ("ada", [device("?", None)], None),
    ],
)
def test_gpus_that_a_flavour_does_not_know_are_named(flavour, devices, told):
    """A build for one family says which GPU it is not for; the one without CUDA says that."""
    reason = cuda_reason(devices, flavour)
    assert reason is None if told is None else told in (reason or "")


@pytest.mark.parametrize(
    ("architecture", "runs_on", "not_on"),
    [
        ("90-real", {"9.0"}, {"8.9", "10.0"}),
        ("86-real", {"8.6", "8.9"}, {"8.0", "9.0"}),  # later minor versions of its major one
        ("120-real", {"12.0", "12.1"}, {"8.9"}),
        ("120a-real", {"12.0"}, {"12.1"}),  # for that very one
        ("120f", {"12.0"}, {"12.1"}),
        ("90a-virtual", {"9.0"}, {"10.0"}),
        ("80-virtual", {"8.0", "8.6", "9.0", "12.1"}, {"7.5"}),  # the driver compiles it
        ("86", {"8.6", "8.9", "9.0"}, {"8.0"}),  # both
        ("native", set(), {"9.0"}),
    ],
)
def test_code_for_an_architecture_runs_where_cuda_says(architecture, runs_on, not_on):
    """Machine code within its major version, PTX on everything later, what has a letter nowhere else."""
    assert {capability for capability in runs_on | not_on if covers(architecture, capability)} == runs_on


@pytest.mark.parametrize(
    ("devices", "driver", "told"),
    [
        ([], "12.4", None),
        ([device("H100", "9.0"), device("RTX 4090", "8.9")], "13.0", None),
        ([device("H100", "9.0")], "14.1", None),
        ([device("H100", "9.0")], None, None),  # the driver does not tell
        ([device("?", None)], "13.0", None),
        ([device("RTX 3060", "8.6"), device("H100", "9.0")], "13.0", None),  # one of them will do
        ([device("RTX 3060", "8.6")], "13.0", "compiled for 89-real, 90-real, not for RTX 3060 (8.6)"),
        ([device("H100", "9.0")], "12.8", "of CUDA 13.0, and the driver knows up to 12.8: a newer driver is needed"),
    ],
)
def test_gpus_that_a_backend_was_not_compiled_for_are_named(devices, driver, told):
    """What it is compiled for is told with them; a driver that is too old for its CUDA comes first."""
    reason = backend_reason(devices, ("89-real", "90-real"), "13.0", driver)
    assert reason is None if told is None else told in (reason or "")


@pytest.mark.parametrize(
    ("build", "foreign"),
    [
        (of_backend(["86-real"]), {0: "compiled for 86-real, not for GTX 750 (5.0)"}),
        (
            of_backend(["89-real"]),
            {
                0: "this build's CUDA backend is compiled for 89-real, not for GTX 750 (5.0)",
                1: "this build's CUDA backend is compiled for 89-real, not for RTX 3060 (8.6)",
            },
        ),
        (of_flavour("ada"), {0: "flavour ada), not for GTX 750 (5.0)", 1: "flavour ada), not for RTX 3060 (8.6)"}),
        (of_flavour("cuda"), {}),  # nobody noted what it was compiled for
        (
            ctransformers_cuda.BUILD,
            {0: "5.2 or newer, not for GTX 750 (5.0)", 3: "5.2 or newer, not for ? (unknown)"},
        ),
    ],
)
def test_each_gpu_that_a_build_has_no_code_for_has_a_reason_of_its_own(build, foreign):
    """The card, its compute capability, and what the build has. The others are used."""
    told = build.foreign(MIXED)
    assert told.keys() == foreign.keys()
    assert all(words in told[index] for index, words in foreign.items())


def test_from_source_the_library_tells_its_flavour():
    """The wheel of the package index has no CUDA."""
    assert engine_flavour() == "cpu"


@pytest.mark.model
def test_a_gpu_that_this_build_cannot_use_is_told_and_not_replaced_by_the_processor(models_dir, machine, caplog):
    """The log says why at the start, and so does discovery; a load is refused with the reason, and runs on the processor only when that is asked for."""
    machine.set(**driver(1))
    machine.card(0, **RTX_4090, uuid=uuid(1))

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            discovery = await neuron.get("/discovery")
            assert "no CUDA" in discovery["cuda_unavailable_reason"]
            assert f"models are refused here: {discovery['cuda_unavailable_reason']}" in caplog.messages
            assert discovery["devices"][0]["name"] == "NVIDIA GeForce RTX 4090"
            refused = await neuron.load(SCRIPTED_MODEL)
            assert refused.status_code == 422
            assert refused.json()["error"]["code"] == "cuda_unsupported"
            assert "gpu_layers = 0" in refused.json()["error"]["message"]
            loaded = await neuron.load(SCRIPTED_MODEL | {"gpu_layers": 0})
            assert loaded.json()["status"] == "loaded"

    asyncio.run(scenario())


@pytest.mark.model
def test_a_processor_without_avx2_gets_a_sentence(models_dir, monkeypatch, tmp_path):
    """The neuron runs, and every load says what the processor lacks: no engine dies of SIGILL."""
    (tmp_path / "cpuinfo").write_text(CPUINFO.format("avx"))
    (tmp_path / "meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable: 8000000 kB\n")
    monkeypatch.setattr(host, "_PROC", tmp_path)

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            refused = await neuron.load(SCRIPTED_MODEL)
            assert refused.status_code == 422
            assert refused.json()["error"]["code"] == "cpu_unsupported"
            assert "AVX2" in refused.json()["error"]["message"]

    asyncio.run(scenario())
