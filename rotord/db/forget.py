"""A person is forgotten: what tells of them is erased, and nothing is sent to them any more.

The address lives on as its forgotten name (`rotord.forgotten_name`, keyed), in `outbox.recipient`, `events.recipient` and `suppressions`:
the begin statement, the folder and the trigger of the suppressions know the person by it. First one transaction suppresses and notes every
message in `rotord.erasures`; then what is noted is erased, in batches. What cannot be erased yet (on the wire, uncertain, locked by an
app, a post that was not read) stays noted, and the leader does it when it can. So a run that was cut off is finished, and a second run
finds nothing new. Every statement skips rows that are locked: nobody waits for this, and it waits for nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_plus

from rotord.db import forget_told, forwards, keys, settle
from rotord.db.forget_told import BATCH, STEP_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Connection

    from rotord.db.executor import Executor


@dataclass(frozen=True, slots=True)
class Erased:
    """How much of a person was erased. `replies`: of theirs, that were passed on. `left`: what the leader erases later."""

    name: str
    messages: int = 0
    ended: int = 0
    replies: int = 0
    events: int = 0
    posts: int = 0
    suppressions: int = 0
    left: int = 0


# Theirs stay what they are (client, reason, since when), under the other name; one of a person's word, for everybody, is added.
SUPPRESS: Final = """
WITH who AS MATERIALIZED (
  SELECT rotord.forgotten_name($1, $2) AS name
), theirs AS (
  DELETE FROM rotord.suppressions
  WHERE lower(recipient) = rotord.lower_case($1)
  RETURNING client, reason, created_at
), kept AS (
  INSERT INTO rotord.suppressions (client, recipient, reason, source, created_at)
  SELECT t.client, who.name, t.reason, 'forgotten', t.created_at
  FROM theirs AS t, who
  UNION ALL
  SELECT NULL, who.name, 'manual', 'forgotten', clock_timestamp()
  FROM who
  ON CONFLICT DO NOTHING
)
SELECT who.name, (SELECT count(*) FROM theirs) AS suppressions
FROM who
"""

NOTE: Final = """
INSERT INTO rotord.erasures (kind, id)
SELECT 'message', o.id
FROM rotord.outbox AS o
WHERE rotord.lower_case(o.recipient) = ANY (ARRAY[rotord.lower_case($1), $2])
ON CONFLICT DO NOTHING
"""

NOTED: Final = """
SELECT e.id
FROM rotord.erasures AS e
JOIN rotord.outbox AS o ON o.id = e.id AND rotord.lower_case(o.recipient) = ANY (ARRAY[rotord.lower_case($1), $2])
WHERE e.kind = 'message'
ORDER BY e.id
"""


async def forget(conn: Connection, recipient: str) -> Erased:
    """Forget them now and for what comes: when this returns, no attempt to them begins any more."""
    pads = await keys.forget_key(conn)
    async with conn.transaction():
        [(name, suppressions)] = await conn.fetch(SUPPRESS, recipient, pads)
        await conn.execute(NOTE, recipient, name, timeout=STEP_S)
    done = Erased(name, suppressions=suppressions)
    noted = [row[0] for row in await conn.fetch(NOTED, recipient, name)]
    for start in range(0, len(noted), BATCH):
        part = await erase_messages(conn, noted[start : start + BATCH])
        done = replace(done, messages=done.messages + part[0], ended=done.ended + part[1], events=done.events + part[2])
    replies = [row[0] for row in await conn.fetch(NOTE_REPLIES, recipient, name, forwards.CAMPAIGN, forwards.KEY, timeout=STEP_S)]
    await _end(conn, replies)
    while erased := await erase_replies(conn):
        done = replace(done, replies=done.replies + erased)
    done = replace(done, events=done.events + await forget_told.erase_events_and_note_posts(conn, recipient, name))
    while erased := await forget_told.erase_posts(conn):
        done = replace(done, posts=done.posts + erased)
    done = replace(done, left=await conn.fetchval(LEFT, recipient, name))
    await conn.execute(PULL_FAULTS, recipient, quote_plus(recipient))
    await conn.execute(PUSH_FAULTS, recipient)
    await conn.execute(AUDIT, name, done.messages, done.events, done.posts, done.suppressions)
    await conn.execute(SAMPLE_ANEW, timeout=STEP_S)
    return done


LEFT: Final = """
SELECT count(*)
FROM rotord.erasures AS e
WHERE e.kind <> 'message'
   OR EXISTS (SELECT
              FROM rotord.outbox AS o
              WHERE o.id = e.id AND rotord.lower_case(o.recipient) = ANY (ARRAY[rotord.lower_case($1), $2]))
