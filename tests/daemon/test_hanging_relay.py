"""P5 between providers: a relay that takes messages and never answers holds its own slots and nothing else."""

import asyncio
import time
from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, Truth, receiver, relay, running, wait_until
from tests.daemon.scenes import first_accepted, stretch

# 10 connections of 50 ms: 200 a second, set by the relay and not by the machine.
GOOD = {"latency_ms": "50"}
DRAIN_S = 4.0


async def _rate(db: asyncpg.Connection, client: str, rows: int) -> float:
    """Messages a second of a client's new rows."""
    before = await db.fetchval("SELECT count(*) FROM rotord.attempts WHERE client = $1", client)
    since = time.monotonic()
    await insert_rows(db, client, rows)
    assert await wait_until(db, f"count(*) = {before + rows} FROM rotord.attempts WHERE client = '{client}' AND outcome = 'accepted'", 60)
    return rows / (time.monotonic() - since)


@pytest.mark.timeout(120)
async def test_a_relay_that_never_answers_holds_its_slots_alone(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    fleet = Fleet()
    await fleet.add(db, "good", domains=1, addresses=5, providers=("good",))
    await fleet.add(db, "stuck", domains=1, addresses=5, providers=("hung",))
    await fleet.add(db, "both", domains=2, addresses=5, providers=("hung", "good"))
    async with receiver(tmp_path, "good", **GOOD) as good, receiver(tmp_path, "hung", silent_share="1.0") as hung:
        toml = f"[engine]\ndrain_seconds = {DRAIN_S}\n" + relay("good", good.port, 10) + relay("hung", hung.port, 4)
        async with running(Rig(database_url, tmp_path, toml)) as rig:
            await first_accepted(db, "good")
            await _rate(db, "good", 100)  # its connections are open
            alone = await _rate(db, "good", 600)
            await insert_rows(db, "stuck", 300)
            assert await wait_until(db, "count(*) = 4 FROM rotord.attempts WHERE provider = 'hung'", 20)
            beside = await _rate(db, "good", 600)
            # The client with a way past the hanging relay goes on by it.
            await insert_rows(db, "both", 100)
            assert await wait_until(db, "count(*) = 100 FROM rotord.attempts WHERE client = 'both' AND outcome = 'accepted'", 30)
            _, why = await rig.command("why", "client", "stuck", "--json")
            asked = asyncio.get_running_loop().time()
            code = await rig.stop()
            took = asyncio.get_running_loop().time() - asked
        truth = Truth.of(good, hung)
    outcomes = {tuple(row) for row in await db.fetch("SELECT provider, outcome, count(*) FROM rotord.attempts GROUP BY 1, 2")}
    print(f"{alone:.0f}/s alone, {beside:.0f}/s beside a relay that hangs; SIGTERM took {took:.2f} s of {DRAIN_S} s")

    assert beside >= 0.9 * alone / stretch()
    assert [finding["gate"] for finding in why["lanes"]] == ["slots"]
    assert code == 0
    assert took <= DRAIN_S + 0.5
    assert outcomes == {("good", "accepted", 1401), ("hung", "uncertain", 4)}
    assert await db.fetchval("SELECT count(*) FROM rotord.messages WHERE status = 'uncertain'") == 4
    assert max(truth.rows[row] for row in truth.rows if row.startswith("stuck")) == 1
