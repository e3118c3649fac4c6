"""P6, and a database that goes away: two daemons on one database, a server that is killed, a daemon killed with its own server."""

import asyncio
import os
import signal
from pathlib import Path

import asyncpg
import pytest

from rotord.embedded import EmbeddedPostgres
from rotord.embedded.account import homes
from rotord.embedded.leftover import running_socket_dir
from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, Truth, check_truth, receiver, relay, running, wait_until

ROOT = Path(__file__).parent.parent.parent
TTL_S = 5.0
LEASE = f"[lease]\nttl_seconds = {TTL_S}\n"
EPOCHS_OVERLAP = """
SELECT count(*)
  FROM rotord.attempts old
 WHERE began_at > (SELECT min(began_at) FROM rotord.attempts new WHERE new.epoch > old.epoch)
"""


async def _check_takeovers(url: str, db: asyncpg.Connection, folder: Path, kills: int) -> None:
    rows = 1500 + 1500 * kills
    await Fleet().add(db, "acme", domains=4, addresses=10)
    await insert_rows(db, "acme", rows)
    async with receiver(folder, "relay", latency_ms="20,200") as one:
        nodes = []
        for number in range(2):
            (folder / f"node{number}").mkdir()
            nodes.append(Rig(url, folder / f"node{number}", LEASE + relay("relay", one.port, 30)))
        leader, standby = nodes
        async with running(leader):
            assert await wait_until(db, "count(*) > 100 FROM rotord.attempts", 20)
            async with running(standby):
                gaps, unfinished = [], 0
                for _ in range(kills):
                    epoch = await db.fetchval("SELECT epoch FROM rotord.lease")
                    begun = await db.fetchval("SELECT count(*) FROM rotord.attempts")
                    assert await wait_until(db, f"count(*) > {begun + 200} FROM rotord.attempts", 20)
                    last = await db.fetchval("SELECT clock_timestamp()")
                    await leader.kill()
                    unfinished += await db.fetchval("SELECT count(*) FROM rotord.attempts WHERE outcome IS NULL")
                    assert await wait_until(db, f"count(*) > 0 FROM rotord.attempts WHERE epoch > {epoch}", TTL_S + 10)
                    first = await db.fetchval("SELECT min(began_at) FROM rotord.attempts WHERE epoch > $1", epoch)
                    gaps.append((first - last).total_seconds())
                    await leader.start()
                    leader, standby = standby, leader
                assert await wait_until(db, "count(*) = 0 FROM rotord.messages WHERE status IN ('queued', 'sending')", 60)
                assert (await leader.stop(), await standby.stop()) == (0, 0)
        truth = Truth.of(one)
    uncertain = await check_truth(db, truth, rows)
    print(f"{kills} take-overs after kill -9, first begin {[round(gap, 2) for gap in gaps]} s later (ttl {TTL_S} s); {uncertain} uncertain")

    assert max(gaps) <= TTL_S + 1.0
    # Those on the wire, and those whose replies were not written yet.
    assert uncertain <= unfinished
    assert await db.fetchval(EPOCHS_OVERLAP) == 0


