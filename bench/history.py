"""Years of settled messages: what people and the daemon ask costs as on day one?

    python -m bench.history [--messages 5000000] [--events-each 6] [--json]

Two databases, one young (20,000 settled messages: a day and a third, so that the last 24 hours are the same in both), one old (`messages`,
6 s apart, bodies of 128 characters, `events-each` events of each); the same 30,000 ready rows in both. Days are counted and the lease is
swept, as a daemon that ran all the time leaves them; retention is off (bench.retention measures it). Commands are the real ones, as
processes of their own (the Python they start is in their time, the same in both); start is from the daemon's process to the first message
at its relay. The best of five. Pages are those of the daemon's own statements and do not depend on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from bench import claim, fill
from bench.figures import Figure, Scale
from bench.fleet import FIRST
from bench.running import Daemon, Relay, relay, told
from bench.statements import Explaining, Line
from rotord.core.events import Event, EventKind
from rotord.core.records import Term
from rotord.db import events, ledger, settle, stats
from rotord.db.connect import open_connection
from rotord.db.migrate import migrate
from rotord.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    import asyncpg

YOUNG, READY, GAP_S = 20_000, 30_000, 6.0
FOLDED, TIMES = 500, 5
KEPT = "[retention]\nbody_days = 0\nattempts_days = 0\nevents_days = 0\n"
MONTH = """
SELECT format('CREATE TABLE rotord.%I PARTITION OF rotord.events FOR VALUES FROM (%L) TO (%L)',
              to_char(m, '"events_"YYYY_MM'), m, m + interval '1 month')
  FROM generate_series(date_trunc('month', now() - $1::float8 * interval '1 s'), now() + interval '1 month', interval '1 month') AS m
"""
EVENTS = """
INSERT INTO rotord.events (outbox_id, client, provider, kind, occurred_at, received_at, recipient, reason,
                           provider_message_id, key)
SELECT s.id, s.client, 'relay', (ARRAY['accepted', 'delivered', 'opened', 'opened', 'clicked', 'opened'])[1 + n % 6],
       s.sent_at + n * interval '3 s', s.sent_at + n * interval '4 s', 'r' || s.id % 1000000 || '@example.org', '',
       s.provider_message_id, int8send(s.id * 10 + n)
  FROM rotord.message_state AS s
 CROSS JOIN generate_series(0, $3::int - 1) AS n
 WHERE s.id BETWEEN $1 AND $2
"""
SENDERS = """
INSERT INTO rotord.domains (name, client, providers) SELECT 'd.' || slug || '.example', slug, '{relay}' FROM rotord.clients;
INSERT INTO rotord.addresses (email, domain) SELECT 'a' || i || '@' || name, name FROM rotord.domains, generate_series(0, 24) AS i
"""
PROGRESS = """
UPDATE rotord.stats_progress
   SET upto = CASE name WHEN 'attempts' THEN (SELECT coalesce(max(id), 0) FROM rotord.attempts)
                        ELSE (SELECT coalesce(max(id), 0) FROM rotord.events) END
"""
DAYS = """
INSERT INTO rotord.daily_counters (day, provider, client, domain, address, begun, accepted)
SELECT (began_at AT TIME ZONE 'UTC')::date AS day, provider, client, domain, address, count(*), count(*)
  FROM rotord.attempts
 GROUP BY 1, 2, 3, 4, 5
HAVING (began_at AT TIME ZONE 'UTC')::date < (now() AT TIME ZONE 'UTC')::date
"""
# As a daemon that has just resigned leaves it.
RESIGNED = """
UPDATE rotord.lease
   SET expires_at = now(), swept_id = (extract(epoch FROM now() - interval '3 hours') * 1000)::bigint << 20
"""
HELD = "UPDATE rotord.lease SET holder = '11111111-1111-1111-1111-111111111111', epoch = 1, expires_at = now() + interval '1 day'"
POST = """
INSERT INTO rotord.provider_posts (provider, route, token, digest, content_type, body)
VALUES ('relay', 'webhooks', gen_random_uuid()::text, '', '', '')
RETURNING id
"""
SENT = """
SELECT id
  FROM rotord.attempts
 WHERE outcome = 'accepted' AND id < (extract(epoch FROM now() - interval '1 hour') * 1000)::bigint << 20
 ORDER BY id DESC
 LIMIT $1
