"""Which model a client means: an id, an alias, or, where the catalogue has an alias "*", anything that is unknown."""

from __future__ import annotations

from cortex.config.catalogue import ANY, Catalogue, Profile
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.live import Live
from cortex.gateway.routing.snapshot import family


class Names:
    """The names of the catalogue and the fleet as they are now."""

    def __init__(self, live: Live, fleet: Fleet) -> None:
        self._live = live
        self._fleet = fleet

    def targets(self, model: str) -> tuple[str, ...]:
        """What a name may mean, best first."""
        return self._live.catalogue.targets(self.known_as(model))

    def known_as(self, model: str) -> str:
        """The name itself; where there is an alias "*", that one for a name that nobody knows."""
        catalogue = self._live.catalogue
        return model if ANY not in catalogue.aliases or self._knows(model, catalogue) else ANY

    def profile(self, model_id: str) -> Profile | None:
        return self._live.catalogue.profile(model_id)

    def _knows(self, model: str, catalogue: Catalogue) -> bool:
        known = self._fleet.snapshot.known
        return model in catalogue.aliases or catalogue.profile(model) is not None or family(model) in known
