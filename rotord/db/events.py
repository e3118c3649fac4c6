"""Events: told by providers, kept once, and what follows from them.

`fold` keeps what is new, suppresses, and leaves a note (`event_waits`) for each message that is concerned; `apply` takes the notes: it
settles what was uncertain and moves `delivery` by rank. A message that is not settled yet keeps its note. Both are one statement, fenced
by the lease, so at any moment one node folds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from rotord.core.events import Event
    from rotord.core.records import Term
    from rotord.db.executor import Executor


class Told(NamedTuple):
    """An event of a post. `claimed`: the row that its Message-ID names, where no attempt came back."""

    post: int
    provider: str
    event: Event
    claimed: int | None = None


class Folded(NamedTuple):
    """A post that was read: names that no table knows, and why it could not be read."""

    post: int
    unknown: Sequence[str] = ()
    fault: str = ""


# An attempt is only believed of the provider that it went to; a reply or an unsubscribe mail comes by whichever receives them, and
# even after the attempts went (retention). What came by mail is about the recipient of its message, whomever it names; but a rehearsal's
# went to its tester. Joined on keys: what is told twice in one batch is one row of `fresh`.
# Of who was forgotten only that name is kept, and the leader is told to erase the post; nobody is looked for until somebody was forgotten.
# What another person than its recipient answers to a message keeps no subject: nothing in its row would say later that it is theirs.
FOLD: Final = """
WITH fence AS MATERIALIZED (
  SELECT 1
    FROM rotord.lease
   WHERE name = 'main' AND holder = $1 AND epoch = $2 AND expires_at > clock_timestamp()
     FOR SHARE
), told AS MATERIALIZED (
  SELECT t.post, t.provider, t.kind, to_timestamp(t.at) AS occurred_at,
         CASE WHEN f.name IS NOT NULL THEN ''
              WHEN t.kind = 'replied' AND NOT t.rehearsed
               AND EXISTS (SELECT
                             FROM rotord.outbox o
                            WHERE o.id = a.outbox_id AND rotord.lower_case(o.recipient) <> t.recipient) THEN ''
              ELSE t.reason END AS reason,
         coalesce((SELECT o.recipient
                     FROM rotord.outbox o
                     JOIN rotord.provider_posts p ON p.id = t.post AND p.route = 'inbound'
                    WHERE o.id = a.outbox_id AND NOT t.rehearsed), f.name, t.recipient) AS recipient,
         f.name IS NOT NULL AS forgotten, t.suppresses, t.key, t.provider_message_id, t.attempt,
         a.outbox_id, a.client, a.id AS attempt_id, t.rehearsed, t.n
    FROM unnest($3::bigint[], $4::text[], $5::text[], $6::float8[], $7::text[], $8::text[], $9::text[], $10::bytea[], $11::text[],
                $12::bigint[], $13::bigint[], $17::boolean[])
      WITH ORDINALITY AS t (post, provider, kind, at, recipient, reason, suppresses, key, provider_message_id, attempt, claimed,
                            rehearsed, n)
    LEFT JOIN LATERAL (
      (SELECT id, outbox_id, client
         FROM rotord.attempts
        WHERE id = t.attempt AND provider = t.provider)
      UNION ALL
      (SELECT id, outbox_id, client
         FROM rotord.attempts
        WHERE t.attempt IS NULL AND outbox_id = t.claimed AND (provider = t.provider OR t.kind IN ('replied', 'unsubscribed'))
        ORDER BY id DESC
        LIMIT 1)
      UNION ALL
      (SELECT NULL, id, client
         FROM rotord.message_state s
        WHERE id = t.claimed AND t.kind IN ('replied', 'unsubscribed')
          AND NOT EXISTS (SELECT
                            FROM rotord.attempts
                           WHERE outbox_id = s.id))) a ON true
    LEFT JOIN rotord.keys k ON k.name = 'forget'
   CROSS JOIN LATERAL (
     SELECT coalesce(
       (SELECT recipient
          FROM rotord.outbox
         WHERE k.value IS NOT NULL AND id = a.outbox_id AND recipient LIKE '%@forgotten.invalid'),
       (SELECT (array_agg(recipient))[1]
          FROM rotord.suppressions
         WHERE k.value IS NOT NULL AND lower(recipient) = rotord.forgotten_name(t.recipient, k.value))) AS name
     OFFSET 0) f
   WHERE EXISTS (SELECT FROM fence)
), fresh AS (
  INSERT INTO rotord.events (outbox_id, client, provider, kind, occurred_at, received_at, recipient, reason, raw_id, attempt_id,
                             provider_message_id, key)
  SELECT t.outbox_id, t.client, t.provider, t.kind, t.occurred_at, p.received_at, t.recipient, t.reason, t.post, t.attempt_id,
         nullif(t.provider_message_id, ''), t.key
    FROM told t
    JOIN rotord.provider_posts p ON p.id = t.post
   ORDER BY t.n
  ON CONFLICT (occurred_at, provider, key) DO NOTHING
  RETURNING outbox_id, provider, kind, occurred_at, key
), suppressed AS (
  INSERT INTO rotord.suppressions (client, recipient, reason, source)
  SELECT DISTINCT t.client, rotord.lower_case(t.recipient), t.suppresses, 'event of ' || t.provider
    FROM fresh f
    JOIN told t USING (provider, occurred_at, key)
   WHERE t.suppresses <> '' AND t.client IS NOT NULL AND t.recipient <> ''
  ON CONFLICT DO NOTHING
), waits AS (
  INSERT INTO rotord.event_waits (outbox_id)
  SELECT DISTINCT outbox_id
    FROM fresh
   WHERE outbox_id IS NOT NULL
  ON CONFLICT DO NOTHING
), replied AS (
  UPDATE rotord.message_state s
     SET replied_at = r.at
    FROM (SELECT f.outbox_id, min(occurred_at) AS at
            FROM fresh f
            JOIN told t USING (provider, occurred_at, key)
           WHERE f.kind = 'replied' AND NOT t.rehearsed
           GROUP BY f.outbox_id) r
   WHERE s.id = r.outbox_id AND s.replied_at IS NULL
), strays AS MATERIALIZED (
  SELECT t.provider, count(DISTINCT t.key) AS count
    FROM fresh f
    JOIN told t USING (provider, occurred_at, key)
   WHERE t.attempt IS NOT NULL AND t.attempt_id IS NULL
     AND EXISTS (SELECT FROM rotord.attempts a WHERE a.id = t.attempt)
     AND EXISTS (SELECT FROM rotord.provider_posts p WHERE p.id = t.post AND p.route = 'webhooks')
   GROUP BY t.provider
), counted AS (
  INSERT INTO rotord.refused_posts AS r (minute, provider, reason, count)
  SELECT date_trunc('minute', clock_timestamp()), provider, 'foreign', count
    FROM strays
   ORDER BY provider
  ON CONFLICT (minute, provider, reason) DO UPDATE
     SET count = r.count + excluded.count
), later AS (
  INSERT INTO rotord.erasures (kind, id)
  SELECT DISTINCT 'post', post
    FROM told
   WHERE forgotten
  ON CONFLICT DO NOTHING
), posts AS (
  UPDATE rotord.provider_posts p
     SET folded_at = clock_timestamp(), fault = nullif(d.fault, ''), unknown = string_to_array(nullif(d.unknown, ''), E'\\n')
    FROM unnest($14::bigint[], $15::text[], $16::text[]) AS d (id, unknown, fault)
   WHERE p.id = d.id AND EXISTS (SELECT FROM fence)
)
SELECT (SELECT count(*) FROM fresh), EXISTS (SELECT FROM fence),
       ARRAY(SELECT provider FROM strays ORDER BY provider), ARRAY(SELECT count FROM strays ORDER BY provider)
