"""From the wire back: what attempts ended with, and the moves of rows that wait.

Settling is by attempt id, whatever the epoch, and only from `sending` or `uncertain`: a late "accepted" of an old leader is knowledge, not
noise. It also ends a message that was put back into the queue meanwhile (on_uncertain = resend), as long as no newer attempt began. A late
refusal never brings back a message that has a newer attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rotord.core.records import Ripened, Settlement, Term, Unfinished

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotord.db.executor import Executor

SETTLE = """
WITH done AS MATERIALIZED (
  SELECT d.*, d.next = 'retry' AND EXISTS (SELECT FROM rotord.outbox o WHERE o.id = d.id AND o.cancelled_at IS NOT NULL) AS cancelled
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::float8[],
                $9::text[], $10::float8[], $11::text[], $12::text[])
      AS d (attempt, id, outcome, blame, code, reply, provider_message_id, finished_at, next, due_at, pin, avoid)
), ledger AS (
  UPDATE rotord.attempts a
     SET outcome = d.outcome, blame = nullif(d.blame, ''), code = d.code, reply = d.reply,
         provider_message_id = nullif(d.provider_message_id, ''), finished_at = to_timestamp(d.finished_at)
    FROM done d
   WHERE a.id = d.attempt AND (a.outcome IS NULL OR a.outcome = 'uncertain')
), gone AS (
  DELETE FROM rotord.queue q
   USING done d
   WHERE q.id = d.id AND q.attempt = d.attempt
     AND (q.state IN ('sending', 'uncertain') AND (d.next IN ('sent', 'failed') OR d.next = 'retry' AND d.cancelled)
          OR q.state IN ('queued', 'waiting') AND d.next = 'sent'
             AND EXISTS (SELECT FROM rotord.attempts a WHERE a.id = d.attempt AND a.outcome = 'uncertain'))
  RETURNING q.id, q.client, q.thread_key, q.message_id, q.attempts, q.attempt, d.next, d.code, d.reply, d.provider_message_id, d.finished_at
), state AS (
  INSERT INTO rotord.message_state
         (id, client, status, sender, provider, provider_message_id, message_id, attempts, last_error, sent_at)
  SELECT g.id, g.client, CASE g.next WHEN 'retry' THEN 'cancelled' ELSE g.next END, a.address, a.provider,
         nullif(g.provider_message_id, ''), g.message_id, g.attempts,
         CASE WHEN g.next <> 'sent' THEN g.reply END, CASE WHEN g.next = 'sent' THEN to_timestamp(g.finished_at) END
    FROM gone g
    LEFT JOIN rotord.attempts a ON a.id = g.attempt  -- by its key; two CTEs are joined by comparing all with all
), again AS (
  UPDATE rotord.queue q
     SET state = 'scheduled', due_at = to_timestamp(d.due_at), last_error = d.reply, avoid = d.avoid,
         pin = CASE WHEN d.pin = '' OR q.pin <> '' THEN q.pin ELSE d.pin END,
         pin_kind = CASE WHEN d.pin = '' OR q.pin <> '' THEN q.pin_kind ELSE 'retry' END
    FROM done d
   WHERE q.id = d.id AND q.attempt = d.attempt AND q.state IN ('sending', 'uncertain') AND d.next = 'retry' AND NOT d.cancelled
), unsure AS (
  UPDATE rotord.queue q
     SET state = 'uncertain', last_error = d.reply
    FROM done d
   WHERE q.id = d.id AND q.attempt = d.attempt AND q.state = 'sending' AND d.next = 'uncertain'
  RETURNING q.client, q.thread_key, q.message_id
), chain AS (
  UPDATE rotord.threads t
     SET last_message_id = m.message_id, updated_at = clock_timestamp(),
         "references" = t."references"[greatest(1, cardinality(t."references") - 18):] || m.message_id
    FROM (SELECT client, thread_key, message_id FROM gone WHERE next = 'sent' AND thread_key IS NOT NULL
          UNION ALL
          SELECT client, thread_key, message_id FROM unsure WHERE thread_key IS NOT NULL) m
   WHERE t.client = m.client AND t.thread_key = m.thread_key
     AND m.message_id <> ALL (t."references")  -- accepted late: it is in the chain since it was uncertain, and newer ones follow it
)
SELECT client, thread_key FROM gone WHERE thread_key IS NOT NULL
UNION
SELECT client, thread_key FROM unsure WHERE thread_key IS NOT NULL
"""


async def settle(db: Executor, settlements: Sequence[Settlement]) -> None:
    """Record a batch, and let the next message of each thread go. A second call with the same batch changes nothing."""
    columns: list[Any] = [
        [s.attempt_id for s in settlements],
        [s.outbox_id for s in settlements],
        [s.reply.outcome.value for s in settlements],
        ["" if s.reply.blame is None else s.reply.blame.value for s in settlements],
        [s.reply.code for s in settlements],
        [s.reply.text for s in settlements],
        [s.reply.provider_message_id for s in settlements],
        [s.finished_at for s in settlements],
        [s.step.next.value for s in settlements],
        [s.step.due_at for s in settlements],
        [s.step.pin for s in settlements],
        [s.step.avoid for s in settlements],
    ]
    threads = await db.fetch(SETTLE, *columns)
    if threads:
        await promote(db, [row[0] for row in threads], [row[1] for row in threads])


PROMOTE = """
WITH heads AS (
  SELECT head.id, t.sender
    FROM unnest($1::text[], $2::text[]) AS w (client, thread_key)
   CROSS JOIN LATERAL (
     SELECT id, state
       FROM rotord.queue
      WHERE client = w.client AND thread_key = w.thread_key AND state <> 'uncertain'
      ORDER BY id
      LIMIT 1) head
    LEFT JOIN rotord.threads t ON t.client = w.client AND t.thread_key = w.thread_key
   WHERE head.state = 'waiting'
), free AS (
  SELECT id
    FROM rotord.queue
   WHERE id = ANY (ARRAY(SELECT id FROM heads)) AND state = 'waiting'
     FOR UPDATE SKIP LOCKED
)
UPDATE rotord.queue q
   SET state = CASE WHEN q.due_at > clock_timestamp() THEN 'scheduled' ELSE 'queued' END,
       pin = CASE WHEN q.pin_kind = 'sender' THEN q.pin ELSE coalesce(h.sender, q.pin) END,
       pin_kind = CASE WHEN q.pin_kind = 'sender' THEN 'sender' WHEN h.sender IS NULL THEN q.pin_kind ELSE 'thread' END
  FROM heads h
  JOIN free USING (id)
 WHERE q.id = h.id
