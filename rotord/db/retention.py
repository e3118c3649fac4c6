"""What gets old goes, in small steps beside full sending: bodies of settled messages, attempts, events, posts. Counts stay.

Each function does one step and says whether there may be more. The outbox's rows themselves stay for ever. Attempts are deleted by their
ids, which are their times; events are dropped by the month. Nothing goes that is not counted yet (db/ledger.py, db/stats.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from rotord.db import forget
from rotord.db.ledger import ID_SHIFT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from rotord.db.executor import Executor

_log = structlog.get_logger(__name__)
#: rows a statement: some 10 ms
BATCH: Final = 500
#: bodies a statement: some 30 ms. A row without its body finds no room on its page, so it is entered in each index anew, and recipients
#: lie everywhere: 0.2 to 0.3 ms and 3 kB of log a row.
BODIES_BATCH: Final = 100
STEP_S: Final = 60.0

# Where an app has a row locked, the others of the batch are blanked and the mark stays: it goes on when that row is free.
BODIES: Final = """
WITH progress AS MATERIALIZED (
  SELECT upto, id
    FROM rotord.retention_progress
   WHERE name = 'bodies'
), due AS MATERIALIZED (
  SELECT s.id, s.settled_at
    FROM progress p
   CROSS JOIN LATERAL (
     SELECT id, settled_at
       FROM rotord.message_state
      WHERE (settled_at, id) > (p.upto, p.id) AND settled_at < statement_timestamp() - make_interval(days => $1)
      ORDER BY settled_at, id
      LIMIT $2) s
), free AS MATERIALIZED (
  SELECT o.id, o.blanked_at
    FROM rotord.outbox o
   WHERE o.id = ANY (ARRAY(SELECT id FROM due))
     FOR UPDATE SKIP LOCKED
), blanked AS (
  UPDATE rotord.outbox o
     SET body_text = NULL, body_html = NULL, attachments = '[]', blanked_at = clock_timestamp()
    FROM free f
   WHERE o.id = f.id AND f.blanked_at IS NULL
), moved AS (
  UPDATE rotord.retention_progress p
     SET upto = l.settled_at, id = l.id
    FROM (SELECT settled_at, id FROM due ORDER BY settled_at DESC, id DESC LIMIT 1) l
   WHERE p.name = 'bodies' AND (SELECT count(*) FROM free) = (SELECT count(*) FROM due)
)
SELECT (SELECT count(*) FROM due) = $2 AND (SELECT count(*) FROM free) = (SELECT count(*) FROM due)
"""


async def blank_bodies(db: Executor, days: int) -> bool:
    """Blank the bodies and attachments of a batch that was settled so long ago; True when there may be more."""
    return bool(await db.fetchval(BODIES, days, BODIES_BATCH, timeout=STEP_S))


# A message that is still uncertain keeps its attempts. Days that the counters do not have yet are kept whole.
ATTEMPTS: Final = """
WITH old AS MATERIALIZED (
  SELECT id, outbox_id
    FROM rotord.attempts
   WHERE id > $1
     AND id < (SELECT least((extract(epoch FROM statement_timestamp() - make_interval(days => $2)) * 1000)::bigint << $4,
                            (extract(epoch FROM (max(day) + 1)::timestamp AT TIME ZONE 'UTC') * 1000)::bigint << $4)
                 FROM rotord.daily_counters
               HAVING max(day) IS NOT NULL)
     AND id <= (SELECT upto FROM rotord.stats_progress WHERE name = 'attempts')
   ORDER BY id
   LIMIT $3
), over AS MATERIALIZED (
  SELECT old.id
    FROM old
   WHERE NOT EXISTS (SELECT FROM rotord.queue q WHERE q.id = old.outbox_id)
), gone AS (
  DELETE FROM rotord.attempts
   WHERE id = ANY (ARRAY(SELECT id FROM over))
), not_counted AS (
  DELETE FROM rotord.stats_open
   WHERE attempt_id = ANY (ARRAY(SELECT id FROM over))
)
SELECT CASE WHEN count(*) = $3 THEN max(id) ELSE 0 END
  FROM old
