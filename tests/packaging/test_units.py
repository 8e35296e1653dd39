"""The systemd units, as systemd itself judges them."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cortex.cli.outcome import Exit

RPM = Path(__file__).parent.parent.parent / "rpm"
EXPOSURE = {"cortex": 2.0, "neuron": 3.5}  # the neuron needs the GPU devices

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def root(tmp_path):
    """A root with our units, and those of systemd that they name."""
    units = tmp_path / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    for service in EXPOSURE:
        shutil.copy(RPM / f"{service}.service", units)
    for target in ("sysinit", "basic", "shutdown", "network-online", "multi-user"):
        (units / f"{target}.target").write_text(f"[Unit]\nDescription={target}\n")
    (tmp_path / "usr/bin").mkdir()
    for program in ("cortex", "kill"):
        shutil.copy("/bin/true", tmp_path / "usr/bin" / program)
    return tmp_path


def settings(service):
    """`Section → key → value`; of a key that is there several times, the last value."""
    parser = configparser.RawConfigParser(strict=False, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # keys keep their case
    parser.read(RPM / f"{service}.service")
    return parser


@needs_systemd
@pytest.mark.parametrize("service", EXPOSURE)
def test_systemd_finds_no_mistake_in_a_unit(root, service):
    """`systemd-analyze verify` says nothing about our files."""
    command = ["systemd-analyze", "verify", f"--root={root}", "--man=no", f"{service}.service"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert [line for line in done.stderr.splitlines() if service in line] == []


@needs_systemd
@pytest.mark.parametrize(("service", "most"), EXPOSURE.items())
def test_a_service_may_do_little(root, service, most):
    """The exposure that `systemd-analyze security` computes stays below what was promised."""
    command = ["systemd-analyze", "security", "--offline=true", f"--root={root}", "--no-pager", f"{service}.service"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "unrecognized option" in done.stderr or "unknown option" in done.stderr.lower():
        pytest.skip("this systemd-analyze judges no unit offline")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= most


@pytest.mark.parametrize("service", EXPOSURE)
def test_a_unit_stops_a_role_as_the_role_expects(service):
    """Readiness is told, SIGTERM reaches the role alone, and it has longer than its drain (30 s) before it is killed."""
    unit = settings(service)["Service"]
    assert (unit["Type"], unit["KillMode"], unit["NotifyAccess"]) == ("notify", "mixed", "main")
    assert int(unit["TimeoutStopSec"]) > 30
    assert int(unit["WatchdogSec"]) >= 30
    assert f"/etc/{service}/{service}.toml" in unit["ExecStart"]


@pytest.mark.parametrize("service", EXPOSURE)
def test_a_mistake_in_the_configuration_is_not_tried_again(service):
    """Codes that say that starting again does not help, of the program and of the one file's start; others are tried again."""
    unit = settings(service)["Service"]
    codes = f"{int(Exit.usage)} {int(Exit.damaged)}"
    assert (unit["Restart"], unit["RestartPreventExitStatus"]) == ("on-failure", codes)


def test_one_engine_that_is_killed_for_memory_does_not_take_the_neuron_with_it():
    """By default systemd stops a whole service when the kernel kills one of its processes."""
    assert settings("neuron")["Service"]["OOMPolicy"] == "continue"
