"""What a claim costs behind 10,000 rows, behind millions, after millions, and while somebody holds an old snapshot open.

    python -m bench.claim [--backlogs 10000,1000000,5000000] [--history 5000000] [--held 100000] [--json]

Pages (EXPLAIN ANALYZE BUFFERS) a message and milliseconds a batch of 100 of the daemon's own statements, 12 clients, on an embedded
server with its usual, durable settings. Pages do not depend on the machine; what is above 1.2 times the first row is a defect. "look" is
the look for lanes, pages a look: the daemon takes one a second, or when rows came.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import fill
from bench.figures import Figure, Scale
from bench.running import told
from bench.statements import Explaining, Line
from rotord.db import queue, settle
from rotord.db.connect import open_connection
from rotord.db.migrate import migrate
from rotord.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

BATCH, ROUNDS = 100, 30
STATEMENTS = ("lanes", "candidates", "payloads", "begin", "settle")
PAGES_AT_MOST, TIME_AT_MOST = 1.2, 1.5


async def measure(line: Line, rounds: int = ROUNDS) -> dict[str, Any]:
    """Pages a message (`lanes`: a look) and the median milliseconds a batch; what is measured is done, too."""
    for _ in range(3):
        await line.carry(BATCH)
    line.took.clear()
    for _ in range(rounds):
        await line.carry(BATCH)
    took = {name: statistics.median(times) for name, times in line.took.items()}
    pages = dict.fromkeys(STATEMENTS, 0.0)
    carried = 0
    for _ in range(rounds):
        rows = await queue.candidates(line.db, line.requests(BATCH))
        begins, settlements = line.parts(rows)
        for name, call in (
            ("lanes", queue.lanes),
            ("candidates", lambda db: queue.candidates(db, line.requests(BATCH))),
            ("payloads", lambda db, rows=rows: queue.payloads(db, [row.id for row in rows])),
            ("begin", lambda db, begins=begins: queue.begin(db, line.term, begins)),
            ("settle", lambda db, settlements=settlements: settle.settle(db, settlements)),
        ):
            explaining = Explaining(line.db)
            with suppress(queue.FencedError):  # EXPLAIN answers no row, which is how a lost lease looks
                await call(explaining)
            pages[name] += explaining.pages
        line.moved(rows)
        carried += len(rows)
    return {"pages": {name: found / (rounds if name == "lanes" else carried) for name, found in pages.items()}, "p50_ms": took}


async def line_of(db: asyncpg.Connection) -> Line:
    return Line(
        db,
        await db.fetchval("SELECT pg_backend_pid()"),
        await queue.lanes(db),
        await db.fetchval("SELECT extract(epoch FROM now())::float8"),
    )


@asynccontextmanager
async def held_open(url: str) -> AsyncIterator[None]:
    """A snapshot that stays, as a backup's."""
    other = await open_connection(url)
    await other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    await other.fetchval("SELECT count(*) FROM rotord.clients")
    try:
        yield
    finally:
        await other.close()


async def of_backlogs(url: str, backlogs: list[int], held: int) -> dict[str, Any]:
    """One database that grows; at its largest a snapshot is held open while `held` messages are sent."""
    result = {}
    db = await fresh(url)
    there = 0
    for size in backlogs:
        told(f"a backlog of {size:,}")
        async with fill.Loader(db) as loader:
            await loader.backlog(there + 1, size)
        there = size
        await db.execute("VACUUM ANALYZE", timeout=fill.LONG_S)
        line = await line_of(db)
        result[f"backlog {size:,}"] = await measure(line)
    if held:
        told(f"a snapshot held open over {held:,} messages")
        async with held_open(url):
            sent = 0
            while sent < held:
                sent += await line.carry(480)
            result[f"+ snapshot open, {held:,} sent"] = await measure(line)
    await db.close()
    return result


