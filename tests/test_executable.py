"""Starting this same program again."""

import subprocess
import sys

import cortex
from cortex.executable import engine_command, is_compiled, self_command


def run(command: list[str], **more):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **more)


def test_the_program_starts_from_any_folder(tmp_path):
    """Neither the current folder nor what lies in it matters."""
    (tmp_path / "json.py").write_text("raise SystemExit('a module of the current folder was imported')")
    (tmp_path / "cortex.py").write_text("raise SystemExit('a module of the current folder was imported')")
    done = run([*self_command(), "version"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert cortex.__version__ in done.stdout


def test_the_engine_starts_from_any_folder(tmp_path):
    """An engine without a specification says so as one line of JSON."""
    done = run(engine_command(), cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    assert "specification" in done.stdout


def test_the_engine_s_start_is_light():
    """What an engine imports before its library leaves out what only a neuron needs."""
    code = "import sys, cortex.neuron.engine.main; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    imported = run([sys.executable, "-c", code]).stdout.split()
    assert not {"pydantic", "sanic", "httpx", "asyncio", "xllamacpp"} & set(imported)


def test_source_is_not_taken_for_a_binary():
    """Tests run from source."""
    assert not is_compiled()
