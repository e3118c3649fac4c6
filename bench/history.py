"""Years of settled messages: what people and the daemon ask costs as on day one?

    python -m bench.history [--messages 5000000] [--events-each 6] [--json]

Two databases, one young (10,000 settled messages), one old (`messages`, 6 s apart, bodies of 128 characters, `events-each` events of each);
the same 10,000 ready rows in both. Commands are the real ones, as processes of their own (the Python they start is in their time, the same
in both); start is from the daemon's process to the first message at its relay. The best of three.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import claim, fill
from bench.figures import Figure, Scale
from bench.fleet import FIRST
from bench.running import Daemon, relay, told
from rotord.db import stats
from rotord.db.connect import open_connection
from rotord.db.migrate import migrate
from rotord.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    import asyncpg

YOUNG, READY, GAP_S = 10_000, 10_000, 6.0
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
    await db.execute("VACUUM ANALYZE", timeout=fill.LONG_S)
    return db


async def measure(url: str, messages: int, events_each: int) -> dict[str, float]:
    db = await filled(url, messages, events_each)
    found: dict[str, float] = {"size, GB": await db.fetchval("SELECT pg_database_size(current_database())::float8") / 1e9}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        async with relay(place) as receiver:
            daemon = Daemon(url, place, receiver.settings)
            await db.execute("DELETE FROM rotord.lease")
            await db.execute(FIRST, "first")
            began = time.time()
            async with daemon:
                found["start to first send, s"] = await receiver.when("first", 120) - began
            await db.execute("DELETE FROM rotord.lease")
            for name, words in {
                "why message, waiting, s": ("why", "message", str(await db.fetchval("SELECT max(id) FROM rotord.queue"))),
                "why message, sent, s": ("why", "message", str(max(1, messages // 2))),
                "why client, s": ("why", "client", "client-1"),
                "why address, s": ("why", "address", "a1@d.client-1.example"),
                "status, s": ("status",),
                "campaign list, s": ("campaign", "list"),
            }.items():
                found[name] = min([await daemon.command(*words) for _ in range(3)])
    began = time.perf_counter()
    await stats.roll_up(db, time.time())
    found["statistics, a look, s"] = time.perf_counter() - began
    await db.execute(fill.LEASE)
    claimed = await claim.measure(await claim.line_of(db), 10)
    found["claim to settled, pages a message"] = sum(pages for name, pages in claimed["pages"].items() if name != "lanes")
    await db.close()
    return found


async def run(messages: int, events_each: int) -> dict[str, dict[str, float]]:
    result = {}
    for size in sorted({min(YOUNG, messages), messages}):
        with tempfile.TemporaryDirectory() as state:
            async with EmbeddedPostgres(Path(state)) as server:
                result[f"{size:,}"] = await measure(server.dsn, size, events_each)
    return result


async def figures(scale: Scale) -> list[Figure]:
    messages, each = {Scale.TINY: (2000, 1), Scale.SHORT: (10_000, 2), Scale.FULL: (5_000_000, 6)}[scale]
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
