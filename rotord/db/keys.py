"""Secrets that every node must share, made once by whichever node comes first."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rotord.db.executor import Executor

# DO UPDATE of nothing: RETURNING then also answers when another node was first.
UNSUBSCRIBE_KEY = """
INSERT INTO rotord.keys AS k (name, value)
VALUES ('unsubscribe', $1)
ON CONFLICT (name) DO UPDATE SET value = k.value
RETURNING value
"""
_KEY_BYTES = 32


async def unsubscribe_key(db: Executor) -> bytes:
    """The key of the unsubscribe links; a random one on the first call ever."""
    key: bytes = await db.fetchval(UNSUBSCRIBE_KEY, secrets.token_bytes(_KEY_BYTES))
    return key


# The key as HMAC's hash takes it: 64 bytes against 0x36, 64 against 0x5c (RFC 2104); rotord.forgotten_name reads it so.
FORGET_KEY = """
INSERT INTO rotord.keys AS k (name, value)
VALUES ('forget', $1)
ON CONFLICT (name) DO UPDATE SET value = k.value
RETURNING value
"""
_BLOCK_BYTES = 64


async def forget_key(db: Executor) -> bytes:
    """The key of forgotten names, as its two blocks; a random one on the first call ever."""
    key = secrets.token_bytes(_BLOCK_BYTES)
    pads: bytes = await db.fetchval(FORGET_KEY, bytes(byte ^ 0x36 for byte in key) + bytes(byte ^ 0x5C for byte in key))
    return pads
