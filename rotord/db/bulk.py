"""Many messages at once: tried again, or called back.

Owns the way from `failed` and `suppressed` back into the queue, and the waking of deferred messages; calling back is the
app's own UPDATE of `cancelled_at`, so the trigger of that column decides. Works in batches of BATCH, each its own
transaction, so that a campaign of a million blocks nobody; what is done when it is interrupted stays done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Record

#: messages a transaction: some 100 ms of locks on rows that the dispatcher skips meanwhile
BATCH: Final = 5_000

#: what a retry can take; `queued` are those that were deferred
RETRYABLE: Final = ("failed", "queued", "suppressed")
#: what a cancel can take
CANCELLABLE: Final = ("queued", "sending", "uncertain")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages; None does not narrow. `since` is when they were settled, of live ones when they were inserted."""

    statuses: frozenset[str]
    client: str | None = None
    campaign: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """How many would be taken, and the first few."""

    count: int
    sample: list[Record]


@dataclass(frozen=True, slots=True)
class Retried:
    """How many went back into the queue, how many deferred ones became due."""

    requeued: int
    woken: int


PREVIEW_RETRY: Final = """
WITH chosen AS MATERIALIZED (
  SELECT m.id
  FROM rotord.message_state AS m
  JOIN rotord.outbox AS o ON o.id = m.id
  WHERE m.status = ANY($1::text[])
    AND ($2::text IS NULL OR m.client = $2)
    AND ($3::text IS NULL OR o.campaign = $3)
    AND ($4::timestamptz IS NULL OR m.settled_at >= $4)
    AND o.blanked_at IS NULL
    AND o.cancelled_at IS NULL
    AND (o.expires_at IS NULL OR o.expires_at > now())
  UNION ALL
  SELECT q.id
  FROM rotord.queue AS q
  WHERE 'queued' = ANY($1::text[])
    AND q.state = 'scheduled'
    AND q.attempts > 0
    AND ($2::text IS NULL OR q.client = $2)
    AND ($3::text IS NULL OR q.campaign = $3)
    AND ($4::timestamptz IS NULL OR (SELECT o.created_at FROM rotord.outbox AS o WHERE o.id = q.id) >= $4)
)
SELECT v.id, v.client, v.campaign, v.recipient, v.status, v.attempts, v.last_error, (SELECT count(*) FROM chosen) AS total
FROM (SELECT id FROM chosen ORDER BY id LIMIT $5) AS first
JOIN rotord.messages AS v ON v.id = first.id
ORDER BY v.id
"""


async def preview_retry(conn: Connection, chosen: Filter, *, sample: int = 10) -> Preview:
    """Tell what `retry` would do now."""
    return await _preview(conn, PREVIEW_RETRY, chosen, sample)


# Not what can never leave: blanked (its body is gone), called back, expired. The new row of the queue is as the trigger
# outbox_inserted made the first one, but due now; in a thread it waits for whatever of it is not settled.
REQUEUE: Final = """
WITH chosen AS (
  SELECT m.id
  FROM rotord.message_state AS m
  JOIN rotord.outbox AS o ON o.id = m.id
  WHERE m.id > $5
    AND m.status = ANY($1::text[])
    AND ($2::text IS NULL OR m.client = $2)
    AND ($3::text IS NULL OR o.campaign = $3)
    AND ($4::timestamptz IS NULL OR m.settled_at >= $4)
    AND o.blanked_at IS NULL
    AND o.cancelled_at IS NULL
    AND (o.expires_at IS NULL OR o.expires_at > clock_timestamp())
  ORDER BY m.id
  LIMIT $6
  FOR UPDATE OF m SKIP LOCKED
), unsettled AS (
  DELETE FROM rotord.message_state AS m
  USING chosen
  WHERE m.id = chosen.id
  RETURNING m.id, m.attempts, m.message_id, m.last_error
), message AS (
  SELECT o.*, u.attempts, u.message_id, u.last_error,
         min(o.id) OVER (PARTITION BY o.client, o.thread_key) AS first_of_thread,
         (SELECT t.sender
          FROM rotord.threads AS t
          WHERE t.client = o.client AND t.thread_key = o.thread_key) AS thread_sender,
         EXISTS (SELECT
                 FROM rotord.queue AS q
                 WHERE q.client = o.client AND q.thread_key = o.thread_key AND q.state <> 'uncertain') AS thread_is_live
  FROM unsettled AS u
  JOIN rotord.outbox AS o ON o.id = u.id
), requeued AS (
  INSERT INTO rotord.queue (id, client, stream, kind, campaign, pin, pin_kind, state, rank, due_at, recipient, bytes,
                            attempts, thread_key, expires_at, message_id, last_error)
  SELECT id, client, stream, kind, coalesce(campaign, ''), coalesce(rotord.lower_case(sender), thread_sender, ''),
         CASE WHEN sender IS NOT NULL THEN 'sender' WHEN thread_sender IS NOT NULL THEN 'thread' ELSE '' END,
         CASE WHEN thread_key IS NOT NULL AND (thread_is_live OR first_of_thread < id) THEN 'waiting' ELSE 'queued' END,
         -priority, clock_timestamp(), rotord.lower_case(recipient),
         4096 + coalesce(octet_length(body_text), 0) + coalesce(octet_length(body_html), 0)
           + octet_length(headers::text) + octet_length(attachments::text),
         attempts, thread_key, expires_at, message_id, last_error
  FROM message
  RETURNING id
)
SELECT max(id) AS last, (SELECT count(*) FROM requeued) AS done
FROM chosen
"""

