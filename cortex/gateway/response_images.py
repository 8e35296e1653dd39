"""Images of kept responses that were named by URL: what they were, each once, for as long as a response that was shown it is kept.

A URL may lead to something else by the next turn, or nowhere: many are signed for minutes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cortex.gateway.store import Execute

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS cortex_images (sha256 BLOB PRIMARY KEY, bytes INTEGER NOT NULL, data TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS cortex_response_images (
        response TEXT NOT NULL, url TEXT NOT NULL, sha256 BLOB NOT NULL, PRIMARY KEY (response, url)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS cortex_response_images_by_image ON cortex_response_images (sha256)",
    """CREATE TRIGGER IF NOT EXISTS cortex_response_is_gone AFTER DELETE ON cortex_responses BEGIN
        DELETE FROM cortex_response_images WHERE response = OLD.id; END""",
    """CREATE TRIGGER IF NOT EXISTS cortex_image_is_unseen AFTER DELETE ON cortex_response_images
        WHEN NOT EXISTS (SELECT 1 FROM cortex_response_images WHERE sha256 = OLD.sha256) BEGIN
        DELETE FROM cortex_images WHERE sha256 = OLD.sha256; END""",
)


def keep(sql: Execute, response_id: str, images: Mapping[str, str]) -> None:
    """`images`: a data URL by each URL that stands for it."""
    for url, data in images.items():
        digest = hashlib.sha256(data.encode()).digest()
        sql("INSERT OR IGNORE INTO cortex_images (sha256, bytes, data) VALUES (?, ?, ?)", (digest, len(data), data))
        sql("INSERT INTO cortex_response_images (response, url, sha256) VALUES (?, ?, ?)", (response_id, url, digest))


def find(sql: Execute, response_id: str) -> dict[str, str]:
    rows = sql(
        "SELECT url, data FROM cortex_response_images JOIN cortex_images USING (sha256) WHERE response = ?",
        (response_id,),
    )
    return {url: data for url, data in rows}  # noqa: C416  the types of a row are not known


def size(sql: Execute) -> int:
    """In bytes, of all together."""
    ((total,),) = sql("SELECT coalesce(sum(bytes), 0) FROM cortex_images")
    return int(total)
