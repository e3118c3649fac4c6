"""Suppressions by a person's hand: added, lifted, listed, imported, exported.

Owns the rows of `rotord.suppressions` that come from a command. Nothing is copied anywhere: the statement that begins a
message reads this table, so one added here holds for every attempt that begins after the commit. Recipients are stored
and looked for in the database's lower case; who was forgotten (db/forget.py) is found by the address and shown under
another name. A client of None is everybody's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Suppression:
    """One row to store, already checked: an address, a client that exists, one of the reasons (core.suppression_lists)."""

    recipient: str
    client: str | None = None
    reason: str = "manual"
    source: str = ""


ADD: Final = """
INSERT INTO rotord.suppressions (recipient, client, reason, source)
SELECT rotord.lower_case(s.recipient), s.client, s.reason, s.source
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS s (recipient, client, reason, source)
ON CONFLICT DO NOTHING
RETURNING 1
"""


async def add(conn: Connection, rows: Sequence[Suppression]) -> int:
    """Store what is not there yet and count it. One statement: the caller sizes the batch."""
    columns = (
        [row.recipient for row in rows],
        [row.client for row in rows],
        [row.reason for row in rows],
        [row.source for row in rows],
    )
    return len(await conn.fetch(ADD, *columns))


REMOVE: Final = """
DELETE FROM rotord.suppressions
WHERE recipient IN (rotord.lower_case($1), rotord.forgotten_name($1, (SELECT value FROM rotord.keys WHERE name = 'forget')))
  AND client IS NOT DISTINCT FROM $2
  AND ($3::text IS NULL OR reason = $3)
RETURNING 1
"""


async def remove(conn: Connection, recipient: str, client: str | None, reason: str | None = None) -> int:
    """Lift the recipient's suppressions of exactly this scope, and count them."""
    return len(await conn.fetch(REMOVE, recipient, client, reason))


FIND: Final = """
SELECT client, recipient, reason, source, created_at
FROM rotord.suppressions
WHERE ($1::text IS NULL OR client = $1)
  AND ($2::text IS NULL
       OR recipient IN (rotord.lower_case($2), rotord.forgotten_name($2, (SELECT value FROM rotord.keys WHERE name = 'forget'))))
ORDER BY recipient, client, reason
LIMIT $3
"""


async def find(conn: Connection, *, client: str | None = None, recipient: str | None = None, limit: int) -> list[Record]:
    """Read the first `limit` of a client or recipient (None: of all), in the recipients' order."""
    return await conn.fetch(FIND, client, recipient, limit)


COUNT: Final = """
SELECT count(*)
FROM rotord.suppressions
WHERE ($1::text IS NULL OR client = $1)
  AND ($2::text IS NULL
       OR recipient IN (rotord.lower_case($2), rotord.forgotten_name($2, (SELECT value FROM rotord.keys WHERE name = 'forget'))))
"""


async def count(conn: Connection, *, client: str | None = None, recipient: str | None = None) -> int:
    """Count what `find` would list without its limit."""
    return int(await conn.fetchval(COUNT, client, recipient))


EVERYTHING: Final = """
SELECT recipient, client, reason, source
FROM rotord.suppressions
ORDER BY id
"""


async def everything(conn: Connection) -> AsyncIterator[Record]:
    """Read all of them as of one moment, a few thousand in memory at a time."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        async for row in conn.cursor(EVERYTHING, prefetch=5_000):
            yield row


SLUGS: Final = """
SELECT slug
FROM rotord.clients
"""


async def clients(conn: Connection) -> frozenset[str]:
    """Read the slugs a suppression may name."""
    return frozenset(row["slug"] for row in await conn.fetch(SLUGS))