@pytest.mark.timeout(90)
async def test_a_standby_takes_over_within_the_ttl_and_nothing_goes_twice(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await _check_takeovers(database_url, db, tmp_path, 1)


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_five_take_overs_and_nothing_goes_twice(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await _check_takeovers(database_url, db, tmp_path, 5)


async def _kill_server(server: EmbeddedPostgres) -> None:
    """As a power cut does it: the postmaster and every process of its group, at once."""
    assert server.pid is not None
    os.killpg(server.pid, signal.SIGKILL)


async def _check_server_kills(folder: Path, kills: int) -> None:
    rows = 1000 * (kills + 1)
    server = EmbeddedPostgres(folder / "server", settings={"fsync": "on", "max_connections": "50", "shared_buffers": "64MB"})
    url = await server.start()
    try:
        async with asyncio.TaskGroup() as group:
            supervisor = group.create_task(server.supervise())
            db = await asyncpg.connect(url)
            await db.execute((ROOT / "schema.sql").read_text())
            await Fleet().add(db, "acme", domains=4, addresses=10)
            await insert_rows(db, "acme", rows)
            async with (
                receiver(folder, "relay", latency_ms="20,200") as one,
                running(Rig(url, folder, relay("relay", one.port, 20))) as rig,
            ):
                for _ in range(kills):
                    begun = await db.fetchval("SELECT count(*) FROM rotord.attempts")
                    assert await wait_until(db, f"count(*) > {begun + 300} FROM rotord.attempts", 30), rig.log[-3000:]
                    db.terminate()
                    await _kill_server(server)
                    db = await _connect(url, 30)
                over = "count(*) = 0 FROM rotord.messages WHERE status IN ('queued', 'sending')"
                assert await wait_until(db, over, 60), rig.log[-3000:]
                assert rig.starts == 1
                assert await rig.stop() == 0
                truth = Truth.of(one)
            uncertain = await check_truth(db, truth, rows)
            epochs = await db.fetchval("SELECT count(DISTINCT epoch) FROM rotord.attempts")
            print(f"{kills} kills of the server: {rows} rows, {uncertain} uncertain, {epochs} terms, one daemon")
            await db.close()
            await server.stop()
            await supervisor
    finally:
        await server.stop()

    # A reply that came while the server was down was kept and written: only what a lost lease cut may be uncertain.
    assert uncertain <= 20 * (epochs - 1)


async def _connect(url: str, within_s: float) -> asyncpg.Connection:
    async with asyncio.timeout(within_s):
        while True:
            try:
                return await asyncpg.connect(url)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.1)


@pytest.mark.timeout(120)
async def test_a_killed_database_server_costs_nothing(tmp_path: Path) -> None:
    await _check_server_kills(tmp_path, 1)


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_a_database_server_killed_five_times_costs_nothing(tmp_path: Path) -> None:
    await _check_server_kills(tmp_path, 5)


@pytest.mark.timeout(120)
async def test_a_killed_daemon_finds_its_embedded_database_again(tmp_path: Path) -> None:
    async with receiver(tmp_path, "relay", latency_ms="20,200") as one:
        rig = Rig("embedded", tmp_path, LEASE + relay("relay", one.port, 10))
        async with running(rig):
            db = await _embedded(tmp_path, 60)
            await Fleet().add(db, "acme", domains=2, addresses=5)
            await insert_rows(db, "acme", 1200)
            for _ in range(2):
                begun = await db.fetchval("SELECT count(*) FROM rotord.attempts")
                assert await wait_until(db, f"count(*) > {begun + 100} FROM rotord.attempts", 30), rig.log[-3000:]
                await rig.kill()
                db.terminate()
                await rig.start()
                db = await _embedded(tmp_path, 60)
            over = "count(*) = 0 FROM rotord.messages WHERE status IN ('queued', 'sending')"
            assert await wait_until(db, over, 60), rig.log[-3000:]
            uncertain = await check_truth(db, Truth.of(one), 1200)
            await db.close()
            assert await rig.stop() == 0
    print(f"2 kills of a daemon with its own database: {uncertain} of 1200 uncertain")

    # At each kill: what was on the 10 connections, and answers that were in hand but not written yet.
    assert uncertain <= 2 * (10 + 10)


async def _embedded(folder: Path, within_s: float) -> asyncpg.Connection:
    """A connection to the daemon's own database, once it has its schema."""
    async with asyncio.timeout(within_s):
        while True:
            socket_dir = await running_socket_dir(homes(folder / "state"), within_s)
            try:
                db = await asyncpg.connect(user="rotord", database="rotord", host=str(socket_dir))
                if await db.fetchval("SELECT to_regclass('rotord.lease') IS NOT NULL"):
                    return db
                await db.close()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pass  # it is starting, or the killed daemon's is ending
            await asyncio.sleep(0.2)