"""

# Of the exchange with providers' lists: a page's address, and what a provider said, may name anybody on them.
PULL_FAULTS: Final = """
UPDATE rotord.list_pulls
SET cursor = '', fault = ''
WHERE strpos(lower(fault || ' ' || cursor), lower($1)) > 0 OR strpos(lower(cursor), lower($2)) > 0
"""
PUSH_FAULTS: Final = """
UPDATE rotord.list_pushes
SET fault = ''
WHERE strpos(lower(fault), lower($1)) > 0
"""

AUDIT: Final = """
INSERT INTO rotord.forgotten (name, messages, events, posts, suppressions)
VALUES ($1, $2, $3, $4, $5)
"""

# The planner's samples of these hold addresses and words, too.
SAMPLE_ANEW: Final = "ANALYZE rotord.outbox, rotord.queue, rotord.suppressions, rotord.events, rotord.message_state, rotord.attempts"

# What is not on the wire ends as if its turn had come.
END: Final = """
WITH free AS (
  SELECT id
  FROM rotord.queue
  WHERE id = ANY ($1::bigint[]) AND state IN ('queued', 'scheduled', 'waiting')
  FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM rotord.queue AS q
  USING free
  WHERE q.id = free.id
  RETURNING q.id, q.client, q.thread_key, q.message_id, q.attempts
), state AS (
  INSERT INTO rotord.message_state (id, client, status, message_id, attempts)
  SELECT id, client, 'suppressed', message_id, attempts
  FROM gone
)
SELECT client, thread_key
FROM gone
"""

# A key that names the person is replaced, so it is no longer taken: who inserts under it again inserts a message that is suppressed.
BLANK: Final = """
WITH free AS (
  SELECT o.id, rotord.lower_case(o.recipient) AS address, k.value AS pads
  FROM rotord.outbox AS o
  JOIN rotord.keys AS k ON k.name = 'forget'
  WHERE o.id = ANY ($1::bigint[]) AND o.recipient NOT LIKE '%@forgotten.invalid'
  FOR UPDATE OF o SKIP LOCKED
), thread AS (
  DELETE FROM rotord.threads AS t
  USING free
  JOIN rotord.outbox AS o USING (id)
  WHERE t.client = o.client AND t.thread_key = o.thread_key AND strpos(lower(o.thread_key), free.address) > 0
), blanked AS (
  UPDATE rotord.outbox AS o
  SET recipient = rotord.forgotten_name(o.recipient, free.pads), recipient_name = NULL, subject = '', body_text = NULL, body_html = NULL,
      reply_to = NULL, headers = '{}', attachments = '[]', metadata = '{}', blanked_at = coalesce(o.blanked_at, clock_timestamp()),
      thread_key = CASE WHEN strpos(lower(o.thread_key), free.address) > 0
                        THEN 'forgotten:' || left(rotord.forgotten_name(o.thread_key, free.pads), 32) ELSE o.thread_key END,
      idempotency_key = CASE WHEN strpos(lower(o.idempotency_key), free.address) > 0
                             THEN 'forgotten:' || o.id || ':' || left(rotord.forgotten_name(o.idempotency_key, free.pads), 32)
                             ELSE o.idempotency_key END
  FROM free
  WHERE o.id = free.id
  RETURNING o.id
)
SELECT count(*)
FROM blanked
"""

# On the wire or uncertain: it is settled by its id. Replies and errors quote the address.
BLANK_LIVE: Final = """
WITH free AS (
  SELECT id
  FROM rotord.queue
  WHERE id = ANY ($1::bigint[])
  FOR UPDATE SKIP LOCKED
)
UPDATE rotord.queue AS q
SET recipient = o.recipient, thread_key = o.thread_key, last_error = NULL
FROM free
JOIN rotord.outbox AS o USING (id)
WHERE q.id = free.id AND o.recipient LIKE '%@forgotten.invalid'
"""

BLANK_STATE: Final = """
WITH free AS (
  SELECT id
  FROM rotord.message_state
  WHERE id = ANY ($1::bigint[]) AND last_error IS NOT NULL
  FOR UPDATE SKIP LOCKED
)
UPDATE rotord.message_state AS s
SET last_error = NULL
FROM free
WHERE s.id = free.id
"""

# Message by message: a planner without statistics reads all attempts for 200 of them.
BLANK_ATTEMPTS: Final = """
WITH free AS (
  SELECT a.id
  FROM unnest($1::bigint[]) AS w (id)
  CROSS JOIN LATERAL (
    SELECT id
    FROM rotord.attempts
    WHERE outbox_id = w.id AND reply IS NOT NULL
    FOR UPDATE SKIP LOCKED) AS a
)
UPDATE rotord.attempts AS a
SET reply = NULL
FROM free
WHERE a.id = free.id
"""

NOTE_POSTS_OF: Final = """
INSERT INTO rotord.erasures (kind, id)
SELECT DISTINCT 'post', p.id
FROM rotord.events AS e
JOIN rotord.provider_posts AS p ON p.id = e.raw_id AND p.erased_at IS NULL
WHERE e.outbox_id = ANY ($1::bigint[])
ON CONFLICT DO NOTHING
"""

# Kind, times and key stay: what happened stays counted, and what is told again is known.
BLANK_EVENTS: Final = """
WITH blanked AS (
  UPDATE rotord.events AS e
  SET recipient = o.recipient, reason = ''
  FROM rotord.outbox AS o
  WHERE e.outbox_id = ANY ($1::bigint[]) AND o.id = e.outbox_id AND o.recipient LIKE '%@forgotten.invalid'
    AND (e.recipient <> o.recipient OR e.reason <> '')
  RETURNING 1
)
SELECT count(*)
FROM blanked
"""

FINISHED: Final = """
DELETE FROM rotord.erasures AS e
WHERE e.kind = 'message'
  AND e.id = ANY ($1::bigint[])
  AND EXISTS (SELECT FROM rotord.outbox AS o WHERE o.id = e.id AND o.recipient LIKE '%@forgotten.invalid')
  AND NOT EXISTS (SELECT FROM rotord.queue AS q WHERE q.id = e.id)
  AND NOT EXISTS (SELECT FROM rotord.message_state AS s WHERE s.id = e.id AND s.last_error IS NOT NULL)
  AND NOT EXISTS (SELECT FROM rotord.attempts AS a WHERE a.outbox_id = e.id AND a.reply IS NOT NULL OFFSET 0)
