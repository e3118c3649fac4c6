"""P5: a client's backlog that cannot go anywhere does not slow another client's mail; and how fast an idle daemon is."""

from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, receiver, relay, running, wait_until
from tests.daemon.scenes import first_accepted, percentile, quick_latencies, sending, stretch, told

PIN = """
INSERT INTO rotord.outbox (client, recipient, subject, body_text, sender)
SELECT 'cold', 'r' || i || '@recipients.example', 's', 'b', 'a0@d0.cold.example'
  FROM generate_series(1, $1::int) AS i
"""
COOL = """
UPDATE rotord.addresses
   SET health = 'cooling', health_reason = 'a test', health_since = now(), health_until = now() + interval '2 days'
 WHERE email = 'a0@d0.cold.example'
"""


async def _check_beside_backlogs(url: str, db: asyncpg.Connection, folder: Path, exhausted: int, pinned: int, quick: int) -> None:
    fleet = Fleet()
    await fleet.add(db, "dry", domains=4, addresses=25, per_hour=(None, None, 1))
    await fleet.add(db, "cold", domains=1, addresses=2)
    await fleet.add(db, "quick", domains=1, addresses=4)
    await db.execute(COOL)
    await insert_rows(db, "dry", exhausted)
    await db.execute(PIN, pinned)
    async with sending(url, folder) as (_, one):
        await first_accepted(db, "quick")
        assert await wait_until(db, "count(*) = 100 FROM rotord.attempts WHERE client = 'dry' AND outcome = 'accepted'", 30)
        seconds = await quick_latencies(db, one, "quick", quick, 0.05)
        begun = {row["client"]: row["count"] for row in await db.fetch("SELECT client, count(*) FROM rotord.attempts GROUP BY client")}
    print(told(f"beside {exhausted} rows without quota and {pinned} behind a cooling address", seconds))

    assert percentile(seconds, 0.99) <= 0.25 * stretch()
    assert begun == {"dry": 100, "quick": quick + 1}


@pytest.mark.timeout(120)
async def test_backlogs_that_cannot_go_slow_nobody(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await _check_beside_backlogs(database_url, db, tmp_path, 100_000, 20_000, 300)


@pytest.mark.system
@pytest.mark.timeout(600)
async def test_a_million_rows_that_cannot_go_slow_nobody(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await _check_beside_backlogs(database_url, db, tmp_path, 1_000_000, 100_000, 1000)


@pytest.mark.timeout(60)
async def test_an_idle_daemon_takes_milliseconds(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await Fleet().add(db, "quick", domains=1, addresses=4)
    async with sending(database_url, tmp_path) as (_, one):
        await first_accepted(db, "quick")
        seconds = await quick_latencies(db, one, "quick", 100, 0.05)
    print(told("idle", seconds))

    assert percentile(seconds, 0.5) <= 0.015 * stretch()
    assert percentile(seconds, 0.99) <= 0.06 * stretch()


@pytest.mark.timeout(60)
async def test_a_slow_relay_goes_round_whoever_came_first(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    fleet = Fleet()
    for client in ("first", "second", "third"):
        await fleet.add(db, client, domains=1, addresses=4)
        await insert_rows(db, client, 400)
    async with receiver(tmp_path, "relay") as one:
        rig = Rig(database_url, tmp_path, relay("relay", one.port, 20, "per_second = 40"))
        async with running(rig):
            assert await wait_until(db, "count(*) >= 150 FROM rotord.attempts", 30)
            begun = {row["client"]: row["count"] for row in await db.fetch("SELECT client, count(*) FROM rotord.attempts GROUP BY client")}
    print(f"of a relay's 40 a second: {begun}")

    assert set(begun) == {"first", "second", "third"}
    assert max(begun.values()) - min(begun.values()) <= 10
