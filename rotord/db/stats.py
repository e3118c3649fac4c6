"""Statistics, kept as things happen: each accepted attempt, event and unsubscribe is counted once into `rotord.daily_stats`.

Owns the counting and how far it has read (`stats_progress`, `stats_open`). The begin and settle statements pay nothing for it: a loop of
the leader's reads what they have written, some time later. One statement counts and moves on, so a crash counts nothing twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotord.db.ledger import ID_SHIFT

if TYPE_CHECKING:
    from rotord.db.executor import Executor

#: rows a statement: some 100 ms
BATCH: Final = 5_000
#: Attempts are counted when they are this old. Their ids are made before they are committed; no begin takes longer than its connection
#: may wait for an answer (30 s).
SETTLE_S: Final = 60.0

# Not settled yet, or uncertain: kept in stats_open and looked at again. Only what this statement deleted there is counted, so that two
# leaders at once (the older one is about to learn it) count nothing twice.
ATTEMPTS: Final = """
WITH progress AS MATERIALIZED (
  SELECT upto
    FROM rotord.stats_progress
   WHERE name = 'attempts'
     FOR UPDATE
), fresh AS MATERIALIZED (
  SELECT a.id, a.outbox_id, a.outcome
    FROM progress p
   CROSS JOIN LATERAL (
     SELECT id, outbox_id, outcome
       FROM rotord.attempts
      WHERE id > p.upto AND id < $1
      ORDER BY id
      LIMIT $2) a
), late AS (
  DELETE FROM rotord.stats_open o
   USING rotord.attempts a
   WHERE a.id = o.attempt_id AND a.outcome <> 'uncertain'
  RETURNING a.id, a.outcome
), opened AS (
  INSERT INTO rotord.stats_open (attempt_id)
  SELECT id
    FROM fresh
   WHERE outcome IS NULL OR outcome = 'uncertain'
  ON CONFLICT DO NOTHING
), moved AS (
  UPDATE rotord.stats_progress
     SET upto = f.last
    FROM (SELECT max(id) AS last FROM fresh) f
   WHERE name = 'attempts' AND f.last IS NOT NULL
), counted AS (
  SELECT (coalesce(a.finished_at, a.began_at) AT TIME ZONE c.timezone)::date AS day, a.client, o.stream,
         coalesce(o.campaign, '') AS campaign, a.domain, a.address, a.provider, count(*) AS sent
    FROM (SELECT id FROM fresh WHERE outcome = 'accepted'
          UNION ALL
          SELECT id FROM late WHERE outcome = 'accepted') w
    JOIN rotord.attempts a ON a.id = w.id
    JOIN rotord.outbox o ON o.id = a.outbox_id
    JOIN rotord.clients c ON c.slug = a.client
   GROUP BY 1, 2, 3, 4, 5, 6, 7
   ORDER BY 2, 1, 4, 3, 5, 6, 7
), added AS (
  INSERT INTO rotord.daily_stats AS d (day, client, stream, campaign, domain, address, provider, sent)
  SELECT day, client, stream, campaign, domain, address, provider, sent
    FROM counted
  ON CONFLICT (client, day, campaign, stream, domain, address, provider) DO UPDATE SET sent = d.sent + excluded.sent
)
SELECT count(*)
  FROM fresh