"""


async def erase_messages(db: Executor, ids: Sequence[int]) -> tuple[int, int, int]:
    """Erase what is noted of these: how many messages were blanked, how many of them were queued, how many events. Repeatable."""
    ended = await _end(db, ids)
    messages: int = await db.fetchval(BLANK, ids, timeout=STEP_S)
    for statement in (BLANK_LIVE, BLANK_STATE, BLANK_ATTEMPTS, NOTE_POSTS_OF):
        await db.execute(statement, ids, timeout=STEP_S)
    events: int = await db.fetchval(BLANK_EVENTS, ids, timeout=STEP_S)
    await db.execute(FINISHED, ids, timeout=STEP_S)
    return messages, ended, events


async def _end(db: Executor, ids: Sequence[int]) -> int:
    """End those that are in the queue and not on the wire, and count them."""
    ended = await db.fetch(END, ids)
    threads = [row for row in ended if row[1] is not None]
    if threads:
        await settle.promote(db, [row[0] for row in threads], [row[1] for row in threads])
    return len(ended)


# Replies to messages to them, and what they wrote to others (db.forwards): few of each client, so they are walked.
NOTE_REPLIES: Final = """
WITH found AS (
  SELECT f.id
  FROM rotord.outbox AS o
  JOIN rotord.outbox AS f ON f.client = o.client AND f.idempotency_key >= $4 || o.id || ' ' AND f.idempotency_key < $4 || o.id || ' ~'
  WHERE rotord.lower_case(o.recipient) = ANY (ARRAY[rotord.lower_case($1), $2]) AND f.subject <> ''
  UNION
  SELECT f.id
  FROM rotord.clients AS c
  JOIN rotord.outbox AS f ON f.client = c.slug AND f.campaign = $3
  WHERE rotord.lower_case(f.reply_to) = rotord.lower_case($1)
), noted AS (
  INSERT INTO rotord.erasures (kind, id)
  SELECT 'reply', id
  FROM found
  ON CONFLICT DO NOTHING
)
SELECT id
FROM found
"""

# Its recipient is whoever answers for the client, and stays.
ERASE_REPLIES: Final = """
WITH free AS MATERIALIZED (
  SELECT o.id
  FROM rotord.erasures AS e
  JOIN rotord.outbox AS o ON o.id = e.id
  WHERE e.kind = 'reply'
    AND e.at <= clock_timestamp() - make_interval(secs => $2)
    AND NOT EXISTS (SELECT FROM rotord.queue AS q WHERE q.id = e.id)
  LIMIT $1
  FOR UPDATE OF o SKIP LOCKED
), blanked AS (
  UPDATE rotord.outbox AS o
  SET subject = '', body_text = NULL, body_html = NULL, reply_to = NULL, attachments = '[]',
      blanked_at = coalesce(o.blanked_at, clock_timestamp())
  FROM free
  WHERE o.id = free.id
), finished AS (
  DELETE FROM rotord.erasures AS e
  USING free
  WHERE e.kind = 'reply' AND e.id = free.id
)
SELECT count(*)
FROM free
"""


async def erase_replies(db: Executor, age_s: float = 0.0) -> int:
    """Erase up to BATCH replies that were passed on and are settled, and count them."""
    count: int = await db.fetchval(ERASE_REPLIES, BATCH, age_s, timeout=STEP_S)
    return count


DUE: Final = """
SELECT e.id
FROM rotord.erasures AS e
WHERE e.kind = 'message'
  AND e.id > $1
  AND e.at <= clock_timestamp() - make_interval(secs => $3)
  AND NOT EXISTS (SELECT FROM rotord.queue AS q WHERE q.id = e.id AND q.state IN ('sending', 'uncertain'))