"""


def _ignored(_provider: str, _count: int) -> None:
    """Tell nobody."""


async def fold(
    db: Executor, term: Term, told: Sequence[Told], posts: Sequence[Folded], foreign: Callable[[str, int], None] = _ignored
) -> int | None:
    """Keep what is new of a batch of posts, and count it; None when another leads now.

    `foreign` is told how many events a provider has told of messages that went to another one: they are believed of nobody.
    """
    columns: list[Any] = [
        [t.post for t in told],
        [t.provider for t in told],
        [t.event.kind.value for t in told],
        [t.event.occurred_at for t in told],
        [t.event.recipient for t in told],
        [t.event.reason for t in told],
        [t.event.suppresses.value if t.event.suppresses else "" for t in told],
        [t.event.key for t in told],
        [t.event.provider_message_id for t in told],
        [t.event.attempt_id for t in told],
        [t.claimed for t in told],
        [p.post for p in posts],
        ["\n".join(p.unknown) for p in posts],
        [p.fault for p in posts],
        [t.event.rehearsed for t in told],
    ]
    row = await db.fetchrow(FOLD, term.holder, term.epoch, *columns, timeout=60)
    if row is None or not row[1]:
        return None
    for provider, count in zip(row[2], row[3], strict=True):
        foreign(provider, count)
    return int(row[0])


# What is uncertain in the ledger and told of by its provider was taken by it (a drop: taken, then refused). The finish stays as it was
# known: windows counted it so. A row that waits to be sent again (on_uncertain = resend) need not be; one that is on the wire keeps its
# note. The look-ups stand behind a LIMIT: as a plain EXISTS they became one hash of all that is uncertain, 2 s for each 500 notes of
# 250,000. `delivery` is computed from all events, so a note that is taken twice moves nothing.
APPLY: Final = """
WITH fence AS MATERIALIZED (
  SELECT 1
    FROM rotord.lease
   WHERE name = 'main' AND holder = $1 AND epoch = $2 AND expires_at > clock_timestamp()
     FOR SHARE
), noted AS MATERIALIZED (
  SELECT w.outbox_id, s.id IS NOT NULL AS settled, s.delivery
    FROM rotord.event_waits w
    LEFT JOIN LATERAL (
      SELECT id, delivery
        FROM rotord.message_state
       WHERE id = w.outbox_id
       LIMIT 1) s ON true
    LEFT JOIN LATERAL (
      SELECT a.id
        FROM rotord.attempts a
        JOIN rotord.queue q ON q.id = a.outbox_id AND q.state <> 'sending'
        CROSS JOIN LATERAL (
         SELECT id
           FROM rotord.events
          WHERE outbox_id = w.outbox_id AND attempt_id = a.id
          LIMIT 1) e
       WHERE a.outbox_id = w.outbox_id AND a.outcome = 'uncertain' AND s.id IS NULL
       LIMIT 1) u ON true
   WHERE EXISTS (SELECT FROM fence) AND (s.id IS NOT NULL OR u.id IS NOT NULL)
   LIMIT $3
), word AS MATERIALIZED (
  SELECT n.outbox_id, n.settled, coalesce(array_position($4::text[], n.delivery), 0) AS was, e.rank
    FROM noted n
   CROSS JOIN LATERAL (
     SELECT max(CASE kind WHEN 'complained' THEN 4 WHEN 'bounced' THEN 3 WHEN 'dropped' THEN 3
                          WHEN 'delivered' THEN 2 WHEN 'deferred' THEN 1 ELSE 0 END) AS rank
       FROM rotord.events
      WHERE outbox_id = n.outbox_id) e
), proven AS MATERIALIZED (
  SELECT a.id, a.outbox_id, e.refused, e.occurred_at, e.provider_message_id
    FROM noted n
   CROSS JOIN LATERAL (
     SELECT id, outbox_id
       FROM rotord.attempts
      WHERE outbox_id = n.outbox_id AND outcome = 'uncertain'
     OFFSET 0) a
   CROSS JOIN LATERAL (
     SELECT bool_and(kind = 'dropped') AS refused, min(occurred_at) AS occurred_at, max(provider_message_id) AS provider_message_id
       FROM rotord.events
      WHERE outbox_id = a.outbox_id AND attempt_id = a.id
     HAVING count(*) > 0) e
), ledger AS (
  UPDATE rotord.attempts a
     SET outcome = CASE WHEN p.refused THEN 'rejected' ELSE 'accepted' END, blame = NULL, reply = 'told by its provider''s event',
         provider_message_id = coalesce(a.provider_message_id, p.provider_message_id),
         finished_at = coalesce(a.finished_at, least(a.deadline_at, clock_timestamp()))
    FROM proven p
   WHERE a.id = p.id AND a.outcome = 'uncertain'
), free AS (
  SELECT q.id
    FROM rotord.queue q
   WHERE q.id IN (SELECT outbox_id FROM proven) AND q.state <> 'sending'
     FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM rotord.queue q
   USING free
   WHERE q.id = free.id
  RETURNING q.id, q.client, q.message_id, q.attempts
), stated AS (
  INSERT INTO rotord.message_state (id, client, status, sender, provider, provider_message_id, message_id, attempts, last_error, sent_at,
                                    delivery)
  SELECT DISTINCT ON (g.id) g.id, g.client, CASE WHEN p.refused THEN 'failed' ELSE 'sent' END, a.address, a.provider, p.provider_message_id,
         g.message_id, g.attempts, CASE WHEN p.refused THEN 'dropped by its provider' END,
         CASE WHEN NOT p.refused THEN coalesce(a.finished_at, p.occurred_at) END, ($4::text[])[nullif(w.rank, 0)]
    FROM gone g
    JOIN proven p ON p.outbox_id = g.id
    JOIN rotord.attempts a ON a.id = p.id
    JOIN word w ON w.outbox_id = g.id
   ORDER BY g.id, p.refused, p.id
  RETURNING id
), moved AS (
  UPDATE rotord.message_state s
     SET delivery = ($4::text[])[w.rank]
    FROM word w
   WHERE s.id = w.outbox_id AND w.settled AND w.rank > w.was
), taken AS (
  DELETE FROM rotord.event_waits
   WHERE outbox_id IN (SELECT outbox_id FROM noted WHERE settled UNION ALL SELECT id FROM stated)
)
SELECT (SELECT count(*) FROM noted), (SELECT count(*) FROM stated)
"""
#: a delayed bounce undoes a delivery, a complaint comes from an inbox; what is deferred may still be delivered
RANKS: Final = ("deferred", "delivered", "bounced", "complained")
APPLY_BATCH: Final = 500


async def apply(db: Executor, term: Term) -> tuple[int, int]:
    """Take notes: how many were looked at, and how many uncertain messages were settled by them."""
    row = await db.fetchrow(APPLY, term.holder, term.epoch, APPLY_BATCH, RANKS, timeout=60)
    return (row[0], row[1]) if row is not None else (0, 0)


# A look at the latest few of each provider, taken between half an hour and two hours ago. The months before are not looked into: of a year
# of events that would be a dozen look-ups for each. A day, for clocks that differ.
SILENCE: Final = """
SELECT p.provider, count(*), count(*) FILTER (WHERE EXISTS (
         SELECT
         FROM rotord.events AS e
         WHERE e.outbox_id = a.outbox_id AND e.occurred_at > statement_timestamp() - make_interval(secs => $2) - interval '1 day'))
