"""Out of service, by an operator's word. It outlives a restart: a host under repair stays out until it is said to be well."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from cortex.neuron.models.registry import Registry

log = logging.getLogger(__name__)


class Service:
    """The mark of one neuron: the file `drained` in its state directory. `folder` None: it holds for this process only."""

    def __init__(self, folder: Path | None, registry: Registry) -> None:
        self._mark = folder / "drained" if folder else None
        self._registry = registry
        if self._mark and self._mark.exists():
            registry.drain(on=True)
            log.warning("this neuron is drained since before its start, and takes nothing new until it is undrained")

    async def drain(self, *, on: bool) -> None:
        """From now on nothing new is taken, or it is again."""
        self._registry.drain(on=on)
        if self._mark:
            await asyncio.to_thread(self._remember, self._mark, on=on)

    def _remember(self, mark: Path, *, on: bool) -> None:
        try:
            if on:
                mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                mark.touch()
            else:
                mark.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be changed, and after a restart this neuron will not know: %s", mark, error)
