"""What engines took is remembered across restarts, and a broken memory keeps nobody from serving."""

import asyncio

import pytest
from helpers.live import SCRIPTED, SCRIPTED_MODEL, running_neuron

from cortex.neuron.models import measured
from cortex.neuron.models.measured import MeasuredMemory
from cortex.tasks import running


def test_figures_survive_a_restart_and_the_latest_wins(tmp_path):
    """What one process puts, the next one gets."""
    first = MeasuredMemory(tmp_path / "state")
    first.put("a", 10)
    first.put("b", 20)
    first.put("a", 30)
    second = MeasuredMemory(tmp_path / "state")
    assert (second.get("a"), second.get("b"), second.get("c")) == (30, 20, None)


def test_the_oldest_figures_are_forgotten(tmp_path, monkeypatch):
    """The file is bounded; what was measured lately stays."""
    monkeypatch.setattr(measured, "KEPT", 2)
    memory = MeasuredMemory(tmp_path)
    for key in ("a", "b", "a", "c"):
        memory.put(key, 1)
    assert [memory.get(key) for key in ("a", "b", "c")] == [1, None, 1]


def test_the_latest_figure_of_a_file_is_known_whatever_its_settings():
    """A plan made elsewhere knows the file, not yet the settings; a longer name with the same beginning is another file."""
    memory = MeasuredMemory(None)
    for key, mb in (("a.gguf 10 4096", 1), ("a.gguf 10 8192", 2), ("a.gguf 100 8192", 3)):
        memory.put(key, mb)
    assert [memory.latest(file) for file in ("a.gguf 10", "a.gguf 100", "a.gguf 1")] == [2, 3, None]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a": "x"}', b"\xff"])
def test_a_file_that_cannot_be_read_is_begun_anew(tmp_path, content):
    """A cut or foreign file is an empty memory."""
    (tmp_path / "measured-memory.json").write_bytes(content)
    memory = MeasuredMemory(tmp_path)
    assert memory.get("a") is None
    memory.put("a", 5)
    assert MeasuredMemory(tmp_path).get("a") == 5


def test_nothing_is_written_where_there_is_no_folder():
    """A service user without a home remembers as long as it lives."""
    memory = MeasuredMemory(None)
    memory.put("a", 5)
    assert memory.get("a") == 5


@pytest.mark.model
def test_the_next_load_counts_on_what_the_last_one_took(models_dir, tmp_path):
    """After one life of a model its estimate is the measured figure, also after a restart of the neuron."""

    async def scenario():
        figures = []
        for _ in range(2):
            async with running_neuron(models_dir, state_dir=str(tmp_path)) as neuron:
                await neuron.load(SCRIPTED_MODEL)
                (entry,) = await neuron.get("/models")
                figures.append((entry["vram_estimate_mb"], entry["vram_used_mb"]))
                await neuron.http.post("/models/unload", json={"model_id": SCRIPTED})
                on_disk = {entry["id"]: entry for entry in await neuron.get("/models?all=true")}
                measured_mb = on_disk[SCRIPTED]["vram_measured_mb"]
                assert abs(measured_mb - figures[-1][1]) <= 2
                assert on_disk[SCRIPTED]["kv_bytes_per_token"] > 0
        (_, first_used), (second_estimate, _) = figures
        assert abs(second_estimate - first_used) <= 2  # the engine may grow by a page between reading and end

    asyncio.run(scenario())


def test_engines_that_end_together_are_all_remembered_and_readers_are_not_disturbed(tmp_path):
    """Each figure is put by a thread of its own, while the event loop lists what is known."""
    memory, count = MeasuredMemory(tmp_path), 40

    async def scenario():
        puts = [asyncio.to_thread(memory.put, f"{number}.gguf 10 4096", number) for number in range(count)]

        async def read():
            while True:
                for _ in range(50):
                    memory.latest("none.gguf 10")
                await asyncio.sleep(0)

        async with running(read(), name="read") as reading:
            await asyncio.gather(*puts)
            assert not reading.done()

    asyncio.run(scenario())
    again = MeasuredMemory(tmp_path)
    assert [again.get(f"{number}.gguf 10 4096") for number in range(count)] == list(range(count))
