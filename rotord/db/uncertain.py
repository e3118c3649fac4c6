"""Messages whose fate is not known, and a person's verdict on them.

Owns the way out of state `uncertain` by hand: `sent` settles a message as if its provider had accepted it, `not-sent`
puts it back into the queue (or cancels it, if it was called back meanwhile). One transaction holds the attempt, the
queue, the outcome and the thread; whoever settles the message first wins, the other finds nothing to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from asyncpg import Connection, Record


class Verdict(StrEnum):
    """What a person found out."""

    SENT = "sent"
    NOT_SENT = "not-sent"


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of the messages: their ids by their new status."""

    sent: tuple[int, ...] = ()
    queued: tuple[int, ...] = ()
    cancelled: tuple[int, ...] = ()

    @property
    def ids(self) -> frozenset[int]:
        """All that were resolved; an id that was asked for and is missing here was not uncertain."""
        return frozenset(self.sent + self.queued + self.cancelled)


PROVIDERS: Final = """
SELECT DISTINCT a.provider
FROM rotord.queue AS q
JOIN rotord.attempts AS a ON a.id = q.attempt
WHERE q.state = 'uncertain'
"""


async def providers(conn: Connection) -> set[str]:
    """Name the providers that may have an uncertain message, also those that the configuration has no longer."""
    return {row["provider"] for row in await conn.fetch(PROVIDERS)}


FIND: Final = """
SELECT q.id, q.client, q.campaign, o.recipient, a.address AS sender, a.provider, a.began_at, a.code, a.reply, q.message_id,
       o.on_uncertain, o.cancelled_at IS NOT NULL AS cancelled, clock_timestamp() - a.began_at AS age,
       least(a.finished_at, a.deadline_at) AS over_at, CASE WHEN q.looked_up_at >= a.began_at THEN q.looked_up_at END AS looked_up_at,
       CASE WHEN q.looked_up_at >= a.began_at THEN q.look_ups ELSE 0 END AS look_ups, clock_timestamp() AS now
FROM rotord.queue AS q
JOIN rotord.outbox AS o ON o.id = q.id
LEFT JOIN rotord.attempts AS a ON a.id = q.attempt
WHERE q.state = 'uncertain'
  AND ($1::text IS NULL OR q.client = $1)
  AND ($2::text IS NULL OR a.provider = $2)
  AND ($3::interval IS NULL OR a.began_at <= clock_timestamp() - $3)
ORDER BY q.id
LIMIT $4
"""


async def find(
    conn: Connection,
    *,
    client: str | None = None,
    provider: str | None = None,
    older_than: timedelta | None = None,
    limit: int | None = None,
) -> list[Record]:
    """Read the uncertain messages, the oldest first; `older_than` counts from the begin of the attempt."""
    return await conn.fetch(FIND, client, provider, older_than, limit)


# The attempt's finish stays as it was known, at the latest its deadline: the windows counted it so. Its thread went on
# when it became uncertain, and answers to it already.
SENT: Final = """
WITH chosen AS (
  SELECT id, client, thread_key, attempt, attempts, message_id
  FROM rotord.queue
  WHERE id = ANY($1::bigint[]) AND state = 'uncertain'
  ORDER BY id
  FOR UPDATE
), settled AS (
  UPDATE rotord.attempts AS a
  SET outcome = 'accepted', blame = NULL, finished_at = coalesce(a.finished_at, least(a.deadline_at, clock_timestamp()))
  FROM chosen
  WHERE a.id = chosen.attempt
  RETURNING a.id, a.address, a.provider, a.provider_message_id, a.began_at
), gone AS (
  DELETE FROM rotord.queue AS q
  USING chosen
  WHERE q.id = chosen.id
), stated AS (
  INSERT INTO rotord.message_state (id, client, status, sender, provider, provider_message_id, message_id, attempts, sent_at)
  SELECT c.id, c.client, 'sent', s.address, s.provider, s.provider_message_id, c.message_id, c.attempts, s.began_at
  FROM chosen AS c
  LEFT JOIN settled AS s ON s.id = c.attempt
)
SELECT id, 'sent' AS status
FROM chosen
ORDER BY id
"""

# An uncertain message holds up nobody of its thread; back in the queue it waits for the one that went on meanwhile.
NOT_SENT: Final = """
WITH chosen AS (
  SELECT q.id, q.client, q.thread_key, q.attempt, q.attempts, q.message_id, q.last_error, o.cancelled_at IS NOT NULL AS cancelled
  FROM rotord.queue AS q
  JOIN rotord.outbox AS o USING (id)
  WHERE q.id = ANY($1::bigint[]) AND q.state = 'uncertain'
  ORDER BY q.id
  FOR UPDATE OF q
), settled AS (
  UPDATE rotord.attempts AS a
  SET outcome = 'not_sent', finished_at = coalesce(a.finished_at, least(a.deadline_at, clock_timestamp()))
  FROM chosen
  WHERE a.id = chosen.attempt
  RETURNING a.id, a.address, a.provider
), requeued AS (
  UPDATE rotord.queue AS q
  SET due_at = clock_timestamp(),
      state = CASE WHEN again.must_wait THEN 'waiting' ELSE 'queued' END,
      pin = CASE WHEN q.pin_kind = 'sender' THEN q.pin ELSE coalesce(again.thread_sender, q.pin) END,
      pin_kind = CASE WHEN q.pin_kind = 'sender' OR again.thread_sender IS NULL THEN q.pin_kind ELSE 'thread' END
  FROM (
    SELECT c.id, t.sender AS thread_sender,
           c.thread_key IS NOT NULL AND (
             min(c.id) OVER (PARTITION BY c.client, c.thread_key) < c.id
             OR EXISTS (SELECT
                        FROM rotord.queue AS l
                        WHERE l.client = c.client AND l.thread_key = c.thread_key AND l.state <> 'uncertain')
           ) AS must_wait
    FROM chosen AS c
    LEFT JOIN rotord.threads AS t ON t.client = c.client AND t.thread_key = c.thread_key
    WHERE NOT c.cancelled
  ) AS again
  WHERE q.id = again.id
), gone AS (
  DELETE FROM rotord.queue AS q
  USING chosen
  WHERE q.id = chosen.id AND chosen.cancelled
), stated AS (
  INSERT INTO rotord.message_state (id, client, status, sender, provider, message_id, attempts, last_error)
  SELECT c.id, c.client, 'cancelled', s.address, s.provider, c.message_id, c.attempts, c.last_error
  FROM chosen AS c
  LEFT JOIN settled AS s ON s.id = c.attempt
  WHERE c.cancelled
)
SELECT id, CASE WHEN cancelled THEN 'cancelled' ELSE 'queued' END AS status
FROM chosen
ORDER BY id
"""

WAKE: Final = """
SELECT pg_notify('rotord_outbox', '')
"""


async def resolve(conn: Connection, ids: Sequence[int], verdict: Verdict) -> Resolved:
    """Settle those of `ids` that are uncertain, all in one transaction, and wake the daemon."""
    async with conn.transaction():
        rows = await conn.fetch(SENT if verdict is Verdict.SENT else NOT_SENT, ids)
        await conn.execute(WAKE)
    statuses: dict[str, list[int]] = {"sent": [], "queued": [], "cancelled": []}
    for row in rows:
        statuses[row["status"]].append(row["id"])
    return Resolved(**{status: tuple(found) for status, found in statuses.items()})
