"""What the daemon's tests do again and again: rows with any columns, a relay and a daemon, how long messages took, how they ended."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from tests.daemon.rig import ReceiverProcess, Rig, receiver, relay, running, wait_until


@asynccontextmanager
async def sending(
    url: str, folder: Path, toml: str = "", connections: int = 20, **options: str
) -> AsyncIterator[tuple[Rig, ReceiverProcess]]:
    """A receiver and a daemon whose provider `relay` it is."""
    async with receiver(folder, "relay", **options) as one, running(Rig(url, folder, toml + relay("relay", one.port, connections))) as rig:
        yield rig, one


async def insert(db: asyncpg.Connection, client: str, **columns: Any) -> int:
    """One row, as an app inserts it."""
    values = {"client": client, "recipient": "r@recipients.example", "subject": "s", "body_text": "b", **columns}
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    return await db.fetchval(f"INSERT INTO rotord.outbox ({', '.join(values)}) VALUES ({places}) RETURNING id", *values.values())


async def statuses(db: asyncpg.Connection) -> Counter[str]:
    """How many messages have each status."""
    rows = await db.fetch("SELECT status, count(*) FROM rotord.messages GROUP BY status")
    return Counter({row["status"]: row["count"] for row in rows})


async def first_accepted(db: asyncpg.Connection, client: str) -> None:
    """A message of this client has been through: the daemon leads, its relay is up, the statements are prepared."""
    one = await insert(db, client, kind="transactional", headers=f'{{"X-Row": "first/{client}"}}')
    assert await wait_until(db, f"status = 'sent' FROM rotord.messages WHERE id = {one}", 30)


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def quick_latencies(db: asyncpg.Connection, one: ReceiverProcess, client: str, count: int, gap_s: float) -> list[float]:
    """Seconds from right before each INSERT of a transactional row to the receiver's line about it, of `count` rows `gap_s` apart."""
    asked_at = {}
    for number in range(count):
        name = f"quick/{number}"
        asked_at[name] = time.time()
        await insert(db, client, kind="transactional", headers=f'{{"X-Row": "{name}"}}')
        await asyncio.sleep(gap_s)
    taken_at: dict[str, float] = {}
    async with asyncio.timeout(30):
        while len(taken_at) < count:
            await asyncio.sleep(0.2)
            taken_at = {entry["row"]: entry["at"] for entry in one.seen() if entry.get("row", "").startswith("quick/")}
    return [taken_at[name] - at for name, at in asked_at.items()]


def stretch() -> float:
    """How much longer than promised a thing may take now: promises are about free cores, and tests share theirs."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def told(what: str, seconds: list[float]) -> str:
    """A line with the percentiles, for people who run with -s."""
    shown = ", ".join(f"p{share * 100:g} {percentile(seconds, share) * 1000:.1f} ms" for share in (0.5, 0.9, 0.99))
    return f"{what}: {shown}, worst {max(seconds) * 1000:.1f} ms (n={len(seconds)}, load {os.getloadavg()[0]:.1f})"
