"""P1 to P3 while the daemon is ended again and again, politely and not, and the receiver holds its answers."""

import asyncio
import random
import signal
from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, Truth, receiver, relay, running, wait_until

# The shortest lease: what a restart after kill -9 has to wait for.
LEASE = "[lease]\nttl_seconds = 5\n"
HELD = {"latency_ms": "200,2000"}


async def _end_again_and_again(rig: Rig, db: asyncpg.Connection, numbers: list[int], seed: int) -> dict[str, int]:
    """Let it work for 0.5 to 2 s, end it, start it; says how many attempts were unfinished after each kind of end."""
    chance = random.Random(seed)
    left = {"drained": 0, "killed": 0}
    for number in numbers:
        begun = await db.fetchval("SELECT count(*) FROM rotord.attempts")
        assert await wait_until(db, f"count(*) > {begun} FROM rotord.attempts", 20)
        await asyncio.sleep(chance.uniform(0.2, 2.0))
        await rig.kill(number)
        unfinished = await db.fetchval("SELECT count(*) FROM rotord.attempts WHERE outcome IS NULL")
        left["drained" if number == signal.SIGTERM else "killed"] += unfinished
        await rig.start()
    return left


async def _check(database_url: str, db: asyncpg.Connection, folder: Path, rounds: int) -> None:
    fleet = Fleet()
    for client in ("acme", "globex", "initech"):
        await fleet.add(db, client, domains=4, addresses=25, per_hour=(2000, 700, 30))
        await insert_rows(db, client, 1000 + 600 * rounds)
    numbers = [signal.SIGTERM, signal.SIGKILL] * rounds
    async with receiver(folder, "relay", **HELD) as one:
        rig = Rig(database_url, folder, LEASE + relay("relay", one.port, 100))
        async with running(rig):
            left = await _end_again_and_again(rig, db, numbers, seed=rounds)
            begun = await db.fetchval("SELECT count(*) FROM rotord.attempts")
            assert await wait_until(db, f"count(*) > {begun} FROM rotord.attempts", 20)
            assert await rig.stop() == 0
        truth = Truth.of(one)
    status = {row["name"]: row["status"] for row in await db.fetch(STATUS)}
    uncertain = {name for name, word in status.items() if word == "uncertain"}
    sent = {name for name, word in status.items() if word == "sent"}
    print(f"sent {len(sent)}, uncertain {len(uncertain)} (of them at the receiver {len(uncertain & set(truth.rows))}), left {left}")

    assert left["drained"] == 0
    assert max(truth.rows.values()) == 1
    assert sent - set(truth.rows) == set()
    assert set(truth.rows) - sent - uncertain == set()
    assert len(uncertain) <= left["killed"]
    # The journal: what had not left goes back to the queue. At most the one message a kill that was noted and cut before its write.
    assert len(uncertain - set(truth.rows)) <= rounds
    for group in (fleet.itself, fleet.domain_of, fleet.client_of):
        for name, worst in truth.worst(group).items():
            assert worst <= fleet.limit_of[name], name


STATUS = """
SELECT o.headers ->> 'X-Row' AS name, m.status
  FROM rotord.messages m
  JOIN rotord.outbox o USING (id)
"""


@pytest.mark.timeout(120)
async def test_nothing_is_lost_or_doubled_by_three_drains_and_three_kills(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await _check(database_url, db, tmp_path, rounds=3)


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_nothing_is_lost_or_doubled_by_ten_drains_and_ten_kills(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await _check(database_url, db, tmp_path, rounds=10)
