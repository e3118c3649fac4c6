"""How the daemon bears its fleet: a decision, memory, start to the first send with a day's ledger, a changed row.

    python -m bench.fleet [--sizes 1200,12000,100000] [--attempts 4000000] [--json]

25 addresses a domain, 8 domains a client. Decisions and memory are those of bench.decisions. Start is the real daemon, from the start of
its process until its relay has the first message, with `attempts` (fewer for smaller fleets: 40 an address) spread over the last 24 hours.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import decisions, fill
from bench.figures import Figure, Scale
from bench.running import Daemon, relay, told
from rotord.db.connect import open_connection
from rotord.db.migrate import migrate
from rotord.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

ATTEMPTS_AN_ADDRESS = 40
START_AT_MOST_S = 10.0

FIRST = """
INSERT INTO rotord.outbox (client, recipient, subject, body_text, headers, kind)
VALUES ('client-0', 'first@recipients.example', 'Hello', 'Hello', jsonb_build_object('X-Row', $1::text), 'transactional')
"""
# A changed row in its effect: an address whose hour is over may send again.
OPEN = "UPDATE rotord.addresses SET per_hour = 1000, per_day = 100000 WHERE email = $1"


@asynccontextmanager
async def a_day_old(size: int, attempts: int) -> AsyncIterator[tuple[str, asyncpg.Connection]]:
    """A database with the fleet and its last 24 hours."""
    with tempfile.TemporaryDirectory() as state:
        async with EmbeddedPostgres(Path(state)) as server:
            db = await open_connection(server.dsn)
            await migrate(db)
            told(f"{size:,} addresses, {attempts:,} attempts")
            async with fill.Loader(db) as loader:
                await loader.fleet(size)
                await loader.day(size, attempts)
            await db.execute("VACUUM ANALYZE", timeout=fill.LONG_S)
            yield server.dsn, db
            await db.close()


async def start(size: int, attempts: int) -> dict[str, Any]:
    """Seconds from the daemon's start to the first message at the relay; milliseconds until a changed row is in force; memory."""
    async with a_day_old(size, attempts) as (url, db):
        with tempfile.TemporaryDirectory() as name:
            async with relay(Path(name)) as receiver:
                await db.execute(FIRST, "first")
                began = time.time()
                async with Daemon(url, Path(name), receiver.settings) as daemon:
                    first = await receiver.when("first", 300)
                    rss = daemon.rss_mb()
                    reload_ms = await changed(db, receiver)
                    return {
                        "addresses": size,
                        "attempts": attempts,
                        "start_s": first - began,
                        "start_cpu_s": daemon.cpu_s(),
                        "rss_mb": rss,
                        "peak_mb": daemon.peak_mb(),
                        "reload_ms": reload_ms,
                    }


async def changed(db: asyncpg.Connection, receiver: Any) -> float:
    """Milliseconds from an UPDATE of an exhausted address to the message that waited for it at the relay."""
    email = await db.fetchval("UPDATE rotord.addresses SET per_hour = 0 WHERE email = 'a0@d0.example' RETURNING email")
    await asyncio.sleep(2)
    await db.execute(
        FIRST.replace("headers, kind)", "headers, kind, sender)").replace("'transactional')", "'transactional', $2)"), "held", email
    )
    await asyncio.sleep(2)
    assert receiver.seen("held") is None
    began = time.time()
    await db.execute(OPEN, email)
    return (await receiver.when("held", 30) - began) * 1e3


def row(size: int, attempts: int) -> dict[str, Any]:
    found = decisions.row(size, max(1, size // fill.ADDRESSES_A_CLIENT))
    kept = {name: found[name] for name in ("choose_us", "settle_us", "throttled_us", "blocked_ms", "bytes")}
    return {**asyncio.run(start(size, min(attempts, size * ATTEMPTS_AN_ADDRESS))), **kept}


async def figures(scale: Scale) -> list[Figure]:
    size, attempts = {Scale.TINY: (1200, 5000), Scale.SHORT: (12_000, 480_000), Scale.FULL: (100_000, 4_000_000)}[scale]
    found = await start(size, attempts)
    return [
        Figure(f"start to first send, {size:,} addresses, {attempts:,} attempts", found["start_s"], "s", at_most=START_AT_MOST_S),
        Figure("memory at its most while starting", found["peak_mb"], "MB", beside=f"{found['rss_mb']:.0f} MB then"),
        Figure("a changed row is in force after", found["reload_ms"], "ms", at_most=2000.0),
    ]


def report(table: list[dict[str, Any]]) -> None:
    titles = {
        "addresses": "addresses", "attempts": "attempts/24h", "start_s": "start, s", "rss_mb": "RSS, MB", "peak_mb": "peak, MB",
        "reload_ms": "reload, ms", "choose_us": "choose, us", "settle_us": "settle, us", "throttled_us": "throttled us",
        "blocked_ms": "worst, ms", "bytes": "bytes/addr",
    }  # fmt: skip
    print("".join(f"{title:>14}" for title in titles.values()))
    for line in table:
        print("".join(f"{line[name]:>14,.2f}" if isinstance(line[name], float) else f"{line[name]:>14,}" for name in titles))


def main(words: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", default="1200,12000,100000")
    parser.add_argument("--attempts", type=int, default=4_000_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    table = [row(int(size), arguments.attempts) for size in arguments.sizes.split(",")]
    json.dump(table, sys.stdout, indent=2) if arguments.json else report(table)
    return table


if __name__ == "__main__":
    main()
