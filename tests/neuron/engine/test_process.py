"""An engine process as the neuron sees it, with real engines."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop
from helpers.engines import DEADLINE_S, ask, engine_spec, open_files, running_engine, says
from helpers.processes import children
from helpers.waiting import until

from cortex.net.pool import Pool
from cortex.neuron.engine import patience, process
from cortex.neuron.engine.process import EngineFailed, EngineProcess
from cortex.neuron.engine.spec import EngineSpec

pytestmark = pytest.mark.model
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Both event loops that a neuron may run on."""
    return asyncio.run if request.param == "asyncio" else uvloop.run


@pytest.fixture
def spec(scripted_model, tmp_path) -> EngineSpec:
    return engine_spec(scripted_model, tmp_path)


async def failure_of(spec: EngineSpec, deadline_s: float = DEADLINE_S) -> EngineFailed:
    with pytest.raises(EngineFailed) as failed:
        async with running_engine(spec, deadline_s=deadline_s):
            pass
    assert not children()
    return failed.value


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_an_engine_answers_and_stops(run, spec):
    """A started engine answers under its alias, is reachable by the neuron's user alone, and is wholly gone after stop."""

    async def scenario():
        async with running_engine(spec) as engine:
            assert stat.S_IMODE(Path(spec.socket_path).stat().st_mode) == 0o600
            status, answer = await ask(engine, "/v1/chat/completions", says("hi"))
            assert (status, answer["model"]) == (200, "org/model")
            assert answer["choices"][0]["message"]["content"] == "Hello from the scripted model."
            memory_mb = engine.memory_mb()
            assert memory_mb is not None
            assert 20 < memory_mb < 400
            assert "llama.cpp" in engine.info["engine"]
            ended = await engine.stop()
        assert (ended.reason, ended.asked) == ("stopped on request", True)
        assert await engine.stop() == await engine.wait() == ended
        assert engine.memory_mb() is None
        assert not is_alive(engine.pid)
        assert not Path(spec.socket_path).exists()

    run(scenario())


def test_a_crash_is_told_with_its_signal(run, spec):
    """A native crash ends the engine alone, and its end says by which signal."""

    async def scenario():
        async with running_engine(spec) as engine:
            os.kill(engine.pid, signal.SIGSEGV)
            ended = await engine.wait()
        assert (ended.code, ended.signal, ended.asked) == (None, signal.SIGSEGV, False)
        assert ended.reason == "killed by signal 11 (SIGSEGV)"
        assert ended.log_tail
        assert not Path(spec.socket_path).exists()

    run(scenario())


def test_many_may_wait_and_leave(spec):
    """A waiter that is cancelled takes nothing from the others."""

    async def scenario():
        async with running_engine(spec) as engine:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(engine.wait(), 0.01)
            await engine.stop()
            assert (await engine.wait()).asked

    asyncio.run(scenario())


def test_a_dead_engine_s_socket_is_replaced(spec):
    """A socket file that was left behind does not keep the next engine from its place."""

    async def scenario():
        Path(spec.socket_path).touch()
        async with running_engine(spec) as engine:
            assert (await ask(engine, "/v1/chat/completions", says("hi")))[0] == 200

    asyncio.run(scenario())


def damaged(model: Path, folder: Path, how: str) -> Path:
    whole = model.read_bytes()
    content = {
        "cut off": whole[: len(whole) // 2],
        "no GGUF": b"\x7fELF" + whole[4:],
        "random inside": whole[:24] + bytes(range(256)) * 400,
        "empty": b"",
    }[how]
    file = folder / "damaged.gguf"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("cut off", "corrupted or incomplete"),
        ("no GGUF", "magic"),
        ("random inside", "exceeds maximum"),
        ("empty", "failed to read magic"),
    ],
)
def test_a_damaged_file_is_named_as_such(how, word, scripted_model, tmp_path):
    """A file that is no whole model fails as a model, with a sentence about what is wrong with it."""
    spec = engine_spec(damaged(scripted_model, tmp_path, how), tmp_path)
    failed = asyncio.run(failure_of(spec))
    assert failed.kind == "model"
    assert word in failed.reason, failed.log_tail
    assert not Path(spec.socket_path).exists()


def test_a_missing_file_is_named_as_such(tmp_path):
    """A file that went away between scan and load is said to be missing."""
    failed = asyncio.run(failure_of(engine_spec(tmp_path / "gone.gguf", tmp_path)))
    assert failed.kind == "model"
    assert "No such file" in failed.reason
    assert str(tmp_path) not in str(failed)


def test_a_missing_draft_model_is_named_as_such(scripted_model, tmp_path):
    """What goes with a model is named by its file, without the folders of this host."""
    failed = asyncio.run(failure_of(engine_spec(scripted_model, tmp_path, draft=str(tmp_path / "gone.gguf"))))
    assert (failed.kind, "'gone.gguf'" in failed.reason) == ("model", True)


def test_a_template_that_cannot_be_read_is_named_as_such(scripted_model, tmp_path):
    """A chat template with a mistake in it fails the load and not the first request."""
    failed = asyncio.run(failure_of(engine_spec(scripted_model, tmp_path, chat_template="{% for")))
    assert (failed.kind, "Unexpected EOF" in failed.reason) == ("model", True)


def test_an_unknown_harness_is_named(scripted_model, tmp_path):
    """A specification from another version fails with the word that is not known."""
    failed = asyncio.run(failure_of(engine_spec(scripted_model, tmp_path, harness="candle")))
    assert "no harness 'candle'" in failed.reason


