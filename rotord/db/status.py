"""What `rotord status` shows, read in one snapshot and at a bounded price.

Owns no rows. The queue is counted exactly in one pass up to COUNT_EXACTLY rows and estimated from a sample of its pages
above; what was sent is a range of the ledger's primary key, whose ids are milliseconds << 20.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotord.db import alerts

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Record

#: rows of the queue that are counted one by one: about 0.3 s a million (measured on 2 cores)
COUNT_EXACTLY: Final = 2_000_000
#: rows looked at when the queue is longer: a count of a tenth of them is right to about 1 %
SAMPLE: Final = 500_000


@dataclass(frozen=True, slots=True)
class Leader:
    """The holder of the lease; `is_leading` is false when its term has run out and nobody has taken over."""

    node: str
    epoch: int
    elected_at: datetime
    expires_at: datetime
    is_leading: bool


@dataclass(frozen=True, slots=True)
class Status:
    """One snapshot. `queue_is_estimated` says that the counts of `queue` come from a sample."""

    at: datetime
    leader: Leader | None
    queue: list[Record]
    queue_is_estimated: bool
    sent: list[Record]
    addresses: list[Record]
    providers: list[Record]
    pauses: list[Record]
    alerts: list[Record]
    bodies_blanked_upto: datetime | None


async def read(conn: Connection) -> Status:
    """Read everything as of one moment."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        leader = await conn.fetchrow(LEADER)
        size = await conn.fetchval(QUEUE_SIZE)
        is_estimated = size > COUNT_EXACTLY
        queue = await (conn.fetch(QUEUE_SAMPLED, 100.0 * SAMPLE / size) if is_estimated else conn.fetch(QUEUE))
        return Status(
            at=await conn.fetchval(NOW),
            leader=Leader(**leader) if leader else None,
            queue=queue,
            queue_is_estimated=is_estimated,
            sent=await conn.fetch(SENT),
            addresses=await conn.fetch(ADDRESSES),
            providers=await conn.fetch(PROVIDERS),
            pauses=await conn.fetch(PAUSES),
            alerts=await alerts.open_alerts(conn),
            bodies_blanked_upto=await conn.fetchval(BLANKED),
        )


NOW: Final = """
SELECT now()
"""

LEADER: Final = """
SELECT node, epoch, elected_at, expires_at, expires_at > now() AS is_leading
FROM rotord.lease
WHERE epoch > 0
"""

BLANKED: Final = """
SELECT upto
FROM rotord.retention_progress
WHERE name = 'bodies' AND id > 0
"""

# The planner's own estimate: the rows a page had at the last vacuum, times the pages there are now.
QUEUE_SIZE: Final = """
SELECT CASE
         WHEN reltuples <= 0 THEN 0
         ELSE reltuples / relpages * pg_relation_size(oid) / current_setting('block_size')::integer
       END::bigint
FROM pg_class
WHERE oid = 'rotord.queue'::regclass
"""

QUEUE: Final = """
SELECT client,
       count(*) FILTER (WHERE state = 'queued') AS queued,
       count(*) FILTER (WHERE state = 'scheduled' AND attempts = 0) AS scheduled,
       count(*) FILTER (WHERE state = 'scheduled' AND attempts > 0) AS deferred,
       count(*) FILTER (WHERE state = 'waiting') AS waiting,
       count(*) FILTER (WHERE state = 'sending') AS sending,
       count(*) FILTER (WHERE state = 'uncertain') AS uncertain,
       min(due_at) FILTER (WHERE state = 'queued') AS oldest_due_at
FROM rotord.queue
GROUP BY client
ORDER BY client
"""

# sending and uncertain are few, so they are never left to a sample
QUEUE_SAMPLED: Final = """
SELECT client,
       round(count(*) FILTER (WHERE state = 'queued') * 100 / $1::float8)::bigint AS queued,
       round(count(*) FILTER (WHERE state = 'scheduled' AND attempts = 0) * 100 / $1::float8)::bigint AS scheduled,
       round(count(*) FILTER (WHERE state = 'scheduled' AND attempts > 0) * 100 / $1::float8)::bigint AS deferred,
       round(count(*) FILTER (WHERE state = 'waiting') * 100 / $1::float8)::bigint AS waiting,
       round(count(*) FILTER (WHERE state = 'sending') * 100 / $1::float8)::bigint AS sending,
       (SELECT count(*) FROM rotord.queue AS u WHERE u.state = 'uncertain' AND u.client = q.client) AS uncertain,
       min(due_at) FILTER (WHERE state = 'queued') AS oldest_due_at
FROM rotord.queue AS q TABLESAMPLE SYSTEM ($1::float8)
GROUP BY client
ORDER BY client
"""

# By the begin, which the id carries; an attempt that began 25 h ago and took an hour is not looked for. The borders are computed
# once: a comparison with an expression would compute it for each of a day's attempts, at half the statement's price.
SENT: Final = """
WITH first AS MATERIALIZED (
  SELECT (extract(epoch FROM now() - interval '1 hour') * 1000)::bigint << 20 AS of_hour,
         (extract(epoch FROM now() - interval '24 hours') * 1000)::bigint << 20 AS of_day
)
SELECT client, count(*) FILTER (WHERE id >= (SELECT of_hour FROM first)) AS last_hour, count(*) AS last_day
FROM rotord.attempts
WHERE id >= (SELECT of_day FROM first)
  AND outcome = 'accepted'
GROUP BY client
ORDER BY client
"""

# As in rotord.address_status: the strictest word on the address, its domain or its client.
ADDRESSES: Final = """
SELECT CASE
         WHEN 'disabled' IN (a.status, d.status, c.status, a.health, d.health) THEN 'disabled'
         WHEN 'paused' IN (a.status, d.status, c.status) THEN 'paused'
         WHEN 'cooling' IN (a.health, d.health) THEN 'cooling'
         WHEN 'probation' IN (a.health, d.health) THEN 'probation'
         WHEN 'suspicious' IN (a.health, d.health) THEN 'suspicious'
         ELSE 'healthy'
       END AS state,
       count(*) AS addresses
FROM rotord.addresses AS a
JOIN rotord.domains AS d ON d.name = a.domain
JOIN rotord.clients AS c ON c.slug = d.client
GROUP BY state
ORDER BY addresses DESC, state
"""

PROVIDERS: Final = """
SELECT provider, kind, up, ready, in_flight, capacity, reason, since, next_try_at, updated_at
FROM rotord.provider_status
ORDER BY provider
"""

PAUSES: Final = """
SELECT kind, name, paused_at
FROM rotord.pauses
UNION ALL
SELECT 'campaign', client || '/' || name, NULL
FROM rotord.campaigns
WHERE status = 'paused'
UNION ALL
SELECT 'client', slug, NULL
FROM rotord.clients
WHERE status = 'paused'
UNION ALL
SELECT 'domain', name, NULL
FROM rotord.domains
WHERE status = 'paused'
ORDER BY kind, name
"""
