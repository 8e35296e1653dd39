"""What is in a bundle: its first member, as JSON. Pure.

The text is the only one for what it says, and has its own sha256 in it: a changed byte is found there as well.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cortex.neuron.bundle.errors import BundleError
from cortex.neuron.models.source import layout
from cortex.wire.sync import SHA256, ModelFile

NAME = "cortex-bundle.json"
LIMIT_BYTES = 4 << 20
FOLDER = "models/"  # what is below it belongs into a models_dir
TEMPLATE, CATALOGUE = "chat_template.jinja", "models.toml"
_TEXTS = {"template": TEMPLATE, "catalogue": CATALOGUE}


class Member(BaseModel):
    """A file. Weights come in the order of their parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    role: Literal["weights", "projector", "template", "catalogue"]
    size: int = Field(ge=0)
    sha256: str = Field(pattern=SHA256)

    @property
    def is_text(self) -> bool:
        return self.role in _TEXTS

    @model_validator(mode="after")
    def _named_as_it_should_be(self) -> Self:
        if self.is_text:
            if self.name != _TEXTS[self.role] or self.size > LIMIT_BYTES:
                raise ValueError(f"'{self.name}' is no {self.role} of at most {LIMIT_BYTES} bytes")
        elif not self.name.startswith(FOLDER):
            raise ValueError(f"'{self.name}' is not below {FOLDER}")
        else:
            layout.checked(self.name.removeprefix(FOLDER))
        return self

    def as_file(self) -> ModelFile:
        """Of weights and projectors: the file below a models_dir."""
        return ModelFile(name=self.name.removeprefix(FOLDER), size=self.size, sha256=self.sha256)


class Manifest(BaseModel):
    """`model_id` is what the model is called where the bundle was made."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format: Literal["cortex-bundle"] = "cortex-bundle"
    version: Literal[1] = 1
    model_id: str = Field(min_length=1, max_length=512)
    quant: str | None = None
    architecture: str | None = None
    members: tuple[Member, ...] = Field(min_length=1, max_length=1024)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [member.name.lower() for member in self.members]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"'{min(twice)}' is there twice")
        if not any(member.role == "weights" for member in self.members):
            raise ValueError("there are no weights")
        return self

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """What belongs into a models_dir, the file that an engine opens first."""
        order = {"weights": 0, "projector": 1}
        found = [member for member in self.members if not member.is_text]
        return tuple(member.as_file() for member in sorted(found, key=lambda member: order[member.role]))

    def to_bytes(self) -> bytes:
        said = self.model_dump()
        return _text({**said, "sha256": hashlib.sha256(_text(said)).hexdigest()})


def parse(data: bytes) -> Manifest:
    """Raises BundleError."""
    try:
        said = json.loads(data)
        said.pop("sha256", None)
        manifest = Manifest.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise BundleError(
            NAME, f"{place + ': ' if place else ''}{first['msg'].removeprefix('Value error, ')}"
        ) from None
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise BundleError(NAME, "it is no JSON object") from None
    if manifest.to_bytes() != data:
        raise BundleError(NAME, "it was altered: its own sha256 is another one")
    return manifest


def _text(said: dict[str, object]) -> bytes:
    return json.dumps(said, indent=1, sort_keys=True).encode() + b"\n"