"""


async def promote(db: Executor, clients: Sequence[str], thread_keys: Sequence[str]) -> None:
    """Let the first message of each thread go, if it waits behind nothing any more. One that an app has locked waits for the next look."""
    await db.execute(PROMOTE, clients, thread_keys)


# An app's transaction may commit a thread's next row after we settled the one before it, as a row that waits for nobody.
STRANDED = """
WITH RECURSIVE threads AS (
  (SELECT client, thread_key FROM rotord.queue WHERE thread_key IS NOT NULL ORDER BY client, thread_key LIMIT 1)
  UNION ALL
  (SELECT n.client, n.thread_key
     FROM threads t
    CROSS JOIN LATERAL (
      SELECT client, thread_key
        FROM rotord.queue
       WHERE thread_key IS NOT NULL AND (client, thread_key) > (t.client, t.thread_key)
       ORDER BY client, thread_key
       LIMIT 1) n)
)
SELECT t.client, t.thread_key
  FROM threads t
 CROSS JOIN LATERAL (
   SELECT state
     FROM rotord.queue
    WHERE client = t.client AND thread_key = t.thread_key AND state <> 'uncertain'
    ORDER BY id
    LIMIT 1) head
 WHERE head.state = 'waiting'
"""


async def promote_stranded(db: Executor) -> int:
    """Find threads whose first message waits behind nothing, and let it go."""
    rows = await db.fetch(STRANDED)
    if rows:
        await promote(db, [row[0] for row in rows], [row[1] for row in rows])
    return len(rows)


# Of each client and kind the earliest few: a wave of a million rows due at nine o'clock does not stand before another client's one.
RIPEN = """
WITH RECURSIVE keys AS (
  (SELECT client, kind FROM rotord.queue WHERE state = 'scheduled' ORDER BY client, kind LIMIT 1)
  UNION ALL
  (SELECT n.client, n.kind
     FROM keys k
    CROSS JOIN LATERAL (
      SELECT client, kind
        FROM rotord.queue
       WHERE state = 'scheduled' AND (client, kind) > (k.client, k.kind)
       ORDER BY client, kind
       LIMIT 1) n)
), due AS (
  SELECT d.id
    FROM keys k
   CROSS JOIN LATERAL (
     SELECT id
       FROM rotord.queue
      WHERE state = 'scheduled' AND client = k.client AND kind = k.kind AND due_at <= to_timestamp($1)
      ORDER BY due_at, id
      LIMIT $2
        FOR UPDATE SKIP LOCKED) d
), ripe AS (
  UPDATE rotord.queue
     SET state = 'queued'
   WHERE id = ANY (ARRAY(SELECT id FROM due))  -- not a join, which the planner takes for a large one and reads the whole queue for
  RETURNING id
)
SELECT (SELECT count(*) FROM ripe),
       (SELECT extract(epoch FROM min(d.due_at))::float8
          FROM keys k
         CROSS JOIN LATERAL (
           SELECT due_at
             FROM rotord.queue
            WHERE state = 'scheduled' AND client = k.client AND kind = k.kind AND id NOT IN (SELECT id FROM due)
            ORDER BY due_at, id
            LIMIT 1) d)
