"""`cortex config check`: every mistake named with its place, and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from cortex.cli import main


def check(file: Path, text: str) -> int:
    file.write_text(text)
    return main(["config", "check", str(file)])


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("cortex.toml", "[[neurons]]\nname = 'a'\nendpoint = 'http://10.0.0.5:13131'\n", "1 neurons"),
        ("neuron.toml", "port = 13132\n", "127.0.0.1:13132"),
        ("models.toml", "[[models]]\nid = 'org/x'\n", "1 models"),
        ("fleet.toml", "[gateway]\nlisten = '127.0.0.1:1234'\n", "a gateway's"),
        ("host.toml", "models_dir = '/srv'\n", "a neuron's"),
        ("list.toml", "[aliases]\na = 'b'\n", "a catalogue"),
    ],
)
def test_a_good_file_is_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, says: str
) -> None:
    """The kind of a file is known by its name, or by its keys; what it says is told in one line."""
    assert check(tmp_path / name, text) == 0
    assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "cortex.toml",
            "[gateway]\nlisen = '1:2'\npoll_interval_secs = 0\n",
            ["gateway.lisen", "'listen'", "gateway.poll_interval_secs"],
        ),
        (
            "cortex.toml",
            "[[neurons]]\nname = 'a'\nendpoint = '10.0.0.5'\n",
            ["neurons.0.endpoint", "http://10.0.0.5:13131"],
        ),
        ("cortex.toml", "models_config = 'absent.toml'\n", ["absent.toml", "No such file"]),
        (
            "neuron.toml",
            "[[default_models]]\nmodel_id = 'x'\nkv_typ = 'f16'\n",
            ["default_models.0.kv_typ", "'kv_type'"],
        ),
        ("models.toml", "[[models]]\nid = 'x'\n[[models]]\nid = 'x'\n", ["'x' is listed twice"]),
        ("fleet.toml", "port = \n", ["not valid TOML", "line 1"]),
    ],
)
def test_every_mistake_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, says: list[str]
) -> None:
    """Exit code 1, and one line a mistake with file, key and what would be right."""
    assert check(tmp_path / name, text) == 1
    err = capsys.readouterr().err
    assert [words for words in says if words not in err] == []
    assert str(tmp_path / name) in err or "absent.toml" in err
