"""`[responses]` of cortex.toml: whether answers of /v1/responses are kept for requests that follow them."""

from __future__ import annotations

from pydantic import Field

from cortex.config.loader import Section
from cortex.config.trust import ConfigPath


class ResponsesSection(Section):
    """What is kept goes when it is the oldest and there is too much, or when it is older than `max_age_secs`.

    database     a SQLite file, shared by the gateways of this host; default: in the state directory
    max_mb       MiB, compressed; images that were named by URL as they are. A conversation that is larger before that is not kept
    """

    store: bool = False
    database: ConfigPath | None = None
    max_entries: int = Field(10_000, ge=1)
    max_mb: int = Field(256, ge=1)
    max_age_secs: float = Field(30 * 86400.0, gt=0)  # as long as OpenAI keeps them
