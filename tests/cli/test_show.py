"""Tables and bars: drawn on a terminal, plain where nobody watches, and data stays on stdout."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from cortex.cli.show import megabytes, progress, table

TABLE = (
    "from cortex.cli.show import table; table('models', ('MODEL', 'STATE'), [('[red]x', 'loaded'), ('y', 'failed')])"
)
BAR = "from cortex.cli.show import progress\nwith progress() as advance: advance('[x]: fetching', 512, 1024)"


def on_terminal(code: str) -> str:
    """What a program writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    subprocess.run([sys.executable, "-c", code], stdout=theirs, stderr=theirs, check=True, timeout=60, env=environ)
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:  # Linux's way to say that a terminal is closed
        pass
    os.close(ours)
    return written.decode()


def test_a_table_is_plain_columns_for_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns line up, nothing is drawn, and nothing follows the last cell."""
    table("models", ("MODEL", "STATE"), [("a-long-name", "loaded"), ("b", "-")])
    assert capsys.readouterr().out == "models:\n  MODEL        STATE\n  a-long-name  loaded\n  b            -\n"


def test_an_empty_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """No heading over nothing."""
    table("models", ("MODEL",), [])
    assert capsys.readouterr().out == "models: none\n"


def test_a_table_is_drawn_on_a_terminal() -> None:
    """With rich's lines; a name that looks like markup stays a name."""
    written = on_terminal(TABLE)
    assert "┏" in written
    assert "[red]x" in written


def test_a_bar_is_drawn_on_a_terminal() -> None:
    """Bytes done and in all are shown beside the bar."""
    written = on_terminal(BAR)
    assert "[x]: fetching" in written
    assert "512/1024 bytes" in written or "0.5/1.0 kB" in written


def test_progress_is_one_line_a_stage_for_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    """On something that is no terminal, only a new stage is worth a line, and stdout stays empty."""
    with progress() as advance:
        for text, done in (("x: fetching", 1), ("x: fetching", 2), ("x: loading", None)):
            advance(text, done, 10)
    assert capsys.readouterr() == ("", "x: fetching\nx: loading\n")


@pytest.mark.parametrize(("mb", "text"), [(None, "-"), (0, "0 MiB"), (812, "812 MiB"), (24_576, "24.0 GiB")])
def test_memory_is_told_in_units_for_people(mb: int | None, text: str) -> None:
    """Unknown is a dash, which is not zero."""
    assert megabytes(mb) == text