"""

# Of several events that say the same of a message (a provider that tells each open connection) the first one counts. The address is the
# attempt's that the event names, else the newest one's.
EVENTS: Final = """
WITH progress AS MATERIALIZED (
  SELECT upto
    FROM rotord.stats_progress
   WHERE name = 'events'
     FOR UPDATE
), fresh AS MATERIALIZED (
  SELECT e.id, e.outbox_id, e.attempt_id, e.occurred_at, CASE e.kind WHEN 'dropped' THEN 'bounced' ELSE e.kind END AS kind
    FROM progress p
   CROSS JOIN LATERAL (
     SELECT id, outbox_id, attempt_id, occurred_at, kind
       FROM rotord.events
      WHERE id > p.upto
      ORDER BY id
      LIMIT $1) e
), moved AS (
  UPDATE rotord.stats_progress
     SET upto = f.last
    FROM (SELECT max(id) AS last FROM fresh) f
   WHERE name = 'events' AND f.last IS NOT NULL
), first AS (
  SELECT DISTINCT ON (f.outbox_id, f.kind) f.outbox_id, f.kind, f.attempt_id, f.occurred_at
    FROM fresh f
   WHERE f.outbox_id IS NOT NULL
     AND f.kind IN ('delivered', 'bounced', 'complained', 'replied', 'unsubscribed')
     AND NOT EXISTS (
       SELECT
         FROM rotord.events e
        WHERE e.outbox_id = f.outbox_id AND e.id < f.id AND CASE e.kind WHEN 'dropped' THEN 'bounced' ELSE e.kind END = f.kind)
   ORDER BY f.outbox_id, f.kind, f.id
), counted AS (
  SELECT (f.occurred_at AT TIME ZONE c.timezone)::date AS day, a.client, o.stream, coalesce(o.campaign, '') AS campaign, a.domain,
         a.address, a.provider,
         count(*) FILTER (WHERE f.kind = 'delivered') AS delivered,
         count(*) FILTER (WHERE f.kind = 'bounced') AS bounced,
         count(*) FILTER (WHERE f.kind = 'complained') AS complained,
         count(*) FILTER (WHERE f.kind = 'replied') AS replied,
         count(*) FILTER (WHERE f.kind = 'unsubscribed') AS unsubscribed
    FROM first f
    JOIN rotord.outbox o ON o.id = f.outbox_id
    JOIN rotord.clients c ON c.slug = o.client
   CROSS JOIN LATERAL (
     SELECT client, domain, address, provider
       FROM rotord.attempts
      WHERE outbox_id = f.outbox_id
      ORDER BY id IS NOT DISTINCT FROM f.attempt_id DESC, id DESC
      LIMIT 1) a
   GROUP BY 1, 2, 3, 4, 5, 6, 7
   ORDER BY 2, 1, 4, 3, 5, 6, 7
), added AS (
  INSERT INTO rotord.daily_stats AS d
         (day, client, stream, campaign, domain, address, provider, delivered, bounced, complained, replied, unsubscribed)
  SELECT day, client, stream, campaign, domain, address, provider, delivered, bounced, complained, replied, unsubscribed
    FROM counted
  ON CONFLICT (client, day, campaign, stream, domain, address, provider) DO UPDATE
     SET delivered = d.delivered + excluded.delivered, bounced = d.bounced + excluded.bounced,
         complained = d.complained + excluded.complained, replied = d.replied + excluded.replied,
         unsubscribed = d.unsubscribed + excluded.unsubscribed
)
SELECT count(*)
  FROM fresh
"""

UNSUBSCRIBES: Final = """
WITH fresh AS (
  UPDATE rotord.unsubscribes
     SET counted = true
   WHERE outbox_id IN (SELECT outbox_id FROM rotord.unsubscribes WHERE NOT counted LIMIT $1 FOR UPDATE SKIP LOCKED) AND NOT counted
  RETURNING outbox_id, at
), counted AS (
  SELECT (f.at AT TIME ZONE c.timezone)::date AS day, a.client, o.stream, coalesce(o.campaign, '') AS campaign, a.domain, a.address,
         a.provider, count(*) AS unsubscribed
    FROM fresh f
    JOIN rotord.outbox o ON o.id = f.outbox_id
    JOIN rotord.clients c ON c.slug = o.client
   CROSS JOIN LATERAL (
     SELECT client, domain, address, provider
       FROM rotord.attempts
      WHERE outbox_id = f.outbox_id
      ORDER BY id DESC
      LIMIT 1) a
   GROUP BY 1, 2, 3, 4, 5, 6, 7
   ORDER BY 2, 1, 4, 3, 5, 6, 7
), added AS (
  INSERT INTO rotord.daily_stats AS d (day, client, stream, campaign, domain, address, provider, unsubscribed)
  SELECT day, client, stream, campaign, domain, address, provider, unsubscribed
    FROM counted
  ON CONFLICT (client, day, campaign, stream, domain, address, provider) DO UPDATE SET unsubscribed = d.unsubscribed + excluded.unsubscribed
)
SELECT count(*)
  FROM fresh
"""


async def roll_up(db: Executor, now: float) -> None:
    """Count all that is there to count. Each kind by itself: attempts begin with a look at every open one, events need none of that."""
    upto = int((now - SETTLE_S) * 1000) << ID_SHIFT
    for statement, arguments in ((ATTEMPTS, (upto, BATCH)), (EVENTS, (BATCH,)), (UNSUBSCRIBES, (BATCH,))):
        while await db.fetchval(statement, *arguments) == BATCH:
            pass