FROM unnest($1::text[]) AS p (provider)
CROSS JOIN LATERAL (
  SELECT outbox_id
  FROM rotord.attempts
  WHERE id BETWEEN (extract(epoch FROM statement_timestamp() - make_interval(secs => $2)) * 1000)::bigint << 20
               AND (extract(epoch FROM statement_timestamp() - make_interval(secs => $3)) * 1000)::bigint << 20
    AND provider = p.provider AND outcome = 'accepted'
  ORDER BY id DESC
  LIMIT 200) AS a
GROUP BY p.provider
"""


async def silence(db: Executor, providers: Sequence[str], since_s: float, until_s: float) -> list[tuple[str, int, int]]:
    """Count what each provider took between two ages in seconds, and of how many of those it has told anything."""
    return [(row[0], row[1], row[2]) for row in await db.fetch(SILENCE, providers, since_s, until_s)]


MONTHS: Final = """
SELECT to_char(m, '"events_"YYYY_MM') AS name, m AT TIME ZONE 'UTC' AS since, (m + interval '1 month') AT TIME ZONE 'UTC' AS until,
       to_regclass('rotord.' || to_char(m, '"events_"YYYY_MM')) IS NOT NULL AS is_there
FROM (SELECT date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') + make_interval(months => n) AS m
      FROM generate_series(0, 1) AS n) AS months
"""


async def make_partitions(db: Executor) -> list[str]:
    """Make this month's and the next month's, and say which were made. Where events of a month are already in `events_other`, they stay."""
    made = []
    for name, since, until, is_there in await db.fetch(MONTHS):
        if not is_there:
            try:
                await db.execute(_partition(name, since, until))
            except (asyncpg.CheckViolationError, asyncpg.DuplicateTableError):
                continue
            made.append(name)
    return made


def _partition(name: str, since: datetime, until: datetime) -> str:
    """Write the one statement here that has names and times in it: they are the database's own, and DDL takes no parameters."""
    return f"CREATE TABLE rotord.{name} PARTITION OF rotord.events FOR VALUES FROM ('{since.isoformat()}') TO ('{until.isoformat()}')"
