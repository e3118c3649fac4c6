"""Retention beside full sending: the rate and how long a transactional row waits, with and without, in turn on one database.

A history as bench.history's, of which all bodies and attempts older than 35 days are due; of the events each round drops some months more,
by themselves, since after a drop of a second retention rests for nine. An API that answers after 20 ms, 200 slots; a transactional row
every 25 ms is timed by the database from its insert to its begin.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench import fill
from bench.figures import Figure, Scale
from bench.history import RESIGNED, filled
from bench.place import Place, Receiver, Window, daemon, receiver, watch
from bench.running import told
from rotord.db.connect import open_connection
from rotord.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    import asyncpg

SLOTS, QUICK_S, DENT = 200, 0.025, 0.9
# Days: what retention leaves, and the oldest there is.
YOUNGEST, OLDEST = 35, 350
API = 'kind = "sendgrid"\napi_key = "SG.key"\nbase_url = "http://127.0.0.1:{port}"\nmax_in_flight = {slots}\n'
RULES = "[retention]\nbody_days = {}\nattempts_days = {}\nevents_days = {}\n"
QUICK = """
INSERT INTO rotord.outbox (client, recipient, subject, body_text, kind)
VALUES ('client-' || $1::int, 'quick@example.org', 'Now', 'Now', 'transactional')
"""
WAITED = """
SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM a.began_at - o.created_at)::float8 * 1000)
  FROM rotord.outbox o
  JOIN rotord.attempts a ON a.outbox_id = o.id
 WHERE o.id > $1 AND o.kind = 'transactional'
"""
# Of the history, whose last attempt is $1.
LEFT = """
SELECT (SELECT count(*) FROM rotord.outbox WHERE created_at < now() - interval '35 days' AND blanked_at IS NULL) AS bodies,
       (SELECT count(*) FROM rotord.attempts WHERE id <= $1) AS attempts,
       (SELECT count(*) FROM pg_inherits WHERE inhparent = 'rotord.events'::regclass) AS months
"""


async def quick_ones(db: asyncpg.Connection, sink: Receiver, after: int) -> None:
    """From when the receiver has taken so many: what waits for the start is left out."""
    number = 0
    while await sink.taken() < after:  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(QUICK_S)
    while True:
        await db.execute(QUICK, number % fill.CLIENTS)
        number += 1
        await asyncio.sleep(QUICK_S)


async def drain(where: Place, url: str, sink: Receiver, window: Window, rules: tuple[int, int, int]) -> dict[str, float]:
    db = await open_connection(url)
    last = await db.fetchval("SELECT max(id) FROM rotord.outbox")
    left = await db.fetchval("SELECT count(*) FROM rotord.queue")
    async with fill.Loader(db) as loader:
        await loader.backlog(last + 1, last + window.last + window.first - left)
    await db.execute("VACUUM ANALYZE rotord.queue", timeout=fill.LONG_S)
    await db.execute(RESIGNED)
    last = await db.fetchval("SELECT max(id) FROM rotord.outbox")
    provider = API.format(port=sink.port, slots=SLOTS) + RULES.format(*rules)
    async with daemon(where, url, SLOTS, provider) as child:
        async with asyncio.TaskGroup() as group:
            inserting = group.create_task(quick_ones(db, sink, await sink.taken() + window.first))
            found = await watch(where, url, child, sink, window)
            inserting.cancel()
        child.terminate()
        await child.wait()
    found["quick_p50_ms"], found["quick_p99_ms"] = await db.fetchval(WAITED, last)
    await db.close()
    return found


async def in_turn(where: Place, url: str, window: Window, rounds: int) -> dict[str, dict[str, float]]:
    """Without, with each; again: the middle of each. And how much has gone."""
    runs: dict[str, list[dict[str, float]]] = {"without": [], "rows": [], "months": []}
    db = await open_connection(url)
    await db.execute("UPDATE rotord.domains SET providers = '{main}'")
    last = await db.fetchval("SELECT max(id) FROM rotord.attempts")
    before = dict(await db.fetchrow(LEFT, last, timeout=fill.LONG_S))
    async with receiver("-m", "bench.api_sink", "--latency-ms", "20") as sink:
        for number in range(rounds):
            events_days = YOUNGEST + (OLDEST - YOUNGEST) * (rounds - 1 - number) // rounds
            for name, rules in (("without", (0, 0, 0)), ("rows", (YOUNGEST, YOUNGEST, 0)), ("months", (0, 0, events_days))):
                runs[name].append(await drain(where, url, sink, window, rules))
                told(f"{name}: " + ", ".join(f"{key} {value:,.1f}" for key, value in runs[name][-1].items()))
    after = dict(await db.fetchrow(LEFT, last, timeout=fill.LONG_S))
    await db.close()
    gone = {name: before[name] - after[name] for name in before}
    return {"gone": gone, **{name: {key: median(run[key] for run in of) for key in of[0]} for name, of in runs.items()}}


async def run(messages: int, events_each: int, window: Window, rounds: int) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="rotord-bench-") as folder:
        async with EmbeddedPostgres(Path(folder)) as server:
            await (await filled(server.dsn, messages, events_each)).close()
            return await in_turn(Place(server, Path(folder)), server.dsn, window, rounds)


async def figures(scale: Scale) -> list[Figure]:
    sizes = {
        Scale.TINY: (15_000, 1, Window(100, 300), 1),
        Scale.SHORT: (1_000_000, 2, Window(2_000, 20_000), 1),
        Scale.FULL: (5_000_000, 6, Window(4_000, 40_000), 3),
    }
    found = await run(*sizes[scale])
    off, gone = found["without"], found["gone"]
    rows = []
    for name, what in (("rows", f"{gone['bodies']:,} bodies, {gone['attempts']:,} attempts"), ("months", f"{gone['months']} months")):
        on = found[name]
        rate = on["messages_a_second"] / off["messages_a_second"]
        rows += [
            Figure(f"{name}: of the rate without retention", rate, at_least=DENT, beside=f"gone: {what}"),
            Figure(f"{name}: messages a second", on["messages_a_second"], beside=f"{off['messages_a_second']:,.0f} without"),
            Figure(f"{name}: CPU of PostgreSQL", on["server_us"], "us a message", beside=f"{off['server_us']:,.0f} without"),
            Figure(f"{name}: write-ahead log", on["wal_bytes"], "B a message", beside=f"{off['wal_bytes']:,.0f} without"),
            Figure(f"{name}: insert to begin, p99", on["quick_p99_ms"], "ms", beside=f"{off['quick_p99_ms']:,.0f} without"),
        ]
    return rows