def test_a_socket_path_that_is_too_long_is_refused(scripted_model, tmp_path):
    """The operating system's limit is told as advice, before any process is started."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    failed = asyncio.run(failure_of(engine_spec(scripted_model, folder)))
    assert (failed.kind, "runtime_dir" in failed.reason) == ("start", True)


def test_a_folder_without_room_for_a_socket(scripted_model, tmp_path):
    """A runtime directory that is gone is a failure to start, not of the model."""
    failed = asyncio.run(failure_of(engine_spec(scripted_model, tmp_path / "gone")))
    assert failed.kind == "start"


def test_a_load_that_takes_too_long_is_ended(run, spec, monkeypatch):
    """At the deadline, when nothing comes into memory any more, the engine is killed and reaped."""
    monkeypatch.setattr(patience, "STANDSTILL_S", 0.1)
    monkeypatch.setattr(process, "engine_command", lambda: [sys.executable, "-c", "import time; time.sleep(600)"])
    failed = run(failure_of(spec, deadline_s=0.2))
    assert (failed.kind, failed.reason) == ("timeout", "it was not ready within 0.2 s")


@pytest.mark.parametrize("delay_s", [0, 0.005, 0.05, 0.15])
def test_a_cancelled_start_leaves_nothing(delay_s, run, demo_model, tmp_path):
    """Whoever stops waiting for a load, at whatever moment, leaves no process and no socket."""
    spec = engine_spec(demo_model, tmp_path)

    async def scenario():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(EngineProcess.start(spec, deadline_s=DEADLINE_S), delay_s)
        await until(lambda: not children())
        assert not Path(spec.socket_path).exists()

    run(scenario())


def test_stop_ends_a_generation(spec):
    """An engine in the middle of an answer is stopped at once; its client sees the connection end."""

    async def scenario():
        body = b'{"messages":[{"role":"user","content":"[[loop]]"}],"stream":true,"max_tokens":100000}'
        headers = [("content-type", "application/json")]
        async with running_engine(spec) as engine, Pool(keepalive=False) as pool:
            exchange = await pool.open(engine.address, "POST", "/v1/chat/completions", headers=headers, body=body)
            assert b"tick" in await exchange.read() + await exchange.read()
            ended = await engine.stop(grace_s=DEADLINE_S)
            exchange.close()
        assert ended.signal == signal.SIGTERM

    asyncio.run(scenario())


STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('{', flush=True); time.sleep(600)"


def test_an_engine_that_ignores_the_request_is_killed(run, spec, monkeypatch):
    """A process that says nonsense and does not listen to SIGTERM is gone all the same."""
    monkeypatch.setattr(process, "engine_command", lambda: [sys.executable, "-c", STUBBORN])
    failed = run(failure_of(spec))
    assert (failed.kind, "nonsense" in failed.reason) == ("start", True)


def test_a_stop_whose_caller_leaves_is_carried_out(run, spec):
    """Stopping is not undone by the cancellation of whoever asked for it."""

    async def scenario():
        engine = await EngineProcess.start(spec, deadline_s=DEADLINE_S)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await engine.stop()
        assert (await engine.wait()).asked

    run(scenario())


NEURON = """
import asyncio, sys
from helpers.engines import engine_spec
from cortex.neuron.engine.process import EngineProcess
from pathlib import Path

async def main():
    engine = await EngineProcess.start(engine_spec(Path(sys.argv[1]), Path(sys.argv[2])), deadline_s=60)
    print(engine.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_engine_outlives_its_neuron(how, scripted_model, tmp_path):
    """A neuron that is killed, without a chance to clean up, takes its engines with it."""
    command = [sys.executable, "-c", NEURON, str(scripted_model), str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True) as neuron:
        assert neuron.stdout
        pid = int(neuron.stdout.readline())
        neuron.send_signal(how)
    asyncio.run(until(lambda: not is_alive(pid)))


def test_cycles_leak_nothing(run, spec):
    """Twenty starts and stops later there are as many open files, children and tasks as after the first."""

    async def scenario():
        counts = []
        for _ in range(20):
            async with running_engine(spec):
                pass
            counts.append((open_files(), len(children()), len(asyncio.all_tasks())))
        assert set(counts[1:]) == {counts[1]}, counts
        assert counts[-1][1:] == (0, 1)

    run(scenario())


def test_secrets_are_not_handed_to_engines(spec, monkeypatch):
    """An engine's environment has what its libraries need, and no key."""
    monkeypatch.setenv("HF_TOKEN", "hf_hush")
    monkeypatch.setenv("CORTEX_GATEWAY__API_KEY", "sk-hush")
    monkeypatch.setenv("GGML_SOMETHING", "1")

    async def scenario():
        async with running_engine(spec) as engine:
            return Path(f"/proc/{engine.pid}/environ").read_bytes()

    environment = asyncio.run(scenario())
    assert b"GGML_SOMETHING=1" in environment
    assert b"hush" not in environment


def test_every_line_of_the_log_is_passed_on(spec):
    """The engine's own log reaches the neuron line by line, and no prompt is in it."""
    lines: list[str] = []

    async def scenario():
        async with running_engine(spec, on_log=lines.append) as engine:
            await ask(engine, "/v1/chat/completions", says("a secret prompt"))
            # The library writes in a thread of its own, and an engine that ends takes with it what is not written yet.
            await until(lambda: any("print_timing" in line for line in lines))

    asyncio.run(scenario())
    assert any("model loaded" in line for line in lines)
    assert not any("secret prompt" in line for line in lines)
