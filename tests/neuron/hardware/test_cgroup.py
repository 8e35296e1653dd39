"""What control groups leave of a host: files as both versions of the kernel's interface write them."""

import pytest

from cortex.neuron.hardware import others
from cortex.neuron.hardware.cgroup import Limits, read_limits

GIB = 1 << 30


def write(root, **levels):
    """`levels`: a group's path to its files."""
    for path, files in levels.items():
        folder = root / path.replace("_", "/") if path != "top" else root
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(f"{content}\n")


def test_version_2_the_tightest_of_all_levels_counts(tmp_path):
    """A unit without a limit in a slice that has one; page cache that can go is not used memory."""
    write(
        tmp_path,
        top={"cgroup.controllers": "cpu memory"},
        slice={
            "memory.max": 8 * GIB,
            "memory.current": 5 * GIB,
            "memory.stat": f"anon 1\ninactive_file {GIB}",
            "cpu.max": "250000 100000",
        },
        slice_unit={"memory.max": "max", "memory.current": GIB, "cpu.max": "max 100000"},
    )
    (tmp_path / "self").write_text("0::/slice/unit\n")
    assert read_limits(tmp_path, tmp_path / "self") == Limits(memory_mb=8192, memory_left_mb=4096, cores=2)


def test_version_1_and_its_enormous_number_for_no_limit(tmp_path):
    """Controllers are mounted apart, and a container sees its own group at the top of the mount."""
    write(
        tmp_path,
        memory={
            "memory.limit_in_bytes": 2 * GIB,
            "memory.usage_in_bytes": GIB,
            "memory.stat": f"cache 5\ntotal_inactive_file {GIB // 2}",
        },
        cpu={"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
    )
    (tmp_path / "self").write_text("4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n")
    assert read_limits(tmp_path, tmp_path / "self") == Limits(memory_mb=2048, memory_left_mb=1536, cores=None)
    write(tmp_path, memory={"memory.limit_in_bytes": 9223372036854771712}, cpu={"cpu.cfs_quota_us": 50_000})
    assert read_limits(tmp_path, tmp_path / "self") == Limits(cores=1)


@pytest.mark.parametrize("membership", ["", "nonsense\n", "0::/\n", "0::/../../etc\n"])
def test_a_kernel_that_tells_nothing_limits_nothing(membership, tmp_path):
    """Nor does a path that leads out of the mount."""
    (tmp_path / "self").write_text(membership)
    assert read_limits(tmp_path / "nowhere", tmp_path / "self") == Limits()


def test_gpus_of_other_makers_are_named(tmp_path):
    """One sentence a maker, with what can be done meanwhile; NVIDIA's are told by their driver."""
    for card, vendor in (("card0", "0x10de"), ("card1", "0x1002"), ("card2", "0x1002"), ("card3", "0x8086")):
        (tmp_path / card / "device").mkdir(parents=True)
        (tmp_path / card / "device" / "vendor").write_text(vendor + "\n")
    amd, intel = others.gpus(tmp_path, "Linux", "x86_64")
    assert amd.startswith("a GPU by AMD is here")
    assert "server_binary" in amd
    assert intel.startswith("a GPU by Intel is here")
    assert others.gpus(tmp_path / "none", "Linux", "x86_64") == ()
    assert "Apple" in others.gpus(tmp_path, "Darwin", "arm64")[0]
