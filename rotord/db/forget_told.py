"""What was told of a person who is forgotten: events of whatever message, and the posts of providers that told them.

Events of their own messages are blanked with these (db.forget). Here are the others: those of no message, of a rehearsal of which they were
the tester, of somebody's message that they answered or that was passed on to them and came back. Such a one names the person as its
recipient or in its reason, or came by a mail that names them. All events and all posts are looked at, in steps.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from asyncpg import Connection

    from rotord.db.executor import Executor

#: messages, resp. posts, a statement: some 20 ms
BATCH: Final = 200
#: a scan of stored posts may take minutes; one step of it does not
STEP_S: Final = 120.0
#: events of a step: some 20 ms
EVENTS: Final = 10_000

# `escape` leaves ASCII as it is, so the case is ignored for ASCII, whatever else is in a body.
POSTS_WITH: Final = """
WITH step AS (
  SELECT id, route, body
  FROM rotord.provider_posts
  WHERE id > $1 AND erased_at IS NULL
  ORDER BY id
  LIMIT $2
), found AS (
  SELECT s.id, s.route
  FROM step AS s
  CROSS JOIN LATERAL (SELECT lower(encode(s.body, 'escape') COLLATE "C") AS words OFFSET 0) AS b
  WHERE EXISTS (SELECT
                FROM unnest($3::text[]) AS n (needle)
                WHERE strpos(b.words, lower(encode(convert_to(n.needle, 'UTF8'), 'escape') COLLATE "C")) > 0)
)
SELECT (SELECT max(id) FROM step), ARRAY(SELECT id FROM found), ARRAY(SELECT id FROM found WHERE route = 'inbound')
"""

# A mail tells of one message, a webhook's post of many.
ERASE_EVENTS: Final = """
WITH step AS MATERIALIZED (
  SELECT id, recipient, reason, raw_id
  FROM rotord.events
  WHERE id > $1
  ORDER BY id
  LIMIT $2
), theirs AS MATERIALIZED (
  SELECT id, recipient = rotord.lower_case($3) AS is_recipient
  FROM step
  WHERE recipient = rotord.lower_case($3)
     OR (reason <> '' AND (raw_id = ANY ($5::bigint[]) OR strpos(rotord.lower_case(reason), rotord.lower_case($3)) > 0))
), blanked AS (
  UPDATE rotord.events AS e
  SET recipient = CASE WHEN t.is_recipient THEN $4 ELSE e.recipient END, reason = ''
  FROM theirs AS t
  WHERE e.id = t.id AND e.id = ANY (ARRAY(SELECT id FROM theirs))
  RETURNING e.raw_id
), noted AS (
  INSERT INTO rotord.erasures (kind, id)
  SELECT DISTINCT 'post', p.id
  FROM blanked AS b
  JOIN rotord.provider_posts AS p ON p.id = b.raw_id AND p.erased_at IS NULL
  ON CONFLICT DO NOTHING
)
SELECT (SELECT max(id) FROM step), (SELECT count(*) FROM blanked)
"""

NOTE_POSTS: Final = """
INSERT INTO rotord.erasures (kind, id)
SELECT 'post', id
FROM unnest($1::bigint[]) AS p (id)
ON CONFLICT DO NOTHING
"""


async def erase_events_and_note_posts(conn: Connection, recipient: str, name: str) -> int:
    """Erase the events, and count them. Posts are noted last: what is cut off before that is found again."""
    posts, mails = await _posts_with(conn, recipient)
    count, last = 0, 0
    while last is not None:
        [(last, blanked)] = await conn.fetch(ERASE_EVENTS, last, EVENTS, recipient, name, mails, timeout=STEP_S)
        count += blanked
    await conn.execute(NOTE_POSTS, posts, timeout=STEP_S)
    return count


async def _posts_with(conn: Connection, recipient: str) -> tuple[list[int], list[int]]:
    """Find the address in stored posts, in the spellings that forms and JSON have for it: all of them, and those that are mails."""
    needles = sorted({recipient, quote(recipient, safe=""), quote_plus(recipient), json.dumps(recipient)[1:-1]})
    posts: list[int] = []
    mails: list[int] = []
    last = 0
    while last is not None:
        [(last, some, some_mails)] = await conn.fetch(POSTS_WITH, last, BATCH, needles, timeout=STEP_S)
        posts += some
        mails += some_mails
    return posts, mails


# Its token and digest stay: the post is still known when it comes again. One that is not read yet waits for that.
ERASE_POSTS: Final = """
WITH noted AS MATERIALIZED (
  SELECT e.id
  FROM rotord.erasures AS e
  LEFT JOIN rotord.provider_posts AS p ON p.id = e.id
  WHERE e.kind = 'post' AND (p.id IS NULL OR p.folded_at IS NOT NULL)
    AND e.at <= clock_timestamp() - make_interval(secs => $2)
  LIMIT $1
), erased AS (
  UPDATE rotord.provider_posts AS p
  SET body = '', fault = NULL, erased_at = clock_timestamp()
  FROM noted AS n
  WHERE p.id = n.id AND p.folded_at IS NOT NULL
), finished AS (
  DELETE FROM rotord.erasures AS e
  USING noted AS n
  WHERE e.kind = 'post' AND e.id = n.id
)
SELECT count(*)
FROM noted
"""


async def erase_posts(db: Executor, age_s: float = 0.0) -> int:
    """Erase up to BATCH of the posts that were noted so long ago and are read, and count them."""
    count: int = await db.fetchval(ERASE_POSTS, BATCH, age_s, timeout=STEP_S)
    return count
