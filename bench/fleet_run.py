"""100,000 addresses at 556 messages a second, for minutes: processor time, memory, caps by the receiver's log, insert to socket.

    python -m bench.fleet_run [--minutes 3] [--addresses 100000] [--rate 556] [--json]

A bulk row for each client in turn, 10 transactional rows a second among them. Of client-0 one domain may send, twice an hour from each of
its 25 addresses, so that it runs into its caps; the others' addresses may 20 times. The real daemon, an SMTP relay of 50 connections that
answers after 20 ms, an embedded server with its usual, durable settings. What inserts and what receives is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import fill
from bench.figures import Figure, Scale
from bench.running import Daemon, Relay, family_cpu_s, relay, told
from rotord.db.connect import open_connection
from rotord.db.migrate import migrate
from rotord.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

TICK_S, QUICK_EVERY_S = 0.05, 0.1
WARM_S, DRAIN_S = 15.0, 60.0
TIGHT = 2
CORE_AT_MOST, P99_MS_AT_MOST = 0.5, 100.0

ROWS = """
INSERT INTO rotord.outbox (client, recipient, subject, body_text, headers)
SELECT 'client-' || i % $3::int, 'r' || i || '@recipients.example', 'Message ' || i, repeat(md5(i::text), 8),
       jsonb_build_object('X-Row', 'bulk/' || i)
  FROM generate_series($1::bigint, $2::bigint) AS i
"""
LIMITED = """
UPDATE rotord.addresses
   SET per_hour = CASE domain WHEN 'd0.example' THEN $1::int ELSE 0 END
 WHERE domain IN (SELECT name FROM rotord.domains WHERE client = 'client-0')
"""
QUICK = """
INSERT INTO rotord.outbox (client, recipient, subject, body_text, headers, kind)
VALUES ('client-' || $1::int, 'quick@recipients.example', 'Now', 'Now', jsonb_build_object('X-Row', $2::text), 'transactional')
"""


LEFT = "SELECT count(*) FROM rotord.queue WHERE client <> 'client-0' OR state = 'sending'"


class Load:
    """Inserts bulk at a rate and, as another app would, a transactional row now and then; remembers when each of those was handed over."""

    def __init__(self, db: asyncpg.Connection, quick: asyncpg.Connection, clients: int, rate: float) -> None:
        self._db, self._quick, self.clients, self._rate = db, quick, clients, rate
        self.inserted = 0
        self.asked_at: dict[str, float] = {}

    async def run(self, seconds: float) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bulk(seconds))
            group.create_task(self._now_and_then(seconds))

    async def _bulk(self, seconds: float) -> None:
        began = time.monotonic()
        tick = 0
        while (gone := time.monotonic() - began) < seconds:
            due = int(gone * self._rate)
            if due > self.inserted:
                await self._db.execute(ROWS, self.inserted, due - 1, self.clients)
                self.inserted = due
            tick += 1
            await asyncio.sleep(max(0.0, began + tick * TICK_S - time.monotonic()))

    async def _now_and_then(self, seconds: float) -> None:
        ends, chance = time.monotonic() + seconds, random.Random(1)
        while time.monotonic() < ends:
            await asyncio.sleep(chance.uniform(0, 2 * QUICK_EVERY_S))
            name = f"quick/{len(self.asked_at)}"
            self.asked_at[name] = time.time()
            await self._quick.execute(QUICK, 1 + len(self.asked_at) % (self.clients - 1), name)


async def sampled(daemon: Daemon, server_pid: int, seconds: float) -> dict[str, Any]:
    """Cores in use and memory, every tenth of the time."""
    rows = []
    before, at = (daemon.cpu_s(), family_cpu_s(server_pid)), time.monotonic()
    for _ in range(10):
        await asyncio.sleep(seconds / 10)
        now, moment = (daemon.cpu_s(), family_cpu_s(server_pid)), time.monotonic()
        rows.append((daemon.rss_mb(), (now[0] - before[0]) / (moment - at), (now[1] - before[1]) / (moment - at)))
        before, at = now, moment
    return {
        "daemon_cores": sum(row[1] for row in rows) / len(rows),
        "postgres_cores": sum(row[2] for row in rows) / len(rows),
        "rss_mb": [round(row[0], 1) for row in rows],
        "load": os.getloadavg()[0],
    }


async def run(minutes: float, addresses: int, rate: float) -> dict[str, Any]:
    seconds = minutes * 60
    with tempfile.TemporaryDirectory() as state, tempfile.TemporaryDirectory() as folder:
        async with EmbeddedPostgres(Path(state)) as server:
            db = await open_connection(server.dsn)
            await migrate(db)
            told(f"{addresses:,} addresses")
            async with fill.Loader(db) as loader:
                await loader.fleet(addresses)
                await db.execute(LIMITED, TIGHT)
            await db.execute("VACUUM ANALYZE", timeout=fill.LONG_S)
            tight = await db.fetchval("SELECT count(*) FROM rotord.addresses WHERE per_hour = $1", TIGHT)
            assert server.pid is not None
            async with relay(Path(folder)) as receiver, Daemon(server.dsn, Path(folder), receiver.settings) as daemon:
                await db.execute(QUICK, 1, "first")
                await receiver.when("first", 60)
                quick = await open_connection(server.dsn)
                load = Load(db, quick, addresses // fill.ADDRESSES_A_CLIENT, rate)
                told(f"{rate:,.0f} messages/s for {minutes:g} minutes")
                async with asyncio.TaskGroup() as group:
                    group.create_task(load.run(seconds))
                    await asyncio.sleep(min(WARM_S, seconds / 4))
                    used = await sampled(daemon, server.pid, seconds - 2 * min(WARM_S, seconds / 4))
                left = await drained(db)
                found = {**judged(receiver, load, tight), "left": left}
                await quick.close()
            await db.close()
    return {"minutes": minutes, "addresses": addresses, "rate": rate, **used, **found}


async def drained(db: asyncpg.Connection) -> int:
    """Wait until nothing is left but what client-0's caps hold back; how many are left after a minute."""
    give_up = time.monotonic() + DRAIN_S
    while (left := await db.fetchval(LEFT)) and time.monotonic() < give_up:  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(0.5)
    return int(left)