"""
RIPEN_BATCH = 500


async def ripen(db: Executor, now: float) -> Ripened:
    """Make scheduled rows that are due ready, at most a batch of each client and kind."""
    row = await db.fetchrow(RIPEN, now, RIPEN_BATCH)
    return Ripened(row[0], row[1]) if row is not None else Ripened(0, None)


# statement_timestamp() is stable, so the index ends the scan there; clock_timestamp() would have it read every row that expires one day.
EXPIRE = """
WITH late AS (
  SELECT id
    FROM rotord.queue
   WHERE expires_at <= statement_timestamp() AND state IN ('queued', 'scheduled', 'waiting')
   ORDER BY expires_at
   LIMIT 1000
     FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM rotord.queue q
   USING late
   WHERE q.id = late.id
  RETURNING q.id, q.client, q.thread_key, q.message_id, q.attempts, q.last_error
), state AS (
  INSERT INTO rotord.message_state (id, client, status, message_id, attempts, last_error)
  SELECT id, client, 'expired', message_id, attempts, last_error
    FROM gone
)
SELECT client, thread_key
  FROM gone
"""


async def expire(db: Executor) -> int:
    """End up to 1,000 messages whose time is over, blocked or not."""
    rows = await db.fetch(EXPIRE)
    threads = [row for row in rows if row[1] is not None]
    if threads:
        await promote(db, [row[0] for row in threads], [row[1] for row in threads])
    return len(rows)


CUT_OFF = """
SELECT a.id, a.outbox_id
  FROM rotord.attempts a, rotord.lease l
 WHERE l.name = 'main' AND a.id >= l.swept_id AND a.epoch = $1 AND a.outcome IS NULL
"""


async def cut_off(db: Executor, epoch: int, timeout_s: float) -> list[Unfinished]:
    """Which attempts of an epoch that is over have no outcome."""
    return [Unfinished(row[0], row[1]) for row in await db.fetch(CUT_OFF, epoch, timeout=timeout_s)]


# What a crash or a lost lease left on the wire is uncertain, never queued. finished_at stays open: it counts until its deadline. Nobody
# is blamed: it says nothing about its provider.
RECOVER = """
WITH cut AS (
  UPDATE rotord.attempts a
     SET outcome = 'uncertain', reply = 'its daemon stopped before the answer was recorded'
    FROM rotord.lease l
   WHERE l.name = 'main' AND l.holder = $1 AND l.epoch = $2
     AND a.id >= l.swept_id AND a.epoch < $2 AND a.outcome IS NULL
  RETURNING a.id, a.outbox_id, a.reply
), unsure AS (
  UPDATE rotord.queue q
     SET state = 'uncertain', last_error = cut.reply
    FROM cut
   WHERE q.id = ANY (ARRAY(SELECT outbox_id FROM cut)) AND q.id = cut.outbox_id AND q.attempt = cut.id AND q.state = 'sending'
  RETURNING q.client, q.thread_key, q.message_id
), chain AS (
  UPDATE rotord.threads t
     SET last_message_id = u.message_id, updated_at = clock_timestamp(),
         "references" = t."references"[greatest(1, cardinality(t."references") - 18):] || u.message_id
    FROM unsure u
   WHERE t.client = u.client AND t.thread_key = u.thread_key
), swept AS (
  UPDATE rotord.lease
     SET swept_id = $3
   WHERE name = 'main' AND holder = $1 AND epoch = $2
)
SELECT count(*)
  FROM cut
