"""What was shown of engines on GPUs: told and kept as it is found out, within the time that there is."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.errors import CannotRun

LEAST_S = 10.0  # with less no part is begun: it could show nothing


class Report:
    """Claims that held or did not, and figures by name.

    folder    has all of it as `figures.json` after every change, and the logs: a machine may be taken away at any moment
    within_s  time for everything; None: as much as it takes
    """

    def __init__(self, folder: Path, within_s: float | None = None) -> None:
        self.claims: dict[str, bool] = {}
        self.figures: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._begun = time.monotonic()
        self._within_s = within_s
        self._save()  # a place that cannot be written to is told before anything is run

    def __call__(self, claim: str, held: object) -> None:
        self.say(f"{'ok  ' if held else 'NOT '} {claim}")
        self.claims[claim] = bool(held)
        self._save()

    def say(self, line: str) -> None:
        print(f"[{time.monotonic() - self._begun:5.0f} s] {line}", file=sys.stderr, flush=True)

    def note(self, name: str, **figures: Any) -> None:
        """Keep figures beside those that are known under this name."""
        self.figures.setdefault(name, {}).update(figures)
        self._save()

    @property
    def failed(self) -> list[str]:
        return [claim for claim, held in self.claims.items() if not held]

    def within(self, most_s: float) -> float:
        """Seconds that something may take: as long as it usually may, and no longer than there is time."""
        if self._within_s is None:
            return most_s
        return max(1.0, min(most_s, self._begun + self._within_s - time.monotonic()))

    def part(self, name: str, do: Callable[[], None]) -> None:
        """One of the parts: what stops it is a claim that did not hold, and the others go on. Without time none is begun."""
        if self.within(LEAST_S) < LEAST_S:
            self(f"{name}: there was no time for it", held=False)
            return
        self.say(f"---- {name}")
        begun = time.monotonic()
        try:
            do()
        except CannotRun as error:
            self(f"{name}: {error}", held=False)
        except Exception as error:  # the machine is lent for one run: no mistake of a part may end the others
            self(f"{name}: {type(error).__name__}: {error}", held=False)
        self.seconds[name] = round(time.monotonic() - begun, 1)
        self._save()

    def log(self, name: str) -> Path:
        return self.folder / f"{name.replace(' ', '-')}.log"

    def told(self) -> dict[str, Any]:
        return {"claims": self.claims, "figures": self.figures, "seconds": self.seconds}

    def _save(self) -> None:
        new = self.folder / "figures.json.new"
        new.write_text(json.dumps(self.told(), indent=1) + "\n")
        new.replace(self.folder / "figures.json")