ORDER BY e.id
LIMIT $2
"""


#: what was noted just now is left to the command that noted it, which counts what it erases
SETTLED_S: Final = 10.0


async def erase_noted(db: Executor, after: int, age_s: float = SETTLED_S) -> int:
    """Erase a batch of what was noted and can be erased now, messages from one on; gives where to go on, 0 when that was all."""
    ids = [row[0] for row in await db.fetch(DUE, after, BATCH, age_s)]
    if ids:
        await erase_messages(db, ids)
    for erase in (erase_replies, forget_told.erase_posts):
        while await erase(db, age_s) == BATCH:
            pass
    return ids[-1] if len(ids) == BATCH else 0


PREVIEW: Final = """
WITH theirs AS MATERIALIZED (
  SELECT id
  FROM rotord.outbox
  WHERE rotord.lower_case(recipient) = rotord.lower_case($1)
)
SELECT (SELECT count(*) FROM theirs) AS messages,
       (SELECT count(*) FROM theirs JOIN rotord.queue USING (id) WHERE state IN ('queued', 'scheduled', 'waiting')) AS ended,
       (SELECT count(*) FROM theirs JOIN rotord.queue USING (id) WHERE state IN ('sending', 'uncertain')) AS live,
       (SELECT count(*) FROM rotord.events WHERE outbox_id = ANY (ARRAY(SELECT id FROM theirs)))
         + (SELECT count(*) FROM rotord.events WHERE outbox_id IS NULL AND recipient = rotord.lower_case($1)) AS events,
       (SELECT count(*) FROM rotord.suppressions WHERE lower(recipient) = rotord.lower_case($1)) AS suppressions
"""


@dataclass(frozen=True, slots=True)
class Preview:
    """What forgetting somebody now would erase; posts, and events of others' messages that tell of them, are found when it is done."""

    messages: int
    ended: int
    live: int
    events: int
    suppressions: int


async def preview(conn: Connection, recipient: str) -> Preview:
    """Count and change nothing."""
    [row] = await conn.fetch(PREVIEW, recipient, timeout=STEP_S)
    return Preview(*row)
