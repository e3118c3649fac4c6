"""What the straight line costs in PostgreSQL: milliseconds, pages, CPU and write-ahead log a message, statement by statement.

    python -m bench.statements [--url URL] [--json]

One connection, one statement after the other, as the dispatcher and the recorder send them; 12 clients, 200,000 queued rows, 100,000
suppressions. `--url` names an empty database on the same machine (CPU is read from its clock); without it an embedded server with its
usual, durable settings is started. The targets are what a first prototype of these three statements took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from bench.figures import Figure, Scale
from rotord.core.model import Outcome, Reply
from rotord.core.records import Begin, Candidate, Cursor, LaneRequest, LaneRow, Next, Settlement, Step, Term
from rotord.db import queue, settle
from rotord.db.analyze import analyze
from rotord.db.connect import open_connection
from rotord.db.migrate import migrate
from rotord.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    import asyncpg

CLIENTS, QUEUED, SUPPRESSED = 12, 200_000, 100_000
BATCHES = (12, 60, 120, 480)
SECONDS = 5.0
CPU_BATCH, CPU_MESSAGES = 100, 20_000
# Milliseconds at a batch of 120 that the prototype took on a noisy machine, and microseconds of CPU a message that are allowed.
TARGET_MS = {"candidates": 2.8, "begin": 5.0, "settle": 11.0}
TARGET_CPU_US = 120.0

LOAD = """
INSERT INTO rotord.clients (slug) SELECT 'client-' || i FROM generate_series(0, {clients} - 1) AS i;
INSERT INTO rotord.lease (name, holder, epoch, elected_at, expires_at)
VALUES ('main', '11111111-1111-1111-1111-111111111111', 1, now(), now() + interval '1 day');
INSERT INTO rotord.suppressions (client, recipient, reason)
SELECT 'client-0', 'gone' || i || '@example.org', 'hard_bounce' FROM generate_series(1, {suppressed}) AS i;
"""
INSERT = """
INSERT INTO rotord.outbox (client, recipient, subject, body_text)
SELECT 'client-' || i % $2::int, 'r' || i || '@example.org', 'Message ' || i, repeat(md5(i::text), 60)
  FROM generate_series(1, $1::int) AS i
"""
WAL = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"


class Line:
    """Carries messages through the statements; remembers how long each took."""

    def __init__(self, db: asyncpg.Connection, pid: int, lanes: Sequence[LaneRow], now: float) -> None:
        self.db = db
        self._pid = pid
        self.term = Term(UUID("11111111-1111-1111-1111-111111111111"), 1, now, 1)
        self.took: dict[str, list[float]] = {}
        self.cpu_us: dict[str, float] = {}
        self._client = {row.key: row.lane.client for row in lanes}
        self._after = dict.fromkeys(self._client, Cursor())
        self._next_id = (int(now * 1000) + 1) << 20

    async def carry(self, count: int) -> int:
        """Claim, begin and settle about this many messages, the same of each lane; gives how many began."""
        await self._timed("lanes", queue.lanes(self.db))
        rows = await self._timed("candidates", queue.candidates(self.db, self.requests(count)))
        begins, settlements = self.parts(rows)
        await self._timed("payloads", queue.payloads(self.db, [row.id for row in rows]))
        verdicts = await self._timed("begin", queue.begin(self.db, self.term, begins))
        if len(verdicts) < len(rows) or not rows:
            raise AssertionError(f"of {len(rows)} messages {len(verdicts)} began")
        await self._timed("settle", settle.settle(self.db, settlements))
        self.moved(rows)
        return len(verdicts)

    def moved(self, rows: Sequence[Candidate]) -> None:
        """Put the cursors behind these rows, as the dispatcher does."""
        for row in rows:
            self._after[row.lane_key] = Cursor(row.rank, row.due_at, row.id)

    def requests(self, count: int) -> list[LaneRequest]:
        return [LaneRequest(key, max(1, count // len(self._after)), after) for key, after in self._after.items()]

    def parts(self, rows: Sequence[Candidate]) -> tuple[list[Begin], list[Settlement]]:
        first, now = self._next_id, self.term.now
        self._next_id += len(rows)
        begins = [
            Begin(
                row.id, first + n, "a@example.com", "example.com", self._client[row.lane_key], "relay", 60.0, f"<{row.id}@example.com>", now
            )
            for n, row in enumerate(rows)
        ]
        reply = Reply(Outcome.ACCEPTED, None, "250", "2.0.0 Ok: queued as 4bXyZ1234", "4bXyZ1234")
        return begins, [Settlement(first + n, row.id, reply, now + 1, Step(Next.SENT)) for n, row in enumerate(rows)]

    async def _timed(self, name: str, call: Awaitable[Any]) -> Any:
        before, began = cpu_us(self._pid), time.perf_counter()
        answer = await call
        self.took.setdefault(name, []).append((time.perf_counter() - began) * 1e3)
        self.cpu_us[name] = self.cpu_us.get(name, 0.0) + cpu_us(self._pid) - before
        return answer


class Explaining:
    """Runs a statement under EXPLAIN and counts the pages it touched; it answers nothing."""

    def __init__(self, db: asyncpg.Connection) -> None:
        self._db = db
        self.pages = 0

    async def fetch(self, statement: str, *arguments: Any, **_: Any) -> list[asyncpg.Record]:
        plan = json.loads(await self._db.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}", *arguments))
        self.pages += plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
        return []


async def pages_a_message(line: Line, count: int) -> dict[str, float]:
    """Pages of each statement at a batch of `count`, in a transaction that is rolled back."""
    rows = await queue.candidates(line.db, line.requests(count))
    begins, settlements = line.parts(rows)
    pages = {}
    transaction = line.db.transaction()
    await transaction.start()
    for name, call in (
        ("candidates", lambda db: queue.candidates(db, line.requests(count))),
        ("payloads", lambda db: queue.payloads(db, [row.id for row in rows])),
        ("begin", lambda db: queue.begin(db, line.term, begins)),
        ("settle", lambda db: settle.settle(db, settlements)),
    ):
        explaining = Explaining(line.db)
        with suppress(queue.FencedError):  # EXPLAIN answers no row, which is how a lost lease looks
            await call(explaining)
        pages[name] = explaining.pages / len(rows)
    await transaction.rollback()
    return pages


def cpu_us(pid: int) -> float:
    """Time on a core of a process so far: its POSIX CPU clock, whose id Linux makes of the process's (CPUCLOCK_SCHED is 2)."""
    return time.clock_gettime_ns(~pid << 3 | 2) / 1e3


