"""Secrets that every node must share, made once by whichever node comes first."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

# DO UPDATE of nothing: RETURNING then also answers when another node was first.
UNSUBSCRIBE_KEY = """
INSERT INTO rotord.keys AS k (name, value)
VALUES ('unsubscribe', $1)
ON CONFLICT (name) DO UPDATE SET value = k.value
RETURNING value
"""
_KEY_BYTES = 32


async def unsubscribe_key(pool: asyncpg.Pool[asyncpg.Record]) -> bytes:
    """The key of the unsubscribe links; a random one on the first call ever."""
    key: bytes = await pool.fetchval(UNSUBSCRIBE_KEY, secrets.token_bytes(_KEY_BYTES))
    return key
