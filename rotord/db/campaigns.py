"""Campaigns: what a person says of them, what became of them, and what is called back.

Owns `rotord.campaigns` with db.control (pause and resume). They begin with the first message that names them, by a trigger. A cancelled
one's messages are called back as an app does it, by `cancelled_at`: here what was queued when it was cancelled or has ripened since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    from rotord.db.executor import Executor

#: messages a statement
BATCH: Final = 1_000

# An active campaign without a live message is shown as done. The queue is read once, whatever the number of campaigns.
LIST: Final = """
WITH live AS (
  SELECT client, campaign, count(*) AS queued
    FROM rotord.queue
   WHERE campaign <> '' AND ($1::text IS NULL OR client = $1) AND ($2::text IS NULL OR campaign = $2)
   GROUP BY client, campaign
)
SELECT s.client, s.campaign, CASE WHEN s.status = 'active' AND l.queued IS NULL THEN 'done' ELSE s.status END AS status,
       c.sending_window, c.per_hour, c.per_day, c.stop_on_reply, coalesce(l.queued, 0) AS queued, s.sent, s.delivered, s.bounced,
       s.complained, s.replied, s.unsubscribed, s.created_at
  FROM rotord.campaign_stats s
  JOIN rotord.campaigns c ON c.client = s.client AND c.name = s.campaign
  LEFT JOIN live l ON l.client = s.client AND l.campaign = s.campaign
 WHERE ($1::text IS NULL OR s.client = $1) AND ($2::text IS NULL OR s.campaign = $2)
 ORDER BY s.client, s.created_at, s.campaign
"""


async def find(conn: Connection, client: str | None = None, name: str | None = None) -> list[Record]:
    """Read the campaigns with what became of their messages so far."""
    return await conn.fetch(LIST, client, name)


DAYS: Final = """
SELECT day, sum(sent) AS sent, sum(delivered) AS delivered, sum(bounced) AS bounced, sum(complained) AS complained,
       sum(replied) AS replied, sum(unsubscribed) AS unsubscribed
  FROM rotord.daily_stats
 WHERE client = $1 AND campaign = $2 AND campaign <> ''
 GROUP BY day
 ORDER BY day
"""


async def days(conn: Connection, client: str, name: str) -> list[Record]:
    """Read a campaign day by day, in the client's time zone."""
    return await conn.fetch(DAYS, client, name)


NAMES: Final = """
SELECT name
  FROM rotord.campaigns
 WHERE client = $1
"""


async def names(conn: Connection, client: str) -> list[Record]:
    """Read the names of a client's campaigns."""
    return await conn.fetch(NAMES, client)


MAKE: Final = """
INSERT INTO rotord.campaigns (client, name)
VALUES ($1, $2)
ON CONFLICT DO NOTHING
"""


async def make(conn: Connection, client: str, name: str) -> None:
    """Make a campaign before its first message does."""
    await conn.execute(MAKE, client, name)


SET: Final = """
UPDATE rotord.campaigns
   SET status = coalesce($3, status),
       sending_window = CASE WHEN $4::text IS NULL THEN sending_window ELSE nullif($4, '') END,
       stop_on_reply = coalesce($5, stop_on_reply),
       per_hour = nullif(coalesce($6::integer, per_hour), -1),
       per_day = nullif(coalesce($7::integer, per_day), -1)
 WHERE client = $1 AND name = $2
RETURNING status, sending_window, stop_on_reply, per_hour, per_day
"""


#: says of a limit that there is none
NO_LIMIT: Final = -1


async def change(
    db: Executor,
    client: str,
    name: str,
    *,
    status: str | None = None,
    window: str | None = None,
    stop_on_reply: bool | None = None,
    per_hour: int | None = None,
    per_day: int | None = None,
) -> Record | None:
    """Change what is given (a window of '' is none, NO_LIMIT no limit); None when there is no such campaign."""
    return await db.fetchrow(SET, client, name, status, window, stop_on_reply, per_hour, per_day)


# Asked about once a minute: lanes that have queued rows, of campaigns that were cancelled. Their scheduled ones come when they ripen.
SWEEP: Final = """
WITH RECURSIVE lanes AS (
  (SELECT lane, client, campaign
     FROM rotord.queue
    WHERE state = 'queued'
    ORDER BY lane
    LIMIT 1)
  UNION ALL
  (SELECT n.lane, n.client, n.campaign
     FROM lanes l
    CROSS JOIN LATERAL (
      SELECT lane, client, campaign
        FROM rotord.queue
       WHERE state = 'queued' AND lane > l.lane
       ORDER BY lane
       LIMIT 1) n)
), chosen AS (
  SELECT q.id
    FROM lanes l
    JOIN rotord.campaigns c ON c.client = l.client AND c.name = l.campaign AND c.status = 'cancelled'
   CROSS JOIN LATERAL (
     SELECT id
       FROM rotord.queue
      WHERE state = 'queued' AND lane = l.lane
      ORDER BY rank, due_at, id
      LIMIT $1) q
   LIMIT $1
), back AS (
  UPDATE rotord.outbox
     SET cancelled_at = clock_timestamp()
   WHERE id = ANY (ARRAY(SELECT id FROM chosen)) AND cancelled_at IS NULL
  RETURNING id
)
SELECT count(*)
  FROM back
"""

ANY_CANCELLED: Final = """
SELECT EXISTS (SELECT FROM rotord.campaigns WHERE status = 'cancelled')
"""


async def sweep(db: Executor) -> int:
    """Call back what is queued in cancelled campaigns, a batch at a time, and count it."""
    if not await db.fetchval(ANY_CANCELLED):
        return 0
    done = 0
    while True:
        count: int = await db.fetchval(SWEEP, BATCH)
        done += count
        if not count:
            return done


REPLIED: Final = """
SELECT o.client, o.campaign, rotord.lower_case(o.recipient)
  FROM rotord.outbox o
  JOIN rotord.campaigns c ON c.client = o.client AND c.name = o.campaign AND c.stop_on_reply
 WHERE o.id = $1
"""

# Found by the recipient, who has a few messages, never by the campaign, which has a million.
STOP_ON_REPLY: Final = """
WITH theirs AS MATERIALIZED (
  SELECT id, client, campaign, cancelled_at
    FROM rotord.outbox
   WHERE rotord.lower_case(recipient) = $3
), chosen AS (
  SELECT t.id
    FROM theirs t
   WHERE t.client = $1 AND t.campaign = $2 AND t.cancelled_at IS NULL
     AND EXISTS (SELECT FROM rotord.queue q WHERE q.id = t.id)
), back AS (
  UPDATE rotord.outbox
     SET cancelled_at = clock_timestamp()
   WHERE id = ANY (ARRAY(SELECT id FROM chosen)) AND cancelled_at IS NULL
  RETURNING id
)
SELECT count(*)
  FROM back
"""


async def stop_on_reply(db: Executor, outbox_id: int) -> int:
    """A message was replied to: if its campaign says so, call back what is queued of it for that recipient, and count it. Repeatable."""
    replied = await db.fetchrow(REPLIED, outbox_id)
    if replied is None:
        return 0
    count: int = await db.fetchval(STOP_ON_REPLY, *replied)
    return count