async def measure(url: str, queued: int = QUEUED, seconds: float = SECONDS, messages: int = CPU_MESSAGES) -> dict[str, Any]:
    db = await open_connection(url)
    await migrate(db)
    await db.execute(LOAD.format(clients=CLIENTS, suppressed=SUPPRESSED), timeout=300)
    pid = await db.fetchval("SELECT pg_backend_pid()")
    before, wal = cpu_us(pid), await db.fetchval(WAL)
    for _ in range(queued // 1000):  # an app that inserts a thousand at a time
        await db.execute(INSERT, 1000, CLIENTS, timeout=60)
    insert = {"cpu_us": (cpu_us(pid) - before) / queued, "wal_bytes": float(await db.fetchval(WAL) - wal) / queued}
    await db.execute("VACUUM ANALYZE", timeout=300)
    line = Line(db, pid, await queue.lanes(db), await db.fetchval("SELECT extract(epoch FROM now())::float8"))
    batches = {}
    for batch in BATCHES:
        line.took.clear()
        began, sent = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            sent += await line.carry(batch)
        await analyze(db)  # as the leader does every 2 s
        took = {name: statistics.median(times) for name, times in line.took.items()}
        batches[batch] = {"messages_a_second": sent / (time.perf_counter() - began), "p50_ms": took}
    line.cpu_us.clear()
    wal, sent = await db.fetchval(WAL), 0
    while sent < messages:
        sent += await line.carry(CPU_BATCH)
    result = {
        "insert": insert,
        "batches": batches,
        "cpu_us": {name: used / sent for name, used in line.cpu_us.items()},
        "wal_bytes": float(await db.fetchval(WAL) - wal) / sent,
        "pages": await pages_a_message(line, CPU_BATCH),
        "hot_updates": dict(await db.fetch("SELECT relname, n_tup_hot_upd::float8 / nullif(n_tup_upd, 0) FROM pg_stat_user_tables"
                                           " WHERE relname IN ('queue', 'attempts')")),
    }  # fmt: skip
    await db.close()
    return result


def report(result: dict[str, Any]) -> None:
    names = ["lanes", "candidates", "payloads", "begin", "settle"]
    print("batch  messages/s  " + "".join(f"{name:>12}" for name in names) + "   (p50, ms)")
    for batch, row in result["batches"].items():
        print(f"{batch:5}  {row['messages_a_second']:10,.0f}  " + "".join(f"{row['p50_ms'][name]:12.2f}" for name in names))
    print("target at 120      " + "".join(f"{TARGET_MS.get(name, ''):>12}" for name in names))
    for title, figures in (("pages a message", result["pages"]), ("CPU us a message", result["cpu_us"])):
        print(f"{title:19}" + "".join(f"{figures[name]:12.1f}" if name in figures else " " * 12 for name in names))
    print(f"CPU of the backend {sum(result['cpu_us'].values()):.0f} us a message at batches of {CPU_BATCH} (target {TARGET_CPU_US:.0f})")
    print(f"write-ahead log    {result['wal_bytes']:,.0f} bytes a message")
    print(f"an app's INSERT    {result['insert']['cpu_us']:.0f} us and {result['insert']['wal_bytes']:,.0f} bytes a row, 1,000 at a time")
    print("updates in place   " + ", ".join(f"{table} {share or 0:.0%}" for table, share in result["hot_updates"].items()))


async def run(url: str | None, *sizes: float) -> dict[str, Any]:
    if url is not None:
        return await measure(url)
    with tempfile.TemporaryDirectory() as state:
        async with EmbeddedPostgres(Path(state)) as server:
            return await measure(server.dsn, *sizes)


async def figures(scale: Scale) -> list[Figure]:
    found = await run(
        None, *{Scale.TINY: (3_000, 0.05, 200), Scale.SHORT: (100_000, 1.5, 10_000), Scale.FULL: (200_000, 5.0, 20_000)}[scale]
    )
    return [
        *(Figure(f"{name} of 120", ms, "ms", at_most=TARGET_MS.get(name)) for name, ms in found["batches"][120]["p50_ms"].items()),
        Figure("CPU of the backend", sum(found["cpu_us"].values()), "us a message", at_most=TARGET_CPU_US, beside="in batches of 100"),
        Figure("write-ahead log", found["wal_bytes"], "B a message"),
        Figure("an app's INSERT, CPU", found["insert"]["cpu_us"], "us a row", beside=f"{found['insert']['wal_bytes']:,.0f} B of log"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", help="an empty database on this machine")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = asyncio.run(run(arguments.url))
    print(json.dumps(result, indent=2)) if arguments.json else report(result)


if __name__ == "__main__":
    main()
