"""A model as one file to a host without internet: made, cut, changed, continued, imported, and served there by a real neuron."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.live import SCRIPTED_MODEL, running_neuron

from cortex import cli

pytestmark = pytest.mark.model

ID = "org/scripted"
PROFILE = f'[[models]]\nid = "{ID}"\ncontext = 8192\nthreads = 1\npinned_on = ["beast"]\n\n[aliases]\nsmall = "{ID}"\n'
MEMBER = "models/org/scripted/scripted-F32.gguf"


def cortex(*arguments: object, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """`cortex bundle …`, without a network's settings."""
    command = [sys.executable, "-m", "cortex", "bundle", *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, timeout=60, check=False, env={})


def told(done: subprocess.CompletedProcess[bytes]) -> Any:
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.fixture(name="bundle")
def _bundle(tmp_path: Path, scripted_model: Path) -> Path:
    place = tmp_path / "here/org/scripted/scripted-F32.gguf"
    place.parent.mkdir(parents=True)
    place.symlink_to(scripted_model)
    (tmp_path / "models.toml").write_text(PROFILE)
    file = tmp_path / "scripted.tar"
    arguments = ["--model", ID, "--models-dir", tmp_path / "here", "--catalogue", tmp_path / "models.toml"]
    assert cli.main(["bundle", "create", *map(str, [file, *arguments])]) == 0
    return file


def test_a_bundle_goes_to_another_host_and_is_served_there(bundle, tmp_path, scripted_model):
    """An interrupted and an altered bundle are refused by name; the whole one continues, and a neuron serves the model."""
    whole, there = bundle.read_bytes(), tmp_path / "there"
    cut, changed = tmp_path / "cut.tar", tmp_path / "changed.tar"
    cut.write_bytes(whole[: len(whole) // 2])
    changed.write_bytes(whole[:-5000] + bytes([whole[-5000] ^ 1]) + whole[-4999:])
    for broken, says in ((cut, "it was interrupted"), (changed, "its sha256 is not the one in the manifest")):
        refused = cortex("verify", broken, "--json")
        assert refused.returncode == 4
        assert f"'{broken}' is refused: {MEMBER}: " in refused.stderr.decode()
        problem = json.loads(refused.stdout)
        assert (problem["ok"], problem["member"], says in problem["problem"]) == (False, MEMBER, True)
        assert cortex("import", broken, "--models-dir", there).returncode == 4
        assert list(there.glob("**/*.gguf")) == []
    cortex("import", cut, "--models-dir", there)
    done = told(cortex("import", bundle, "--models-dir", there, "--json"))
    assert (done["model_id"], done["files"]) == (ID, [str(there / "org/scripted/scripted-F32.gguf")])
    assert 0 < done["resumed_bytes"] < len(whole)
    assert Path(done["files"][0]).read_bytes() == scripted_model.read_bytes()
    assert done["models_toml"] == f'[[models]]\nid = "{ID}"\nquant = "F32"\ncontext = 8192\nthreads = 1\n'

    async def scenario():
        async with running_neuron(there) as neuron:
            assert [entry["id"] for entry in await neuron.get("/models?all=true")] == [ID]
            assert (await neuron.load({**SCRIPTED_MODEL, "model_id": ID})).status_code == 200
            assert "scripted" in (await neuron.chat(ID, "Hello")).text

    asyncio.run(scenario())


def test_bundles_pass_through_a_pipe(bundle, tmp_path):
    """`-` is standard input; people are told what to do next."""
    assert cortex("VERIFY", "-", given=bundle.read_bytes()).returncode == 0
    done = cortex("import", "-", "--models-dir", tmp_path / "there", given=bundle.read_bytes())
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines()[0].startswith(f"imported '{ID}' into {tmp_path / 'there'}")
    assert "context = 8192\n" in done.stdout.decode()


def test_a_create_that_was_interrupted_says_that_it_is_continued(bundle, tmp_path):
    """The next try uses what the last one left, and says so."""
    whole = bundle.read_bytes()
    bundle.rename(tmp_path / "scripted.tar.partial")
    (tmp_path / "scripted.tar.partial").write_bytes(whole[: len(whole) // 2])
    file = tmp_path / "here/org/scripted/scripted-F32.gguf"
    done = cortex(
        "create",
        bundle,
        "--model",
        file,
        "--models-dir",
        tmp_path / "here",
        "--catalogue",
        tmp_path / "models.toml",
        "--json",
    )
    assert told(done)["resumed_bytes"] == len(whole) // 2
    assert "continuing" in done.stderr.decode()
    assert bundle.read_bytes() == whole


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["create", "{tar}", "--model", ID, "--models-dir", "{here}"], 1, "exists already"),
        (["create", "{new}", "--model", "org/scriptde", "--models-dir", "{here}"], 1, f"did you mean '{ID}'"),
        (["create", "{new}", "--model", "{toml}"], 1, "is no model below"),
        (["create", "{new}", "--model", ID, "--models-dir", "{here}", "--catalogue", "{tar}"], 2, "is not valid TOML"),
        (["create", "{new}"], 2, "--model"),
        (["create", "{new}/deep/x.tar", "--model", ID, "--models-dir", "{here}"], 2, "there is no file or folder"),
        (["verify", "{new}"], 2, "there is no file or folder"),
        (["verify", "{toml}"], 4, "this is no bundle"),
        (["import", "{tar}"], 2, "--models-dir"),
        (["import", "{tar}", "--models-dir", "{toml}"], 1, "ot a directory"),
        (["unpack", "{tar}"], 2, "invalid choice"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence(bundle, tmp_path, capfd, arguments, code, says):
    """Each mistake has its exit code and names what is wrong; nothing is written."""
    places = {"tar": bundle, "new": tmp_path / "new.tar", "here": tmp_path / "here", "toml": tmp_path / "models.toml"}
    ended: str | int | None
    try:
        ended = cli.main(["bundle", *(word.format(**places) for word in arguments)])
    except SystemExit as left:  # argparse's own
        ended = left.code
    said = capfd.readouterr().err
    assert (ended, says in said) == (code, True), said
    assert "Traceback" not in said
    assert not (tmp_path / "new.tar").exists()
