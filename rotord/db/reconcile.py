"""Uncertain messages and their provider's look-up: whose turn it is, and what follows from what was found.

A look-up settles a message only if it still is uncertain with the very attempt that was asked after: whoever settles it first (an event,
a person, an older leader) wins. What was not found proves nothing, so its attempt stays uncertain and counts on, even where the row's
`on_uncertain` sends the message again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotord.core.lookups import SELDOM_S, Sought

if TYPE_CHECKING:
    from rotord.core.lookups import Found, Timetable
    from rotord.db.executor import Executor

# A row keeps the marks of an earlier attempt's look-ups until its own first one: those from before its begin do not count. When a turn
# comes is core.lookups.Timetable.due_at, which the store's suite holds this to.
DUE = """
SELECT q.id, q.attempt, q.message_id, a.address, o.recipient,
       extract(epoch FROM a.began_at)::float8, extract(epoch FROM e.over_at)::float8, e.look_ups
  FROM rotord.queue q
  JOIN rotord.attempts a ON a.id = q.attempt
  JOIN rotord.outbox o ON o.id = q.id
 CROSS JOIN LATERAL (
   SELECT least(a.finished_at, a.deadline_at) AS over_at, CASE WHEN q.looked_up_at >= a.began_at THEN q.look_ups ELSE 0 END AS look_ups) e
 CROSS JOIN LATERAL (
   SELECT CASE e.look_ups
            WHEN 0 THEN e.over_at + make_interval(secs => $3)
            ELSE q.looked_up_at + make_interval(secs => least($4 * 2 ^ least(e.look_ups - 1, 30)::float8, $6))
          END AS due_at) d
 WHERE q.state = 'uncertain' AND a.provider = $1
   AND d.due_at <= to_timestamp($2) AND d.due_at < e.over_at + make_interval(secs => $5)
 ORDER BY q.looked_up_at NULLS FIRST, q.id
 LIMIT $7
"""


async def due_look_ups(db: Executor, provider: str, now: float, timetable: Timetable, limit: int) -> list[Sought]:
    """Whom to ask one provider for, first those that were never asked for."""
    times = (timetable.grace_s, timetable.again_s, timetable.retention_s, SELDOM_S)
    return [Sought(*row) for row in await db.fetch(DUE, provider, now, *times, limit)]


# The attempt's finish stays as it was known: the windows counted it so. Its thread went on when it became uncertain. What its provider
# took is known to the ledger even when the message has a newer attempt.
FOUND = """
WITH settled AS (
  UPDATE rotord.attempts
     SET outcome = CASE WHEN $6 THEN 'rejected' ELSE 'accepted' END, blame = NULL, reply = $5,
         provider_message_id = coalesce(nullif($3, ''), provider_message_id),
         finished_at = coalesce(finished_at, least(deadline_at, clock_timestamp()))
   WHERE id = $2 AND outcome = 'uncertain'
), gone AS (
  DELETE FROM rotord.queue
   WHERE id = $1 AND attempt = $2 AND state = 'uncertain'
  RETURNING id, client, attempt, message_id, attempts
), stated AS (
  INSERT INTO rotord.message_state (id, client, status, sender, provider, provider_message_id, message_id, attempts, last_error, sent_at)
  SELECT g.id, g.client, CASE WHEN $6 THEN 'failed' ELSE 'sent' END, a.address, a.provider, nullif($3, ''), g.message_id, g.attempts,
         CASE WHEN $6 THEN $5 END, CASE WHEN NOT $6 THEN coalesce(to_timestamp($4), a.finished_at, a.began_at) END
    FROM gone g
    JOIN rotord.attempts a ON a.id = g.attempt
)
SELECT count(*)
  FROM gone
"""


async def found(db: Executor, sought: Sought, what: Found) -> bool:
    """Settle a message that its provider has; False when it was settled already."""
    words = f"found by its look-up: {what.words}"
    arguments = (sought.outbox_id, sought.attempt_id, what.provider_message_id, what.at, words, what.refused)
    return bool(await db.fetchval(FOUND, *arguments))


#: A message whose answers are lost each time is sent again so often and then held: 3 is what a flaky hour costs, no more.
MOST_RESENDS = 3

# Only a complete look-up resends, and not what was called back or is too late. If its thread went on, the begin statement makes it wait.
MISSED = """
WITH missed AS (
  SELECT q.id, q.client, q.thread_key, CASE WHEN q.looked_up_at >= a.began_at THEN q.look_ups ELSE 0 END + 1 AS look_ups,
         $4 AND o.on_uncertain = 'resend' AND o.cancelled_at IS NULL AND (q.expires_at IS NULL OR q.expires_at > to_timestamp($3))
           AND (SELECT count(*) FROM rotord.attempts u WHERE u.outbox_id = q.id AND u.outcome = 'uncertain') <= $6 AS again,
         (SELECT t.sender FROM rotord.threads t WHERE t.client = q.client AND t.thread_key = q.thread_key) AS thread_sender
    FROM rotord.queue q
    JOIN rotord.attempts a ON a.id = q.attempt
    JOIN rotord.outbox o ON o.id = q.id
   WHERE q.id = $1 AND q.attempt = $2 AND q.state = 'uncertain'
     FOR UPDATE OF q
), noted AS (
  UPDATE rotord.queue q
     SET looked_up_at = to_timestamp($3), look_ups = m.look_ups
    FROM missed m
   WHERE q.id = m.id AND NOT m.again
), requeued AS (
  UPDATE rotord.queue q
     SET looked_up_at = to_timestamp($3), look_ups = m.look_ups, last_error = $5, due_at = clock_timestamp(),
         state = 'queued',
         pin = CASE WHEN q.pin_kind = 'sender' THEN q.pin ELSE coalesce(m.thread_sender, q.pin) END,
         pin_kind = CASE WHEN q.pin_kind = 'sender' OR m.thread_sender IS NULL THEN q.pin_kind ELSE 'thread' END
    FROM missed m
   WHERE q.id = m.id AND m.again
)
SELECT coalesce(bool_or(again), false)
  FROM missed
"""


async def missed(db: Executor, sought: Sought, now: float, *, complete: bool) -> bool:
    """Note a look-up that did not find a message; True when its row says `resend` and it was put back into the queue for that."""
    words = "may arrive twice: its answer was lost, its provider's look-up did not find it, and on_uncertain is resend"
    again: bool = await db.fetchval(MISSED, sought.outbox_id, sought.attempt_id, now, complete, words, MOST_RESENDS)
    return again
