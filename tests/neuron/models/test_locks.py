"""Lock files come and go while others take them: of two that bring a file, one has it."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path

import pytest

from cortex.errors import CortexError
from cortex.neuron.models.source.arrival import Arrival
from cortex.wire.sync import ModelFile

SHA256 = hashlib.sha256(b"x").hexdigest()


def _arrival(folder: Path) -> Arrival:
    return Arrival(folder, [ModelFile(name="x.gguf", size=1, sha256=SHA256)])


def test_a_lock_file_that_was_tidied_away_locks_nothing(tmp_path, monkeypatch):
    """Somebody removes it between its opening and its locking: it is made anew, and a second one finds it taken."""
    flock = fcntl.flock

    def tidied_first(descriptor: int, how: int) -> None:
        monkeypatch.undo()
        (tmp_path / ".incoming" / f"{SHA256}.lock").unlink()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", tidied_first)
    with (
        _arrival(tmp_path).held(),
        pytest.raises(CortexError, match="brought by somebody else"),
        _arrival(tmp_path).held(),
    ):
        pytest.fail("both have it")


def test_a_folder_that_was_tidied_away_is_made_again(tmp_path, monkeypatch):
    """Somebody else's last file has just left `.incoming`, and with it the folder."""
    real = Path.open

    def tidied_first(self: Path, *more: object, **named: object) -> object:
        monkeypatch.undo()
        self.parent.rmdir()
        return real(self, *more, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", tidied_first)
    with _arrival(tmp_path).held():
        assert (tmp_path / ".incoming").is_dir()
