"""Fills an empty database by its own server, fast: a backlog, years of settled messages, a fleet, a day of attempts.

Rows of a backlog are written past the outbox's trigger and its constraints (100 us a row). `check` proves that what is written is what
the trigger would have written: it inserts rows as an app does and compares every column of the queue. No row that is written here would be
refused by the constraints: `check` inserts the same ones through them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import asyncpg

LONG_S = 3600.0
CLIENTS = 12
# One statement writes this many rows, so that no session keeps millions of tuples in memory.
STEP = 500_000
ADDRESSES_A_DOMAIN, ADDRESSES_A_CLIENT = 25, 200

FLEET = """
INSERT INTO rotord.clients (slug, per_hour) SELECT 'client-' || i, NULL FROM generate_series(0, $1::int - 1) AS i
"""
LEASE = """
INSERT INTO rotord.lease (name, holder, epoch, elected_at, expires_at)
VALUES ('main', '11111111-1111-1111-1111-111111111111', 1, now(), now() + interval '1 day')
"""
SUPPRESSED = """
INSERT INTO rotord.suppressions (client, recipient, reason)
SELECT 'client-0', 'gone' || i || '@example.org', 'hard_bounce' FROM generate_series(1, $1::int) AS i
"""

_COLUMNS = """
SELECT i AS id, 'client-' || i % $3::int AS client, 'r' || i || '@example.org' AS recipient, 'Message ' || i AS subject,
       repeat(md5(i::text), 4) AS body_text, $4::timestamptz - make_interval(secs => ($5::bigint - i) / 1000.0) AS send_after
"""
INSERTED = f"""
INSERT INTO rotord.outbox (id, client, recipient, subject, body_text, send_after) OVERRIDING SYSTEM VALUE
{_COLUMNS} FROM generate_series($1::bigint, $2::bigint) AS i
"""
BACKLOG = f"""
WITH row AS MATERIALIZED (
  {_COLUMNS} FROM generate_series($1::bigint, $2::bigint) AS i
), message AS (
  INSERT INTO rotord.outbox (id, client, recipient, subject, body_text, send_after) OVERRIDING SYSTEM VALUE
  SELECT * FROM row
)
INSERT INTO rotord.queue (id, client, stream, kind, campaign, pin, pin_kind, state, rank, due_at, recipient, bytes)
SELECT id, client, 'main', 'bulk', '', '', '', 'queued', 0, send_after, recipient, 4096 + octet_length(body_text) + 4
  FROM row
"""
# An accepted message a `gap` before the next, the last one `$4` ago: outbox, state and attempt, as settling leaves them.
HISTORY = """
WITH row AS MATERIALIZED (
  SELECT i, 'client-' || i % $3::int AS client, now() - $4::text::interval - make_interval(secs => ($6::bigint - i) * $5::float8) AS at
    FROM generate_series($1::bigint, $2::bigint) AS i
), message AS (
  INSERT INTO rotord.outbox (id, client, recipient, subject, body_text, send_after, created_at) OVERRIDING SYSTEM VALUE
  SELECT i, client, 'r' || i % 1000000 || '@example.org', 'Message ' || i, repeat(md5(i::text), 4), at, at
    FROM row
), attempt AS (
  INSERT INTO rotord.attempts (id, outbox_id, number, epoch, address, domain, client, provider, began_at, deadline_at, finished_at,
                               outcome, code, reply, provider_message_id, campaign)
  SELECT ((extract(epoch FROM at) * 1000)::bigint << 20) + i % 1000000, i, 1, 1, 'a' || i % 25 || '@d.' || client || '.example',
         'd.' || client || '.example', client, 'relay', at, at + interval '90 s', at + interval '1 s', 'accepted', '250',
         '2.0.0 Ok: queued as 4bXyZ1234', 'p' || i, ''
    FROM row
)
INSERT INTO rotord.message_state (id, client, status, sender, provider, provider_message_id, message_id, attempts, sent_at, settled_at)
SELECT i, client, 'sent', 'a' || i % 25 || '@d.' || client || '.example', 'relay', 'p' || i, '<' || i || '@d.' || client || '.example>', 1,
       at + interval '1 s', at + interval '1 s'
  FROM row
"""
# $1 addresses; 20 an hour each, as the fleet file's example has it.
CLIENTS_OF = """
INSERT INTO rotord.clients (slug) SELECT 'client-' || i FROM generate_series(0, greatest($1::int / 200, 1) - 1) AS i
"""
DOMAINS_OF = """
INSERT INTO rotord.domains (name, client, providers)
SELECT 'd' || i || '.example', 'client-' || i % greatest($1::int / 200, 1), '{relay}' FROM generate_series(0, $1::int / 25 - 1) AS i
"""
ADDRESSES_OF = """
INSERT INTO rotord.addresses (email, domain, per_hour)
SELECT 'a' || i || '@d' || i % ($1::int / 25) || '.example', 'd' || i % ($1::int / 25) || '.example', 20
  FROM generate_series(0, $1::int - 1) AS i
"""
# A day of the ledger: every address in turn, evenly over 24 hours until a minute ago; one in 50 was refused for now, one in 500 for good.
DAY = """
INSERT INTO rotord.attempts (id, outbox_id, number, epoch, address, domain, client, provider, began_at, deadline_at, finished_at,
                             outcome, blame, code, reply, provider_message_id, campaign)
