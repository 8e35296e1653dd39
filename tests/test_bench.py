"""build/bench: its parts work against the real gateway; what it concludes is right. nginx is not needed here."""

import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from benchmarks import binary, cycles, load, processes, proxies, relay
from benchmarks.cycles import Held
from benchmarks.errors import CannotRun
from benchmarks.ports import free_port
from benchmarks.relay import Figure

ROOT = Path(__file__).resolve().parent.parent


def test_both_loads_are_answered_through_the_gateway(tmp_path):
    """The gateway takes the mock for a neuron, and each kind of load counts what came through."""
    core = relay.Cores.of_this_machine()
    with (
        proxies.mock_neuron(tmp_path, core.upstream) as upstream,
        proxies.gateway(upstream, tmp_path, core.proxy) as gateway,
    ):
        assert load.own_client(gateway.port, "answers", 4, 1, core.load) > 0
        assert load.own_client(gateway.port, "events", 4, 1, core.load) > 0
        assert processes.cpu_seconds(gateway.pid) > 0


def test_a_load_that_is_refused_is_no_figure(tmp_path):
    """A proxy that answers an error would look fast: the benchmark says what came instead."""
    core = relay.Cores.of_this_machine()
    nothing = free_port()
    with (
        proxies.gateway(nothing, tmp_path, core.proxy) as gateway,
        pytest.raises(CannotRun, match="503 Service Unavailable"),
    ):
        load.own_client(gateway.port, "answers", 1, 1, core.load)


def test_a_process_that_does_not_start_is_told_with_its_last_words(tmp_path):
    """Instead of waiting for its port."""
    command = ["sh", "-c", "echo no such thing >&2; exit 3"]
    with (
        pytest.raises(CannotRun, match="no such thing"),
        processes.running(command, port=free_port(), log=tmp_path / "log"),
    ):
        raise AssertionError("never reached")


def test_the_ratio_is_the_median_of_the_rounds_ratios():
    """One disturbed round changes nothing."""
    rounds = [(100.0, 50.0, 25.0), (100.0, 40.0, 20.0), (10.0, 10.0, 20.0)]
    measured = [
        {
            rate: {
                "nginx": Figure(nginx, 10.0),
                "nginx_plain": Figure(plain, 20.0),
                "cortex": Figure(cortex, 40.0),
            }
            for rate in relay.RATES
        }
        for nginx, plain, cortex in rounds
    ]
    result = relay.summary(measured)
    assert result["rps"] == {
        "nginx": 100.0,
        "nginx_plain": 40.0,
        "cortex": 20.0,
        "ratio": 0.25,
        "ratio_plain": 0.5,
        "cpu_us_per_request": {"nginx": 10.0, "nginx_plain": 20.0, "cortex": 40.0},
    }
    assert result["sse_events_per_s"]["cpu_us_per_event"] == result["rps"]["cpu_us_per_request"]
    assert "0.25         0.50" in relay.table(result)


@pytest.mark.parametrize(
    ("end", "grew"),
    [
        (Held(1099, 10, 0), []),
        (Held(1101, 10, 0), ["resident memory from 1000 to 1101 KiB"]),
        (Held(1000, 11, 1), ["open files from 10 to 11", "children from 0 to 1"]),
        (Held(900, 9, 0), []),
    ],
)
def test_growth_is_more_than_a_tenth_of_memory_or_any_file_or_child(end, grew):
    """What shrank is no fault."""
    assert cycles.growth(Held(1000, 10, 0), end) == grew


def test_the_command_teaches():
    """--help names the commands; a wrong number is refused with the reason."""
    told = subprocess.run([ROOT / "build/bench", "--help"], capture_output=True, text=True, check=True).stdout
    assert "relay" in told
    assert "cycles" in told
    wrong = subprocess.run(
        [ROOT / "build/bench", "relay", "--rounds", "0"], capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert "0 is below 1" in wrong.stderr


def test_the_size_of_source_is_that_of_all_that_it_needs():
    """The engine's library is most of it, and comes by way of the package's requirements; what tests need is left out."""
    engine = Path(str(metadata.distribution("xllamacpp").locate_file("xllamacpp")))
    assert sum(library.stat().st_size for library in engine.glob("*.so")) < binary.source_size()
    assert "pytest" not in binary.needs("cortex")
