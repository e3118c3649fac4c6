"""What an unsubscribe link is about, and the suppression that it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncpg import Record

    from rotord.db.executor import Executor

ADDRESSEE: Final = """
SELECT coalesce(nullif(c.name, ''), c.slug) AS client, o.recipient
FROM rotord.outbox AS o
JOIN rotord.clients AS c ON c.slug = o.client
WHERE o.id = $1
"""


async def addressee(db: Executor, outbox_id: int) -> Record | None:
    """Read the client's name and the recipient of a message."""
    return await db.fetchrow(ADDRESSEE, outbox_id)


# DO NOTHING waits for another's uncommitted row, so whoever finds it there finds it committed.
UNSUBSCRIBE: Final = """
WITH message AS (
  SELECT o.client, o.recipient
  FROM rotord.outbox AS o
  WHERE o.id = $1
), added AS (
  INSERT INTO rotord.suppressions (client, recipient, reason, source)
  SELECT m.client, rotord.lower_case(m.recipient), 'unsubscribe', $2
  FROM message AS m
  ON CONFLICT DO NOTHING
  RETURNING 1
), pressed AS (  -- for the statistics: once a message, and not by who was suppressed already
  INSERT INTO rotord.unsubscribes (outbox_id)
  SELECT $1
  FROM added
  ON CONFLICT DO NOTHING
)
SELECT coalesce(nullif(c.name, ''), c.slug) AS client, m.recipient
FROM message AS m
JOIN rotord.clients AS c ON c.slug = m.client
"""


async def unsubscribe(db: Executor, outbox_id: int, source: str) -> Record | None:
    """Suppress a message's recipient for its client, if that is not done yet; the same columns as `addressee`."""
    return await db.fetchrow(UNSUBSCRIBE, outbox_id, source)
