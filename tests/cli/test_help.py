"""The command line as a person meets it: help that teaches, mistakes that are named, a start that is light."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import cortex
from cortex.cli.commands import COMMANDS, Command
from cortex.cli.parser import EXIT_CODES

HELPS = [["--help"], ["--role", "all", "--help"], ["config", "check", "--help"]]
HELPS += [["bundle", action, "--help"] for action in ("create", "verify", "import")]
HELPS += [[command.name, "--help"] for command in COMMANDS]


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The real process, with no more of an environment than it is given."""
    command = [sys.executable, "-m", "cortex", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)


@pytest.mark.parametrize("arguments", HELPS, ids=" ".join)
def test_every_help_has_an_example(arguments: list[str]) -> None:
    """Help ends with exit code 0 and shows at least one whole command."""
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    examples = done.stdout.partition("example")[2]
    assert "\n  cortex " in examples


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_example_of_a_command_parses(command: object) -> None:
    """An example can be typed as it stands; files that it names are made first."""
    from cortex.cli import parser

    assert isinstance(command, Command)
    words = command.example.partition(" >")[0].split()[1:]
    parsed = parser.parse([__file__ if word.endswith(".toml") else word for word in words])
    assert callable(parsed.run)


def test_the_exit_codes_are_documented() -> None:
    """Scripts can rely on what --help says about exit codes."""
    assert EXIT_CODES in run("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--role gateway|neuron|all"),
        (["--role", "cortex"], "gateway"),
        (["statsu"], "invalid choice"),
        (["serve", "-c", "absent.toml"], "no file 'absent.toml'"),
        (["serve", "-p", "99999"], "'99999' is no port"),
        (["serve", "--listen", "here"], "'here' is not host:port"),
        (["serve", "--listen", "127.0.0.1:1", "--port", "2"], "not both"),
        (["serve", "--models-dir", "/"], "--models-dir"),
        (["neuron", "--models-dir", "absent"], "no folder 'absent'"),
        (["neuron", "--listen", "0.0.0.0:0"], "insecure = true"),
        (["status", "-e", "nonsense"], "is no URL"),
        (["status", "-e", "http://127.0.0.1:99999"], "is no URL"),
        (["config", "check", "absent.toml"], "no file 'absent.toml'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments: list[str], words: str) -> None:
    """What was typed wrong is named on stderr, without a traceback."""
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_nobody_there_is_exit_code_3(unused_port: int) -> None:
    """A gateway that does not run is told apart from one that says no."""
    done = run("status", "-e", f"http://127.0.0.1:{unused_port}")
    assert done.returncode == 3
    assert done.stderr.startswith(f"cortex: cannot reach http://127.0.0.1:{unused_port}")


def test_the_endpoint_comes_from_the_environment(unused_port: int) -> None:
    """CORTEX_ENDPOINT is the default of --endpoint."""
    assert f"127.0.0.1:{unused_port}" in run("models", CORTEX_ENDPOINT=f"http://127.0.0.1:{unused_port}").stderr


def test_version_says_what_runs() -> None:
    """Version and build, for people and as JSON."""
    facts = json.loads(run("version", "--json").stdout)
    assert (facts["package_version"], facts["kind"]) == (cortex.__version__, "source")
    assert facts["harnesses"]["llamacpp"]
    assert f"cortex {cortex.__version__}" in run("--version").stdout


@pytest.mark.parametrize("arguments", [["version"], ["--help"], ["config", "--help"]], ids=" ".join)
def test_a_light_command_imports_no_heavy_library(arguments: list[str]) -> None:
    """What starts in an instant stays so: no server, no HTTP client, no engine is imported for it."""
    code = f"import sys; from cortex.cli import main\ntry: main({arguments!r})\nexcept SystemExit: pass\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    imported = set(done.stdout.splitlines()[-1].split())
    assert imported & {"sanic", "httpx", "pydantic", "rich", "uvloop", "xllamacpp", "huggingface_hub"} == set()


def test_the_module_can_be_run_from_the_checkout() -> None:
    """`python cortex.py`, which is what gets compiled, is the same program."""
    script = Path(cortex.__file__).parent.parent / "cortex.py"
    done = subprocess.run(
        [sys.executable, str(script), "version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert cortex.__version__ in done.stdout


@pytest.mark.parametrize(
    ("role", "foreign"),
    [
        ("gateway", {"cortex.neuron", "xllamacpp", "pynvml", "huggingface_hub"}),
        ("neuron", {"cortex.gateway", "xllamacpp"}),
    ],
)
def test_a_role_imports_its_own_half_only(role: str, foreign: set[str]) -> None:
    """A gateway has no use for what serves models, nor a neuron for the gateway; native code is the engines' alone."""
    code = f"import sys, cortex.cli.running, cortex.{role}.app\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stdout.split()) & foreign == set()