WAKE_DEFERRED: Final = """
WITH chosen AS (
  SELECT q.id
  FROM rotord.queue AS q
  WHERE q.id > $5
    AND 'queued' = ANY($1::text[])
    AND q.state = 'scheduled'
    AND q.attempts > 0
    AND ($2::text IS NULL OR q.client = $2)
    AND ($3::text IS NULL OR q.campaign = $3)
    AND ($4::timestamptz IS NULL OR (SELECT o.created_at FROM rotord.outbox AS o WHERE o.id = q.id) >= $4)
  ORDER BY q.id
  LIMIT $6
  FOR UPDATE OF q SKIP LOCKED
), woken AS (
  UPDATE rotord.queue AS q
  SET state = 'queued', due_at = clock_timestamp()
  FROM chosen
  WHERE q.id = chosen.id
  RETURNING q.id
)
SELECT max(id) AS last, (SELECT count(*) FROM woken) AS done
FROM chosen
"""


async def retry(conn: Connection, chosen: Filter) -> Retried:
    """Put back what failed and can still be sent, make due what was deferred, and wake the daemon after each batch."""
    return Retried(
        requeued=await _in_batches(conn, REQUEUE, chosen),
        woken=await _in_batches(conn, WAKE_DEFERRED, chosen),
    )


PREVIEW_CANCEL: Final = """
WITH chosen AS MATERIALIZED (
  SELECT q.id
  FROM rotord.queue AS q
  WHERE CASE WHEN q.state IN ('sending', 'uncertain') THEN q.state ELSE 'queued' END = ANY($1::text[])
    AND ($2::text IS NULL OR q.client = $2)
    AND ($3::text IS NULL OR q.campaign = $3)
    AND ($4::timestamptz IS NULL OR (SELECT o.created_at FROM rotord.outbox AS o WHERE o.id = q.id) >= $4)
    AND (q.state NOT IN ('sending', 'uncertain') OR (SELECT o.cancelled_at FROM rotord.outbox AS o WHERE o.id = q.id) IS NULL)
)
SELECT v.id, v.client, v.campaign, v.recipient, v.status, v.attempts, v.last_error, (SELECT count(*) FROM chosen) AS total
FROM (SELECT id FROM chosen ORDER BY id LIMIT $5) AS first
JOIN rotord.messages AS v ON v.id = first.id
ORDER BY v.id
"""


async def preview_cancel(conn: Connection, chosen: Filter, *, sample: int = 10) -> Preview:
    """Tell what `cancel` would do now."""
    return await _preview(conn, PREVIEW_CANCEL, chosen, sample)


CANCEL: Final = """
WITH chosen AS (
  SELECT q.id
  FROM rotord.queue AS q
  WHERE q.id > $5
    AND CASE WHEN q.state IN ('sending', 'uncertain') THEN q.state ELSE 'queued' END = ANY($1::text[])
    AND ($2::text IS NULL OR q.client = $2)
    AND ($3::text IS NULL OR q.campaign = $3)
    AND ($4::timestamptz IS NULL OR (SELECT o.created_at FROM rotord.outbox AS o WHERE o.id = q.id) >= $4)
    AND (q.state NOT IN ('sending', 'uncertain') OR (SELECT o.cancelled_at FROM rotord.outbox AS o WHERE o.id = q.id) IS NULL)
  ORDER BY q.id
  LIMIT $6
), cancelled AS (
  UPDATE rotord.outbox AS o
  SET cancelled_at = clock_timestamp()
  FROM chosen
  WHERE o.id = chosen.id AND o.cancelled_at IS NULL
  RETURNING o.id
)
SELECT max(id) AS last, (SELECT count(*) FROM cancelled) AS done
FROM chosen
"""


async def cancel(conn: Connection, chosen: Filter) -> int:
    """Call back what matches and count it; what is on the wire may still arrive, but is not sent again."""
    return await _in_batches(conn, CANCEL, chosen)


WAKE: Final = """
SELECT pg_notify('rotord_outbox', '')
"""


async def _in_batches(conn: Connection, statement: str, chosen: Filter) -> int:
    """Run a statement of a batch until it finds nothing above the last id it saw."""
    done, last = 0, 0
    while True:
        batch = await conn.fetchrow(statement, [*chosen.statuses], chosen.client, chosen.campaign, chosen.since, last, BATCH)
        if batch is None or batch["last"] is None:
            return done
        done, last = done + batch["done"], batch["last"]
        await conn.execute(WAKE)


async def _preview(conn: Connection, statement: str, chosen: Filter, sample: int) -> Preview:
    rows = await conn.fetch(statement, [*chosen.statuses], chosen.client, chosen.campaign, chosen.since, sample)
    return Preview(count=rows[0]["total"] if rows else 0, sample=rows)