"""


async def recover(db: Executor, term: Term, timeout_s: float) -> int:
    """Make every attempt that an older epoch left unfinished uncertain; say how many there were."""
    count: int = await db.fetchval(RECOVER, term.holder, term.epoch, term.ids_from, timeout=timeout_s)
    return count


UNFINISHED = """
SELECT id, outbox_id, outcome
  FROM rotord.attempts
 WHERE id = ANY ($1::bigint[])
"""


async def read_back(db: Executor, attempt_ids: Sequence[int]) -> list[Unfinished]:
    """Which of these attempts were committed: what to ask when the answer to `begin` was lost."""
    return [Unfinished(row[0], row[1]) for row in await db.fetch(UNFINISHED, attempt_ids)]


REPIN = """
WITH moved AS (
  SELECT id
    FROM rotord.queue
   WHERE state = 'queued' AND lane = $1
   ORDER BY rank, due_at, id
   LIMIT 1000
     FOR UPDATE SKIP LOCKED
), pinned AS (
  UPDATE rotord.queue q
     SET pin = $2, pin_kind = CASE WHEN $2 = '' THEN '' ELSE q.pin_kind END
    FROM moved
   WHERE q.id = moved.id
  RETURNING q.client, q.thread_key
), thread AS (
  UPDATE rotord.threads t
     SET sender = $2, updated_at = clock_timestamp()
    FROM pinned p
   WHERE $2 <> '' AND t.client = p.client AND t.thread_key = p.thread_key
)
SELECT count(*)
  FROM pinned
"""


async def repin(db: Executor, lane_key: int, pin: str) -> int:
    """Move up to 1,000 queued messages of a lane, and their threads, to another address ('' = rotation)."""
    count: int = await db.fetchval(REPIN, lane_key, pin)
    return count


FAIL_LANE = """
WITH lost AS (
  SELECT id
    FROM rotord.queue
   WHERE state = 'queued' AND lane = $1
   ORDER BY rank, due_at, id
   LIMIT 1000
     FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM rotord.queue q
   USING lost
   WHERE q.id = lost.id
  RETURNING q.id, q.client, q.thread_key, q.message_id, q.attempts
), state AS (
  INSERT INTO rotord.message_state (id, client, status, message_id, attempts, last_error)
  SELECT id, client, 'failed', message_id, attempts, $2
    FROM gone
)
SELECT client, thread_key
  FROM gone
"""


async def fail_lane(db: Executor, lane_key: int, reason: str) -> int:
    """Fail up to 1,000 queued messages of a lane that can never be sent."""
    rows = await db.fetch(FAIL_LANE, lane_key, reason)
    threads = [row for row in rows if row[1] is not None]
    if threads:
        await promote(db, [row[0] for row in threads], [row[1] for row in threads])
    return len(rows)


FAIL_ROW = """
WITH gone AS (
  DELETE FROM rotord.queue
   WHERE id = $1 AND state = 'queued'
  RETURNING id, client, thread_key, message_id, attempts
), state AS (
  INSERT INTO rotord.message_state (id, client, status, message_id, attempts, last_error)
  SELECT id, client, 'failed', message_id, attempts, $2
    FROM gone
)
SELECT client, thread_key
  FROM gone
"""


async def fail_row(db: Executor, outbox_id: int, reason: str) -> None:
    """Fail one queued message that cannot be rendered."""
    row = await db.fetchrow(FAIL_ROW, outbox_id, reason)
    if row is not None and row[1] is not None:
        await promote(db, [row[0]], [row[1]])
