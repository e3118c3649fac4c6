"""The right to send: one row, a random holder per process start, an epoch that grows with every term. The database's clock decides.

Not an advisory lock: behind a transaction pooler a session is not ours to keep, and a frozen leader would keep the lock for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotord.core.records import Term

if TYPE_CHECKING:
    from uuid import UUID

    from rotord.db.executor import Executor

# clock_timestamp() throughout: now() is stale when the statement waited for the row.
WIN = """
WITH won AS (
  INSERT INTO rotord.lease AS l (name, holder, epoch, elected_at, expires_at, node)
  VALUES ('main', $1, 1, clock_timestamp(), clock_timestamp() + make_interval(secs => $2), $3)
  ON CONFLICT (name) DO UPDATE
     SET holder = excluded.holder, epoch = l.epoch + 1, node = excluded.node,
         elected_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => $2)
   WHERE l.expires_at <= clock_timestamp()
  RETURNING epoch
)
SELECT epoch, extract(epoch FROM clock_timestamp())::float8,
       (SELECT coalesce(max(id), 0) + 1 FROM rotord.attempts),
       -- as it was before: a statement does not see what it changes
       (SELECT l.holder FROM rotord.lease l WHERE l.name = 'main' AND l.epoch = won.epoch - 1)
  FROM won
"""


async def win(db: Executor, holder: UUID, ttl_s: float, node: str) -> Term | None:
    """Take the lease if nobody holds it; a term, or None."""
    row = await db.fetchrow(WIN, holder, ttl_s, node)
    return None if row is None else Term(holder, row[0], row[1], row[2], row[3])


RENEW = """
UPDATE rotord.lease
   SET expires_at = clock_timestamp() + make_interval(secs => $3)
 WHERE name = 'main' AND holder = $1 AND epoch = $2 AND expires_at > clock_timestamp()
RETURNING true
"""


async def renew(db: Executor, term: Term, ttl_s: float, timeout_s: float) -> bool:
    """Keep the lease for another `ttl_s`; False when it is lost."""
    return await db.fetchval(RENEW, term.holder, term.epoch, ttl_s, timeout=timeout_s) is not None


RESIGN = """
UPDATE rotord.lease
   SET expires_at = clock_timestamp()
 WHERE name = 'main' AND holder = $1 AND epoch = $2
"""


async def resign(db: Executor, term: Term) -> None:
    """Give the lease up and wake who waits for it."""
    await db.execute(RESIGN, term.holder, term.epoch)
    await db.execute("SELECT pg_notify('rotord_lease', '')")


# Two statements: the first may read long after an upgrade, and a renewal must not wait for it.
FIRST_UNFINISHED = """
SELECT a.id
  FROM rotord.attempts a
 WHERE a.id >= (SELECT swept_id FROM rotord.lease WHERE name = 'main') AND a.id < $1 AND a.outcome IS NULL
 ORDER BY a.id
 LIMIT 1
"""
SWEPT = """
UPDATE rotord.lease
   SET swept_id = $1
 WHERE name = 'main' AND swept_id < $1
"""


async def sweep(db: Executor, below: int, timeout_s: float) -> None:
    """Note that no attempt below this id is unfinished, or below the first that is: so that a start does not read the whole term before it.

    Nothing begins with such an id any more.
    """
    unfinished: int | None = await db.fetchval(FIRST_UNFINISHED, below, timeout=timeout_s)
    await db.execute(SWEPT, below if unfinished is None else unfinished)