"""


async def delete_attempts(db: Executor, days: int, after: int) -> int:
    """Delete a batch of attempts that began so long ago, above an id; gives where to go on, 0 when that was all."""
    last: int = await db.fetchval(ATTEMPTS, after, days, BATCH, ID_SHIFT, timeout=STEP_S)
    return last


OLD_MONTHS: Final = """
SELECT c.relname AS name
  FROM pg_inherits i
  JOIN pg_class c ON c.oid = i.inhrelid
 CROSS JOIN LATERAL (
   SELECT to_date(substr(c.relname, 8), 'YYYY_MM')::timestamp AT TIME ZONE 'UTC' AS since,
          (to_date(substr(c.relname, 8), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC' AS until) m
 WHERE i.inhparent = 'rotord.events'::regclass AND c.relname ~ '^events_[0-9]{4}_[0-9]{2}$'
   AND m.until <= statement_timestamp() - make_interval(days => $1)
   AND NOT EXISTS (
     SELECT
       FROM rotord.events e
      WHERE e.occurred_at >= m.since AND e.occurred_at < m.until
        AND e.id > (SELECT upto FROM rotord.stats_progress WHERE name = 'events'))
 ORDER BY c.relname
 LIMIT 1
"""

# Those that came when their month had no partition.
OTHER_EVENTS: Final = """
WITH old AS MATERIALIZED (
  SELECT id
    FROM rotord.events_other
   WHERE id <= (SELECT upto FROM rotord.stats_progress WHERE name = 'events')
     AND occurred_at < statement_timestamp() - make_interval(days => $1)
     AND received_at < statement_timestamp() - make_interval(days => $1)
   ORDER BY occurred_at
   LIMIT $2
), gone AS (
  DELETE FROM rotord.events_other
   WHERE id = ANY (ARRAY(SELECT id FROM old))
)
SELECT count(*) = $2
  FROM old
"""


async def delete_events(db: Executor, days: int) -> bool:
    """Drop a month that is wholly so old, and delete a batch of what has no month's partition; True when there may be more."""
    more = bool(await db.fetchval(OTHER_EVENTS, days, BATCH, timeout=STEP_S))
    name = await db.fetchval(OLD_MONTHS, days, timeout=STEP_S)
    if name is None:
        return more
    try:
        await db.execute(_drop(name), timeout=STEP_S)
    except asyncpg.LockNotAvailableError:  # somebody reads events for longer than others should wait behind us
        return more
    _log.info("events_dropped", month=name)
    return True


def _drop(partition: str) -> str:
    """Write a statement that has a name in it: DDL takes no parameters, and the name is one of OLD_MONTHS."""
    return f"SET LOCAL lock_timeout = '1s'; DROP TABLE rotord.{partition}"


POSTS: Final = """
WITH old AS MATERIALIZED (
  SELECT id
    FROM rotord.provider_posts
   WHERE received_at < statement_timestamp() - make_interval(days => $1) AND folded_at IS NOT NULL
   ORDER BY received_at
   LIMIT $2
), gone AS (
  DELETE FROM rotord.provider_posts
   WHERE id = ANY (ARRAY(SELECT id FROM old))
)
SELECT count(*) = $2
  FROM old
"""


async def delete_posts(db: Executor, days: int) -> bool:
    """Delete a batch of posts that came so long ago and were read; True when there may be more."""
    return bool(await db.fetchval(POSTS, days, BATCH, timeout=STEP_S))


@dataclass(frozen=True, slots=True)
class Rules:
    """Days that something is kept; 0 is for ever."""

    bodies: int = 0
    attempts: int = 0
    events: int = 0
    posts: int = 0


class PostgresRetention:
    """The leader's steps on its pool, one after the other; remembers how far it has come."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], rules: Rules) -> None:
        self._pool = pool
        self._rules = rules
        self._attempts_from = 0
        self._erasures_from = 0

    def steps(self) -> Mapping[str, Callable[[], Awaitable[bool]]]:
        """What is to be done again and again; each says whether there may be more."""
        pool, rules = self._pool, self._rules
        steps: dict[str, Callable[[], Awaitable[bool]]] = {"erase": self._erase}
        if rules.bodies:
            steps["blank bodies"] = lambda: blank_bodies(pool, rules.bodies)
        if rules.attempts:
            steps["delete attempts"] = self._delete_attempts
        if rules.events:
            steps["delete events"] = lambda: delete_events(pool, rules.events)
        if rules.posts:
            steps["delete posts"] = lambda: delete_posts(pool, rules.posts)
        return steps

    async def _erase(self) -> bool:
        self._erasures_from = await forget.erase_noted(self._pool, self._erasures_from)
        return self._erasures_from > 0

    async def _delete_attempts(self) -> bool:
        self._attempts_from = await delete_attempts(self._pool, self._rules.attempts, self._attempts_from)
        return self._attempts_from > 0
