"""From the queue to the wire: which lanes have rows, which rows are next, what is in them, and the one statement that begins attempts.

Only the leader calls these. Candidates are read without locks, since nobody else begins messages; `begin` checks everything again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rotord.core.model import Kind
from rotord.core.pool import Lane
from rotord.core.records import Begin, Candidate, Cursor, LaneRequest, LaneRow, Payload, Term, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotord.db.executor import Executor

_KINDS = frozenset(Kind)

LANES = "SELECT lane, client, stream, kind, campaign, pin, pin_kind, rank, due_at, id FROM rotord.queued_lanes($1, $2)"
# 10 to 20 us a lane: a statement that is over in a third of a second, however many an app has made up.
LANES_AT_ONCE = 20_000
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


async def lanes(db: Executor, at_once: int = LANES_AT_ONCE) -> list[LaneRow]:
    """Every lane that has a queued row now, and where its first one is."""
    found: list[LaneRow] = []
    after = _LOWEST - 1
    while after < _HIGHEST:
        rows = await db.fetch(LANES, after + 1, at_once)
        found += [LaneRow(row[0], Lane(row[1], row[2], _kind(row[3]), *row[4:7]), Cursor(*row[7:])) for row in rows]
        if len(rows) < at_once:
            break
        after = rows[-1][0]
    return found


def _kind(word: str) -> Kind:
    # A row from before the outbox's rule: the stricter rules hold until it fails where it is rendered, alone.
    return Kind(word) if word in _KINDS else Kind.BULK


CANDIDATES = """
SELECT id, lane, rank, due_at, bytes, attempts, first_at, message_id, thread_key, avoid
  FROM rotord.queued_rows($1::bigint[], $2::int[], $3::int[], $4::float8[], $5::bigint[])
"""


async def candidates(db: Executor, requests: Sequence[LaneRequest]) -> list[Candidate]:
    """The next rows of each lane, in its order, lane after lane. Locks nothing."""
    rows = await db.fetch(
        CANDIDATES,
        [request.key for request in requests],
        [request.limit for request in requests],
        [request.after.rank for request in requests],
        [request.after.due_at for request in requests],
        [request.after.id for request in requests],
    )
    return [Candidate(*row) for row in rows]


PAYLOADS = """
SELECT o.id, o.client, o.recipient, o.recipient_name, o.subject, o.body_text, o.body_html, o.stream, o.campaign, o.kind,
       o.reply_to, o.headers, o.attachments, o.metadata,
       coalesce(t.last_message_id, ''), coalesce(t."references", '{}')
  FROM unnest($1::bigint[]) AS w (id)
  JOIN rotord.outbox o ON o.id = w.id
  LEFT JOIN rotord.threads t ON t.client = o.client AND t.thread_key = o.thread_key