async def of_history(url: str, backlog: int, history: int) -> dict[str, Any]:
    db = await fresh(url)
    told(f"a history of {history:,}")
    async with fill.Loader(db) as loader:
        await loader.history(1, history, "1 hour", 6.0)
        await loader.backlog(history + 1, history + backlog)
    await db.execute("VACUUM ANALYZE", timeout=fill.LONG_S)
    found = await measure(await line_of(db))
    await db.close()
    return {f"backlog {backlog:,}, history {history:,}": found}


async def fresh(url: str) -> asyncpg.Connection:
    db = await open_connection(url)
    await migrate(db)
    await fill.base(db)
    await fill.check(db)
    return db


async def run(backlogs: list[int], history: int, held: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as state:
        async with EmbeddedPostgres(Path(state)) as server:
            db = await open_connection(server.dsn)
            for name in ("backlogs", "history"):
                await db.execute(f"CREATE DATABASE {name}")
            result = await of_backlogs(_url(server.dsn, "backlogs"), backlogs, held)
            if history:
                await db.execute("DROP DATABASE backlogs", timeout=fill.LONG_S)
                result |= await of_history(_url(server.dsn, "history"), backlogs[0], history)
            await db.close()
    return judged(result)


def _url(dsn: str, database: str) -> str:
    return dsn.replace("/rotord?", f"/{database}?")


def judged(result: dict[str, Any]) -> dict[str, Any]:
    """Compare each row with the first, all statements of a message together, the look for lanes apart."""
    first = None
    for row in result.values():
        row["pages_a_message"] = sum(found for name, found in row["pages"].items() if name != "lanes")
        row["ms_a_batch"] = sum(found for name, found in row["p50_ms"].items() if name != "lanes")
        first = first or row
        row["pages_ratio"] = row["pages_a_message"] / first["pages_a_message"]
        row["ms_ratio"] = row["ms_a_batch"] / first["ms_a_batch"]
        row["look_ratio"] = row["pages"]["lanes"] / first["pages"]["lanes"]
    return result


def report(result: dict[str, Any]) -> None:
    print(f"{'':36}{'look':>9}" + "".join(f"{name:>12}" for name in STATEMENTS[1:]) + f"{'sum':>9}{'x first':>9}{'at most':>9}")
    for title, which, of_all, ratio, most in (
        ("pages a message (look: a look)", "pages", "pages_a_message", "pages_ratio", PAGES_AT_MOST),
        (f"p50, ms a batch of {BATCH}", "p50_ms", "ms_a_batch", "ms_ratio", TIME_AT_MOST),
    ):
        print(title)
        for name, row in result.items():
            figures = "".join(f"{row[which][one]:12.2f}" for one in STATEMENTS[1:])
            print(f"  {name:34}{row[which]['lanes']:9.2f}{figures}{row[of_all]:9.2f}{row[ratio]:9.2f}{most:9.1f}")


async def figures(scale: Scale) -> list[Figure]:
    backlogs, history, held = {
        Scale.TINY: ([7000, 21_000], 2000, 1000),
        Scale.SHORT: ([10_000, 200_000], 200_000, 20_000),
        Scale.FULL: ([10_000, 1_000_000, 5_000_000], 5_000_000, 100_000),
    }[scale]
    result = await run(backlogs, history, held)
    first = next(iter(result.values()))["pages_a_message"]
    pages = [
        Figure(
            f"pages a message, {name}", row["pages_a_message"], "", at_most=PAGES_AT_MOST * first, beside=f"time x {row['ms_ratio']:.2f}"
        )
        for name, row in result.items()
    ]
    return [*pages, *(Figure(f"look for lanes, {name}", row["p50_ms"]["lanes"], "ms") for name, row in result.items())]


def main(words: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backlogs", default="10000,1000000,5000000")
    parser.add_argument("--history", type=int, default=5_000_000)
    parser.add_argument("--held", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    result = asyncio.run(run([int(size) for size in arguments.backlogs.split(",")], arguments.history, arguments.held))
    print(json.dumps(result, indent=2)) if arguments.json else report(result)
    return result


if __name__ == "__main__":
    main()