def judged(receiver: Relay, load: Load, tight: int) -> dict[str, Any]:
    """What the receiver's log says."""
    entries = receiver.entries()
    names = Counter(entry["row"] for entry in entries)  # `first` among them
    by_address: dict[str, list[float]] = defaultdict(list)
    for entry in entries:
        by_address[entry["from"]].append(entry["at"])
    worst = {address: worst_hour(times) for address, times in by_address.items()}
    taken = {entry["row"]: entry["at"] for entry in entries}
    quick = sorted(taken[name] - at for name, at in load.asked_at.items() if name in taken)
    limited = sum(1 for name in names if name.startswith("bulk/") and int(name[5:]) % load.clients == 0)
    wanted = sum(1 for number in range(load.inserted) if number % load.clients == 0)
    return {
        "inserted": load.inserted + len(load.asked_at),
        "arrived": len(names) - 1,
        "twice": sum(count - 1 for count in names.values()),
        "quick_missing": len(load.asked_at) - len(quick),
        "quick_p50_ms": quick[len(quick) // 2] * 1e3,
        "quick_p99_ms": quick[int(len(quick) * 0.99)] * 1e3,
        "quick_worst_ms": quick[-1] * 1e3,
        "worst_hour_of_any_address": max(worst.values()),
        "capped_client_sent": limited,
        "capped_client_may": min(wanted, TIGHT * tight),
    }


def worst_hour(times: Sequence[float]) -> int:
    ordered = sorted(times)
    return max(index - bisect_left(ordered, at - 3600 + 1e-6) + 1 for index, at in enumerate(ordered))


def report(found: dict[str, Any]) -> None:
    daemon, postgres = found["daemon_cores"], found["postgres_cores"]
    print(f"{found['addresses']:,} addresses, {found['rate']:,.0f} messages/s, {found['minutes']:g} minutes, load {found['load']:.1f}")
    print(f"cores              {daemon + postgres:.2f} (daemon {daemon:.2f}, PostgreSQL {postgres:.2f}; at most {CORE_AT_MOST})")
    print(f"daemon's memory    {found['rss_mb'][0]:,.0f} MB at first, {found['rss_mb'][-1]:,.0f} MB at last")
    took = ", ".join(f"{name} {found[f'quick_{name}_ms']:.0f} ms" for name in ("p50", "p99", "worst"))
    print(f"insert to socket   {took} (transactional; p99 at most {P99_MS_AT_MOST:.0f})")
    print(f"messages           {found['inserted']:,} inserted, {found['arrived']:,} arrived, {found['twice']} twice", end=", ")
    print(f"{found['left']:,} left in the queue that may go")
    print(f"caps               worst hour of any address {found['worst_hour_of_any_address']}, capped client sent", end=" ")
    print(f"{found['capped_client_sent']:,} of {found['capped_client_may']:,} that it may")


async def figures(scale: Scale) -> list[Figure]:
    minutes, addresses, rate = {Scale.TINY: (0.1, 1200, 50.0), Scale.SHORT: (0.5, 100_000, 556.0), Scale.FULL: (15.0, 100_000, 556.0)}[
        scale
    ]
    found = await run(minutes, addresses, rate)
    cores = found["daemon_cores"] + found["postgres_cores"]
    return [
        Figure("cores, daemon and PostgreSQL", cores, "", at_most=CORE_AT_MOST, beside=f"load {found['load']:.1f}"),
        Figure("insert to socket p99, transactional", found["quick_p99_ms"], "ms", at_most=P99_MS_AT_MOST),
        Figure("daemon's memory at last", found["rss_mb"][-1], "MB", beside=f"{found['rss_mb'][0]:.0f} MB at first"),
        Figure("of what the caps allow", found["capped_client_sent"] / found["capped_client_may"], "", at_most=1.0),
        Figure("sent twice", found["twice"], "", at_most=0.0),
    ]


def main(words: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--addresses", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=556.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    found = asyncio.run(run(arguments.minutes, arguments.addresses, arguments.rate))
    json.dump(found, sys.stdout, indent=2) if arguments.json else report(found)
    return found


if __name__ == "__main__":
    main()