"""


async def payloads(db: Executor, ids: Sequence[int]) -> list[Payload]:
    """What is in these messages, in no particular order."""
    return [Payload(*row) for row in await db.fetch(PAYLOADS, ids)]


# The fence, the last checks and the ledger in one autocommit statement: nothing stays open over client code, so a leader that is frozen
# right before or after it blocks nobody. FOR SHARE conflicts with the UPDATE of a take-over (KEY SHARE would not), and under
# READ COMMITTED a lease row that changed while we waited is judged by its new version: an old leader finds no row and begins nothing.
# began_at is when the message was reserved, milliseconds before this statement's snapshot: a suppression that the snapshot does not show
# was not committed then (a commit's time is taken before its flush, and it can be seen after it).
# Who was forgotten is suppressed under another name, made with a key that is there from the first `rotord forget` on.
# state || '': the rows are found by the primary key alone; without it a planner that knows nothing of the table walks queue_ready.
BEGIN = """
WITH fence AS MATERIALIZED (
  SELECT 1 AS held
    FROM rotord.lease
   WHERE name = 'main' AND holder = $1 AND epoch = $2 AND expires_at > clock_timestamp()
     FOR SHARE
), want AS (
  SELECT *
    FROM unnest($3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::float8[], $10::text[],
                $11::float8[])
      AS w (id, attempt, address, domain, client, provider, timeout_s, message_id, began_at)
), locked AS MATERIALIZED (
  SELECT q.id, q.client, q.kind, q.campaign, q.recipient, q.expires_at, q.attempts, q.thread_key, q.message_id, q.last_error
    FROM rotord.queue q
   WHERE EXISTS (SELECT FROM fence) AND q.id = ANY ($3::bigint[]) AND q.state || '' = 'queued'
     FOR UPDATE OF q SKIP LOCKED
), judged AS MATERIALIZED (
  SELECT l.*, w.attempt, w.address, w.domain, w.provider, w.timeout_s, w.message_id AS new_message_id,
         least(to_timestamp(w.began_at), statement_timestamp()) AS began_at,
         CASE WHEN EXISTS (SELECT FROM rotord.outbox o WHERE o.id = l.id AND o.cancelled_at IS NOT NULL) THEN 'cancelled'
              WHEN l.expires_at <= clock_timestamp() THEN 'expired'
              WHEN EXISTS (
                SELECT FROM rotord.suppressions s
                 WHERE lower(s.recipient) = ANY (ARRAY[l.recipient, rotord.forgotten_name(l.recipient, k.value)])
                   AND (s.client IS NULL OR s.client = l.client)
                   AND (l.kind = 'bulk' OR s.reason IN ('hard_bounce', 'manual'))) THEN 'suppressed'
              WHEN l.thread_key IS NOT NULL AND EXISTS (
                SELECT FROM rotord.queue e
                 WHERE e.client = l.client AND e.thread_key = l.thread_key AND e.id <> l.id
                   AND (e.state = 'sending' OR e.id < l.id AND e.state <> 'uncertain')) THEN 'waiting'
              ELSE 'sending' END AS verdict
    FROM locked l
    JOIN want w ON w.id = l.id AND w.client = l.client
    LEFT JOIN rotord.keys k ON k.name = 'forget'
), begun AS (
  UPDATE rotord.queue q
     SET state = 'sending', attempt = j.attempt, attempts = q.attempts + 1,
         first_at = coalesce(q.first_at, j.began_at), message_id = coalesce(q.message_id, j.new_message_id)
    FROM judged j
   WHERE j.verdict = 'sending' AND q.id = j.id
), ledger AS (
  INSERT INTO rotord.attempts (id, outbox_id, number, epoch, address, domain, client, provider, began_at, deadline_at, campaign)
  SELECT j.attempt, j.id, j.attempts + 1, $2, j.address, j.domain, j.client, j.provider,
         j.began_at, clock_timestamp() + make_interval(secs => j.timeout_s), j.campaign
    FROM judged j
   WHERE j.verdict = 'sending'
), thread AS (
  INSERT INTO rotord.threads (client, thread_key, sender, last_message_id)
  SELECT j.client, j.thread_key, j.address, ''
    FROM judged j
   WHERE j.verdict = 'sending' AND j.thread_key IS NOT NULL
  ON CONFLICT (client, thread_key) DO UPDATE SET sender = excluded.sender, updated_at = clock_timestamp()
), held_back AS (
  UPDATE rotord.queue q
     SET state = 'waiting'
    FROM judged j
   WHERE j.verdict = 'waiting' AND q.id = j.id
), gone AS (
  DELETE FROM rotord.queue q
   USING judged j
   WHERE j.verdict NOT IN ('sending', 'waiting') AND q.id = j.id
), ended AS (
  INSERT INTO rotord.message_state (id, client, status, message_id, attempts, last_error)
  SELECT j.id, j.client, j.verdict, j.message_id, j.attempts, j.last_error
    FROM judged j
   WHERE j.verdict NOT IN ('sending', 'waiting')
)
SELECT j.id, j.verdict
  FROM fence
  LEFT JOIN judged j ON true
"""


class FencedError(Exception):
    """The lease is no longer ours: nothing was begun."""


async def begin(db: Executor, term: Term, begins: Sequence[Begin]) -> dict[int, Verdict]:
    """Begin what still may begin, end what was cancelled, suppressed or expired; rows somebody else has locked are absent.

    Raises FencedError when the term is over. When the connection fails the outcome is unknown: read the attempt ids back.
    """
    columns: list[Any] = [
        [begin.outbox_id for begin in begins],
        [begin.attempt_id for begin in begins],
        [begin.address for begin in begins],
        [begin.domain for begin in begins],
        [begin.client for begin in begins],
        [begin.provider for begin in begins],
        [begin.timeout_s for begin in begins],
        [begin.message_id for begin in begins],
        [begin.began_at for begin in begins],
    ]
    rows = await db.fetch(BEGIN, term.holder, term.epoch, *columns)
    if not rows:
        raise FencedError
    return {row[0]: Verdict(row[1]) for row in rows if row[0] is not None}
