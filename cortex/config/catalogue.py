"""`models.toml`: what the fleet may serve, how, and where (upstream-facts A.5 and B.1; DESIGN section 2).

[[models]]
id = "unsloth/Qwen3-0.6B-GGUF"
quant = "Q4_K_M"
context = 8192

[aliases]
"small" = "unsloth/Qwen3-0.6B-GGUF"
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from cortex.config.loader import Section
from cortex.wire.fleet import LoadRequest, LoadSettings

DEFAULT_PRIORITY = 100  # a model that no profile ranks
PINNED_PRIORITY = 1000  # a profile with `pinned_on` and no rank of its own: the first generation's meaning of pinning


class Cost(Section):
    """US dollars for a million tokens. Absent is "not priced", 0.0 is free."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_read: float | None = Field(None, ge=0)
    cache_write: float | None = Field(None, ge=0)


class ProfileLimit(Section):
    context: int = Field(gt=0)
    input: int | None = Field(None, gt=0)
    output: int | None = Field(None, gt=0)


class Profile(LoadSettings, Section):
    """One `[[models]]` entry: a model, how to load it, and where it may run."""

    id: str = Field(min_length=1)
    harness: str = "auto"
    quant: str | None = None
    source: str | None = None
    vram_mb: int | None = Field(None, gt=0)
    min_devices: int = Field(1, ge=0)
    min_device_vram_mb: int | None = Field(None, gt=0)
    pinned_on: tuple[str, ...] = ()
    residency_priority: int | None = Field(None, ge=0)
    cost: Cost | None = None
    limit: ProfileLimit | None = None
    capabilities: tuple[str, ...] = ()
    display_name: str | None = None

    @property
    def priority(self) -> int:
        """Who may displace whom: a model displaces those of equal or lower priority."""
        if self.residency_priority is not None:
            return self.residency_priority
        return PINNED_PRIORITY if self.pinned_on else DEFAULT_PRIORITY

    def may_run_on(self, node: str) -> bool:
        return not self.pinned_on or node in self.pinned_on

    def load_request(self, *, devices: tuple[int, ...] | None = None) -> LoadRequest:
        """What the gateway asks a neuron for. Several devices mean tensor parallelism over them, as in the first generation."""
        settings = self.model_dump(include=set(LoadSettings.model_fields), exclude_none=True)
        return LoadRequest(
            model_id=self.id,
            harness=self.harness,
            quant=self.quant,
            source=self.source,
            devices=devices,
            devices_required=devices is not None,
            tensor_parallel=len(devices) if devices and len(devices) > 1 else None,
            wait=False,
            **settings,
        )


class Catalogue(Section):
    """The whole file. Aliases are flat: the target is a concrete id, never another alias."""

    models: tuple[Profile, ...] = ()
    aliases: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [profile.id for profile in self.models]
        if twice := {model_id for model_id in ids if ids.count(model_id) > 1}:
            raise ValueError(f"models: '{min(twice)}' is listed twice")
        if chained := [alias for alias, target in self.aliases.items() if target in self.aliases]:
            raise ValueError(
                f"aliases.{chained[0]}: points at the alias '{self.aliases[chained[0]]}'; an alias must name a model id"
            )
        return self

    def resolve(self, model: str) -> str:
        """The concrete id of an alias; any other name is itself."""
        return self.aliases.get(model, model)

    def profile(self, model_id: str) -> Profile | None:
        return next((profile for profile in self.models if profile.id == model_id), None)

    def aliases_of(self, model_id: str) -> tuple[str, ...]:
        return tuple(sorted(alias for alias, target in self.aliases.items() if target == model_id))
