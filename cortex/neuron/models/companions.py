"""What goes with a model: its projector and a draft model. They are named like models, never by path: no client may have a file opened."""

from __future__ import annotations

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.harness.base import ModelFiles
from cortex.neuron.models.library import Library
from cortex.neuron.models.source import LocalModel
from cortex.wire.fleet import LoadRequest


def files_of(request: LoadRequest, model: LocalModel, library: Library) -> ModelFiles:
    """All files of a load, as the last scan saw them. Raises CortexError (400) for names that are not here."""
    giver = _giver(request.mmproj, model, library)
    draft = _draft(request.draft, library) if request.draft else None
    return ModelFiles(
        model.path,
        giver.mmproj if giver else None,
        draft.path if draft else None,
        mmproj_bytes=giver.mmproj_bytes if giver else 0,
        draft_bytes=draft.size_bytes if draft else 0,
    )


def _giver(asked: str | None, model: LocalModel, library: Library) -> LocalModel | None:
    """The model whose projector it is: mostly its own. None: there is to be none."""
    if asked is None:
        return model
    if asked.lower() == "none":
        return None
    named = {each.mmproj.name: each for each in library.models if each.mmproj}
    if asked not in named:
        raise errors.invalid_request(
            f"there is no projector '{asked}' on this host; it has: {', '.join(sorted(named)) or 'none'}",
            code="no_such_file",
            param="mmproj",
        )
    return named[asked]


def _draft(asked: str, library: Library) -> LocalModel:
    found = next((model for model in library.models if model.id == asked), None)
    if found is None:
        raise _no_such_model(asked)
    return found


def _no_such_model(asked: str) -> CortexError:
    return errors.invalid_request(f"there is no model '{asked}' on this host", code="model_not_found", param="draft")
