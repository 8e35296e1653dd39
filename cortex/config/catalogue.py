"""`models.toml`: what the fleet may serve, how, and where (upstream-facts A.5 and B.1; DESIGN section 2).

[[models]]
id = "unsloth/Qwen3-0.6B-GGUF"
quant = "Q4_K_M"
context = 8192

[aliases]
"small" = "unsloth/Qwen3-0.6B-GGUF"
"any" = ["unsloth/Qwen3-0.6B-GGUF", "org/other"]
"claude-local" = { model = "unsloth/Qwen3-0.6B-GGUF", display_name = "Our own" }
"*" = "unsloth/Qwen3-0.6B-GGUF"   # whatever nobody knows

[resident]
models = ["unsloth/Qwen3-0.6B-GGUF"]
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from cortex.config.loader import Section
from cortex.wire.fleet import LoadRequest, LoadSettings

ANY = "*"
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

    id: str = Field(min_length=1, max_length=512)
    harness: str = "auto"
    quant: str | None = None
    source: str | None = None
    vram_mb: int | None = Field(None, gt=0)
    min_devices: int = Field(1, ge=0)
    min_device_vram_mb: int | None = Field(None, gt=0)
    min_context: int | None = Field(None, ge=256)  # where `context` does not fit, it may be loaded with as little
    pinned_on: tuple[str, ...] = ()
    residency_priority: int | None = Field(None, ge=0)
    cost: Cost | None = None
    limit: ProfileLimit | None = None
    capabilities: tuple[str, ...] = ()
    display_name: str | None = None

    @model_validator(mode="after")
    def _contexts_agree(self) -> Self:
        if self.min_context and self.context and self.min_context > self.context:
            raise ValueError(f"min_context: {self.min_context} is above context, {self.context}")
        return self

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
        if devices is None:
            return self._load_request
        parallel = len(devices) if len(devices) > 1 else None
        return self._load_request.model_copy(
            update={"devices": devices, "devices_required": True, "tensor_parallel": parallel}
        )

    @cached_property
    def _load_request(self) -> LoadRequest:
        settings = self.model_dump(include=set(LoadSettings.model_fields), exclude_none=True)
        return LoadRequest(
            model_id=self.id, harness=self.harness, quant=self.quant, source=self.source, wait=False, **settings
        )


class Resident(Section):
    """`[resident]`: what is to be in memory whenever nobody needs the room for something else.

    idle_secs  how long what stands in the way must have been idle before it leaves for a resident model
    """

    models: tuple[str, ...] = ()
    idle_secs: float = Field(300.0, ge=0)


def _list(target: Any) -> Any:
    return [target] if isinstance(target, str) else target


Targets = Annotated[tuple[str, ...], BeforeValidator(_list), Field(min_length=1)]


class Alias(Section):
    """Another name. `model` is what it means: an id, or several of which the first is meant."""

    model: Targets
    display_name: str | None = None


def _alias(said: Any) -> Any:
    return {"model": said} if isinstance(said, str | list | tuple) else said


class Catalogue(Section):
    """The whole file. Aliases are flat: a target is a concrete id, never another alias.

    Of several targets the first is meant; the others stand in for it where a client asks for whatever is warm.
    The alias "*" takes every name that is unknown otherwise: without it such a name is an error.
    """

    models: tuple[Profile, ...] = ()
    aliases: dict[str, Annotated[Alias, BeforeValidator(_alias)]] = Field(default_factory=dict)
    resident: Resident = Resident()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [profile.id for profile in self.models]
        if twice := {model_id for model_id in ids if ids.count(model_id) > 1}:
            raise ValueError(f"models: '{min(twice)}' is listed twice")
        chained = [(name, target) for name, alias in self.aliases.items() for target in alias.model]
        for alias, target in chained:
            if target in self.aliases:
                raise ValueError(f"aliases.{alias}: points at the alias '{target}'; an alias must name a model id")
        return self

    def resolve(self, model: str) -> str:
        """The concrete id of an alias, its first target; any other name is itself."""
        return self.targets(model)[0]

    def targets(self, model: str) -> tuple[str, ...]:
        """What an alias may mean, best first; any other name is itself."""
        return self.aliases[model].model if model in self.aliases else (model,)

    def profile(self, model_id: str) -> Profile | None:
        return self._profiles.get(model_id)

    @cached_property
    def _profiles(self) -> Mapping[str, Profile]:
        return {profile.id: profile for profile in self.models}

    def with_profile(self, profile: Profile) -> Self:
        """The same with this profile instead of the model's own."""
        others = tuple(each for each in self.models if each.id != profile.id)
        return type(self)(models=(*others, profile), aliases=dict(self.aliases), resident=self.resident)

    def priority(self, model_id: str) -> int:
        profile = self._profiles.get(model_id)
        return profile.priority if profile else DEFAULT_PRIORITY

    def aliases_of(self, model_id: str) -> tuple[str, ...]:
        """The names that mean this model."""
        return tuple(sorted(name for name, alias in self.aliases.items() if alias.model[0] == model_id and name != ANY))
