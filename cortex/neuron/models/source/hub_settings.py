"""Where the hub is and who asks: the environment as huggingface_hub reads it, without that library.

Importing it costs a neuron a second HTTP client at start, and the compiled program hundreds of files, for four settings
that are documented ("Environment variables" in its manual). A test compares each with what the library itself reads.
"""

from __future__ import annotations

import logging
import os
from urllib.parse import quote

from cortex.neuron.models.source.hf_cache import expanded, hf_home

PUBLIC_HUB = "https://huggingface.co"
_TRUE = {"1", "ON", "YES", "TRUE"}
log = logging.getLogger(__name__)


def endpoint() -> str:
    """`HF_ENDPOINT`, a mirror's base URL."""
    return os.environ.get("HF_ENDPOINT", PUBLIC_HUB).rstrip("/")


def is_offline() -> bool:
    """`HF_HUB_OFFLINE`, or the older `TRANSFORMERS_OFFLINE`."""
    return (os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or "").upper() in _TRUE


def token() -> str | None:
    """`HF_TOKEN`, else what `hf auth login` saved. None: nobody is logged in."""
    said = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    return _cleaned(said) or _cleaned(_saved_token())


def file_url(hub: str, repo: str, name: str, revision: str) -> str:
    """Where a repository's file is downloaded from; `name` may hold folders."""
    return f"{hub}/{repo}/resolve/{quote(revision, safe='')}/{quote(name)}"


def _saved_token() -> str | None:
    file = expanded(os.environ["HF_TOKEN_PATH"]) if "HF_TOKEN_PATH" in os.environ else hf_home() / "token"
    try:
        return file.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        log.warning("the saved token of the hub cannot be read: %s", error)
        return None


def _cleaned(text: str | None) -> str | None:
    """A token never holds a line break: a header that did would be refused by every client."""
    return (text or "").replace("\r", "").replace("\n", "").strip() or None