SELECT ((extract(epoch FROM at) * 1000)::bigint << 20) + i % 1000000, i, 1, 1, 'a' || n || '@' || domain, domain,
       'client-' || n % $3::int % greatest($4::int / 200, 1), 'relay', at, at + interval '90 s', at + interval '50 ms',
       CASE WHEN i % 500 = 7 THEN 'rejected' WHEN i % 50 = 3 THEN 'deferred' ELSE 'accepted' END,
       CASE WHEN i % 500 = 7 OR i % 50 = 3 THEN 'recipient' END, '250', '2.0.0 Ok: queued as 4bXyZ1234', '4bXyZ1234', ''
  FROM generate_series($1::bigint, $2::bigint) AS i
 CROSS JOIN LATERAL (
   SELECT i % $4::int AS n, now() - interval '1 minute' - make_interval(secs => ($5::bigint - i) * 86340.0 / $5) AS at) AS t
 CROSS JOIN LATERAL (SELECT 'd' || n % $3::int || '.example' AS domain) AS whose
"""

_RULES = """
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'rotord.outbox'::regclass AND contype = 'c'
"""
_QUEUE = """
SELECT q.client, q.stream, q.kind, q.campaign, q.pin, q.pin_kind, q.lane, q.state, q.rank, q.due_at, q.recipient, q.bytes,
       q.attempts, q.attempt, q.thread_key, q.expires_at, q.first_at, q.message_id, q.last_error, q.avoid, q.looked_up_at, q.look_ups
  FROM rotord.queue AS q
 WHERE q.id BETWEEN $1 AND $2
 ORDER BY q.id
"""


async def base(db: asyncpg.Connection, suppressed: int = 100_000) -> None:
    """12 clients, a lease that is held, suppressions."""
    await db.execute(FLEET, CLIENTS)
    await db.execute(LEASE)
    await db.execute(SUPPRESSED, suppressed, timeout=LONG_S)


async def check(db: asyncpg.Connection, count: int = 200) -> None:
    """Prove that BACKLOG writes what an app's INSERT writes: the same rows both ways, each rolled back, compared."""
    now = await db.fetchval("SELECT now()")
    found = []
    for statement in (INSERTED, BACKLOG):
        transaction = db.transaction()
        await transaction.start()
        if statement is BACKLOG:
            await db.execute("SET LOCAL session_replication_role = replica")
        await db.execute(statement, 1, count, CLIENTS, now, count)
        found.append([tuple(row) for row in await db.fetch(_QUEUE, 1, count)])
        await transaction.rollback()
    if found[0] != found[1] or len(found[0]) != count:
        raise AssertionError("what is written past the trigger differs from what the trigger writes")


class Loader:
    """Takes the outbox's trigger and constraints away while it loads, and gives them back (unproven: see `check`)."""

    def __init__(self, db: asyncpg.Connection) -> None:
        self._db = db
        self._rules: list[asyncpg.Record] = []

    async def __aenter__(self) -> Self:
        await self._db.execute("SET session_replication_role = replica; SET synchronous_commit = off; SET maintenance_work_mem = '256MB'")
        self._rules = await self._db.fetch(_RULES)
        for rule in self._rules:
            await self._db.execute(f'ALTER TABLE rotord.outbox DROP CONSTRAINT "{rule[0]}"')
        return self

    async def __aexit__(self, *_: object) -> None:
        for name, definition in self._rules:
            await self._db.execute(f'ALTER TABLE rotord.outbox ADD CONSTRAINT "{name}" {definition} NOT VALID')
        await self._db.execute("RESET session_replication_role; RESET synchronous_commit; RESET maintenance_work_mem")
        await self._db.execute(
            "SELECT setval(pg_get_serial_sequence('rotord.outbox', 'id'), greatest((SELECT max(id) FROM rotord.outbox), 1))"
        )

    async def backlog(self, first: int, last: int) -> None:
        """Ready messages with these ids, due a millisecond after each other, the last one now."""
        now = await self._db.fetchval("SELECT now()")
        for start in range(first, last + 1, STEP):
            end = min(start + STEP - 1, last)
            await self._db.execute(BACKLOG, start, end, CLIENTS, now, last, timeout=LONG_S)

    async def fleet(self, size: int) -> None:
        """So many addresses, past the triggers that tell a running daemon."""
        for statement in (CLIENTS_OF, DOMAINS_OF, ADDRESSES_OF):
            await self._db.execute(statement, size, timeout=LONG_S)

    async def day(self, size: int, attempts: int) -> None:
        """The last 24 hours of a fleet of `size`."""
        for start in range(1, attempts + 1, STEP):
            end = min(start + STEP - 1, attempts)
            await self._db.execute(DAY, start, end, size // ADDRESSES_A_DOMAIN, size, attempts, timeout=LONG_S)

    async def history(self, first: int, last: int, ago: str, gap_s: float) -> None:
        """Sent messages with these ids, `gap_s` apart, the last one `ago`."""
        for start in range(first, last + 1, STEP):
            end = min(start + STEP - 1, last)
            await self._db.execute(HISTORY, start, end, CLIENTS, ago, gap_s, last, timeout=LONG_S)
