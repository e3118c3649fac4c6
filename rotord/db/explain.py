"""What `rotord why` reads: one message or address as it stands, who leads, how the providers are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record

MESSAGE = """
SELECT m.id, m.client, m.recipient, m.kind, m.status, m.delivery, m.sender, m.provider, m.attempts, m.last_error,
       m.created_at, m.sent_at, m.settled_at, o.stream, coalesce(o.campaign, '') AS campaign, o.thread_key,
       q.state, q.pin, q.pin_kind, q.due_at, q.expires_at, o.cancelled_at, q.attempt, o.on_uncertain, q.looked_up_at, q.look_ups,
       o.blanked_at, clock_timestamp() AS now,
       (SELECT row_to_json(s)
          FROM (SELECT s.client, s.reason, s.source, s.created_at
                  FROM rotord.suppressions s
                 WHERE lower(s.recipient) = ANY (ARRAY[lower(o.recipient),
                         rotord.forgotten_name(o.recipient, (SELECT value FROM rotord.keys WHERE name = 'forget'))])
                   AND (s.client IS NULL OR s.client = o.client)
                   AND (o.kind = 'bulk' OR s.reason IN ('hard_bounce', 'manual'))
                 ORDER BY s.created_at
                 LIMIT 1) s)::text AS suppression,
       (SELECT min(e.id)
          FROM rotord.queue e
         WHERE e.client = q.client AND e.thread_key = q.thread_key AND e.state <> 'uncertain' AND e.id < q.id) AS behind
  FROM rotord.messages m
  JOIN rotord.outbox o ON o.id = m.id
  LEFT JOIN rotord.queue q ON q.id = m.id
 WHERE m.id = $1
"""


async def message(conn: Connection, outbox_id: int) -> Record | None:
    """A message, its place in the queue if it is live, and a suppression that covers it."""
    return await conn.fetchrow(MESSAGE, outbox_id)


ATTEMPT = """
SELECT number, address, provider, began_at, deadline_at, finished_at, outcome, blame, code, reply
  FROM rotord.attempts
 WHERE id = $1
"""


async def attempt(conn: Connection, attempt_id: int) -> Record | None:
    """One row of the ledger."""
    return await conn.fetchrow(ATTEMPT, attempt_id)


LEADER = """
SELECT node, epoch, expires_at, expires_at > clock_timestamp() AS is_leading
  FROM rotord.lease
 WHERE name = 'main'
"""


async def leader(conn: Connection) -> Record | None:
    """Who holds the lease, or held it last."""
    return await conn.fetchrow(LEADER)


PROVIDERS = """
SELECT provider, up, ready, in_flight, capacity, reason, next_try_at, limits::text,
       updated_at > clock_timestamp() - interval '1 minute' AS is_fresh
  FROM rotord.provider_status
"""


async def providers(conn: Connection) -> list[Record]:
    """How the providers are, as the leader last said."""
    return await conn.fetch(PROVIDERS)


HEALTH_REASON = """
SELECT health_reason
  FROM rotord.addresses
 WHERE $1 = 'address' AND email = $2 AND health IN ('cooling', 'disabled') AND status = 'active'
UNION ALL
SELECT health_reason
  FROM rotord.domains
 WHERE $1 = 'domain' AND name = $2 AND health IN ('cooling', 'disabled') AND status = 'active'
"""


async def health_reason(conn: Connection, scope: str, name: str) -> str | None:
    """Why rotord rests this address or domain; None when it does not, or gave no reason."""
    reason: str | None = await conn.fetchval(HEALTH_REASON, scope, name)
    return reason


# The lanes by a loose index scan as in queue.LANES, and of each at most $2 rows: nobody needs to know how far beyond a thousand it goes.
BACKLOG = """
WITH RECURSIVE lanes AS (
  (SELECT lane, client, stream, kind, campaign, pin, pin_kind
     FROM rotord.queue
    WHERE state = 'queued'
    ORDER BY lane
    LIMIT 1)
  UNION ALL
  (SELECT n.lane, n.client, n.stream, n.kind, n.campaign, n.pin, n.pin_kind
     FROM lanes l
    CROSS JOIN LATERAL (
      SELECT lane, client, stream, kind, campaign, pin, pin_kind
        FROM rotord.queue
       WHERE state = 'queued' AND lane > l.lane
       ORDER BY lane
       LIMIT 1) n)
)
SELECT l.stream, l.kind, l.campaign, l.pin, l.pin_kind, counted.messages
  FROM lanes l
 CROSS JOIN LATERAL (
   SELECT count(*) AS messages
     FROM (SELECT lane
             FROM rotord.queue
            WHERE state = 'queued' AND lane = l.lane
            ORDER BY lane
            LIMIT $2) few) counted
 WHERE l.client = $1
 ORDER BY counted.messages DESC
"""


async def backlog(conn: Connection, client: str, at_most: int) -> list[Record]:
    """A client's ready rows by lane, the fullest first; each lane is counted to `at_most`."""
    return await conn.fetch(BACKLOG, client, at_most)
