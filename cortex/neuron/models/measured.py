"""What engines really took, remembered across restarts: the best estimate of the next load is the last one.

One JSON file in the state directory, `{"<key>": MiB}`. A key names everything that changes memory: the file, the
settings that count, where it ran, and the engine's build. Written seldom (at the end of an engine, when the figure
changed), whole, and by rename, so that a kill leaves the old or the new file. A file that cannot be read is an empty
memory, with a warning: it must never keep a host from serving.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import orjson

from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.models.source import LocalModel

KEPT = 1000  # keys; the oldest go first
log = logging.getLogger(__name__)


def key_of(model: LocalModel, spec: EngineSpec, *, devices: int, build: str | None) -> str:
    """One line of words, for people who look into the file; the file's own come first."""
    settings = (
        spec.context,
        spec.parallel,
        spec.batch,
        spec.kv_type or "f16",
        spec.mode,
        spec.gpu_layers,
        spec.split_mode or "layer",
    )
    extras = (Path(spec.mmproj).name if spec.mmproj else "-", Path(spec.draft).name if spec.draft else "-")
    return " ".join(map(str, (file_key(model), *settings, *extras, f"{devices}gpu", spec.harness, build)))


def file_key(model: LocalModel) -> str:
    """The part of a key that names the file."""
    return f"{model.path.name} {model.size_bytes}"


class MeasuredMemory:
    """The remembered figures of one host. `folder` None: nothing is remembered beyond this process."""

    def __init__(self, folder: Path | None) -> None:
        self._file = folder / "measured-memory.json" if folder else None
        self._figures = self._read()  # replaced and never changed: the event loop reads it while threads put
        self._putting = threading.Lock()

    def get(self, key: str) -> int | None:
        return self._figures.get(key)

    def latest(self, file: str) -> int | None:
        """What the model of this `file_key` took last, with whichever settings."""
        prefix = file + " "
        return next((self._figures[key] for key in reversed(self._figures) if key.startswith(prefix)), None)

    def put(self, key: str, mb: int) -> None:
        """Remember the latest figure. Blocks for a small write; call it from a thread."""
        with self._putting:
            figures = {kept: figure for kept, figure in self._figures.items() if kept != key} | {key: mb}
            is_news = self._figures.get(key) != mb
            self._figures = dict(list(figures.items())[-KEPT:])  # what was used lately stands at the end
            if is_news:
                self._write()

    def _read(self) -> dict[str, int]:
        if self._file is None or not self._file.exists():
            return {}
        try:
            found = orjson.loads(self._file.read_bytes())
            return {str(key): int(mb) for key, mb in found.items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            log.warning("%s cannot be read and is begun anew: %s", self._file, error)
            return {}

    def _write(self) -> None:
        if self._file is None:
            return
        new = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.write_bytes(orjson.dumps(self._figures, option=orjson.OPT_INDENT_2))
            new.replace(self._file)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._file, error)