"""


class Pages(Explaining):
    """Of statements that are asked for one row or one value, too. A value is answered, by asking once more."""

    async def fetchrow(self, statement: str, *arguments: Any, **_: Any) -> None:
        await self.fetch(statement, *arguments)

    async def fetchval(self, statement: str, *arguments: Any, **_: Any) -> Any:
        await self.fetch(statement, *arguments)
        return await self._db.fetchval(statement, *arguments)


async def filled(url: str, messages: int, events_each: int) -> asyncpg.Connection:
    db = await open_connection(url)
    await migrate(db)
    await fill.base(db)
    await fill.check(db)
    told(f"{messages:,} settled messages, {events_each * messages:,} events")
    async with fill.Loader(db) as loader:
        await db.execute(SENDERS)
        await loader.history(1, messages, "1 hour", GAP_S)
        for row in await db.fetch(MONTH, messages * GAP_S + 86400):
            await db.execute(row[0])
        for first in range(1, messages + 1, fill.STEP):
            await db.execute(EVENTS, first, min(first + fill.STEP - 1, messages), events_each, timeout=fill.LONG_S)
        await loader.backlog(messages + 1, messages + READY)
        await db.execute(PROGRESS)
        await db.execute(DAYS, timeout=fill.LONG_S)
    await db.execute("VACUUM ANALYZE", timeout=fill.LONG_S)
    await db.execute("CHECKPOINT", timeout=fill.LONG_S)
    return db


async def pages(db: asyncpg.Connection) -> dict[str, float]:
    """Of what a start reads, and of one batch of events."""
    now = await db.fetchval("SELECT extract(epoch FROM now())::float8")
    term = Term(UUID("11111111-1111-1111-1111-111111111111"), 1, now, 1)
    post = await db.fetchval(POST)
    told = [
        events.Told(post, "relay", Event(EventKind.DELIVERED, now - 60, "r@example.org", b"bench%d" % number, attempt_id=row[0]))
        for number, row in enumerate(await db.fetch(SENT, FOLDED))
    ]
    found = {}
    for name, each, call in (
        ("recovery, pages", 1, lambda on: settle.recover(on, term, fill.LONG_S)),
        ("the last 24 h, pages", 1, lambda on: on.fetch(ledger.USES, int(now - 97_200) * 1000 << ledger.ID_SHIFT)),
        ("folding, pages an event", len(told), lambda on: events.fold(on, term, told, [events.Folded(post)])),
        ("delivery, pages a message", len(told), lambda on: events.apply(on, term)),
    ):
        counting = Pages(db)
        await call(counting)
        found[name] = counting.pages / each
    return found


async def cpu_us(line: Line) -> float:
    """Of the one backend, for a message from claim to settled."""
    for _ in range(5):
        await line.carry(claim.BATCH)
    line.cpu_us.clear()
    carried = sum([await line.carry(claim.BATCH) for _ in range(20)])
    return sum(line.cpu_us.values()) / carried


async def measure(url: str, messages: int) -> dict[str, float]:
    db = await open_connection(url)
    found: dict[str, float] = {"size, GB": await db.fetchval("SELECT pg_database_size(current_database())::float8") / 1e9}
    await db.execute(RESIGNED)
    await db.execute(HELD)
    found |= await pages(db)
    claimed = await claim.measure(await claim.line_of(db), 10)
    found["claim to settled, pages a message"] = sum(pages for name, pages in claimed["pages"].items() if name != "lanes")
    found["claim to settled, CPU us a message"] = await cpu_us(await claim.line_of(db))
    began = time.perf_counter()
    await stats.roll_up(db, time.time())
    found["statistics, a look, s"] = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        async with relay(place) as receiver:
            daemon = Daemon(url, place, receiver.settings + KEPT)
            starts = [await started(db, daemon, receiver, f"first-{number}") for number in range(TIMES)]
            found["start to first send, s"] = min(starts)
            for name, words in {
                "why message, waiting, s": ("why", "message", str(await db.fetchval("SELECT max(id) FROM rotord.queue"))),
                "why message, sent, s": ("why", "message", str(max(1, messages // 2))),
                "why client, s": ("why", "client", "client-1"),
                "why address, s": ("why", "address", "a1@d.client-1.example"),
                "status, s": ("status",),
                "campaign list, s": ("campaign", "list"),
            }.items():
                found[name] = min([await daemon.command(*words) for _ in range(TIMES)])
    await db.close()
    return found


async def started(db: asyncpg.Connection, daemon: Daemon, receiver: Relay, name: str) -> float:
    """Seconds from a daemon's start to its first message; it is stopped at once, so that ready rows are left for the next."""
    await db.execute(RESIGNED)
    await db.execute(FIRST, name)
    began = time.time()
    async with daemon:
        return await receiver.when(name, 120) - began


async def run(messages: int, events_each: int) -> dict[str, dict[str, float]]:
    result = {}
    for size in sorted({min(YOUNG, messages), messages}):
        with tempfile.TemporaryDirectory() as state:
            async with EmbeddedPostgres(Path(state)) as server:
                await (await filled(server.dsn, size, events_each)).close()
                result[f"{size:,}"] = await measure(server.dsn, size)
    return result


async def figures(scale: Scale) -> list[Figure]:
    messages, each = {Scale.TINY: (2000, 1), Scale.SHORT: (200_000, 2), Scale.FULL: (5_000_000, 6)}[scale]
    young, old = (await run(messages, each)).values() if messages > YOUNG else ({}, next(iter((await run(messages, each)).values())))
    return [Figure(name, figure, "", beside=f"{young[name]:.2f} when young" if young else "") for name, figure in old.items()]


def report(result: dict[str, dict[str, float]]) -> None:
    young, old = result.values()
    print(f"{'settled messages':36}" + "".join(f"{name:>14}" for name in result) + f"{'x':>8}")
    for name, figure in young.items():
        print(f"{name:36}{figure:14.2f}{old[name]:14.2f}{old[name] / figure:8.2f}")


def main(words: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=5_000_000)
    parser.add_argument("--events-each", type=int, default=6)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    result = asyncio.run(run(arguments.messages, arguments.events_each))
    json.dump(result, sys.stdout, indent=2) if arguments.json else report(result)
    return result


if __name__ == "__main__":
    main()
