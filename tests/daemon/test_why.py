"""`rotord why` beside a running daemon: what only a daemon can make true."""

from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, receiver, relay, running, wait_until


@pytest.mark.timeout(120)
async def test_on_the_wire_and_behind_it(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    fleet = Fleet()
    await fleet.add(db, "acme", domains=1, addresses=2)
    await insert_rows(db, "acme", 2)
    async with receiver(tmp_path, "relay", latency_ms="30000,30000") as slow:
        rig = Rig(database_url, tmp_path, relay("relay", slow.port, connections=1))
        async with running(rig):
            assert await wait_until(db, "EXISTS (SELECT FROM rotord.provider_status WHERE in_flight = 1)", 30)
            on_the_wire = await db.fetchval("SELECT id FROM rotord.queue WHERE state = 'sending'")
            behind = await db.fetchval("SELECT id FROM rotord.queue WHERE state = 'queued'")
            code, sending = await rig.command("why", "message", str(on_the_wire), "--json")
            _, waiting = await rig.command("why", "message", str(behind), "--json")
            address, deadline_at = await db.fetchrow("SELECT address, deadline_at FROM rotord.attempts")
            _, used = await rig.command("why", "address", address, "--json")

    assert (code, sending["gate"], sending["status"]) == (0, "sending", "sending")
    assert sending["sentence"].startswith(f"attempt 1 from {address} by relay is on the wire since ")
    assert sending["until"] == deadline_at.isoformat().replace("+00:00", "Z")
    assert (waiting["gate"], waiting["name"], waiting["status"]) == ("slots", "relay", "queued")
    assert waiting["sentence"].endswith("the only slot of provider relay is in use; the next answer frees one")
    assert (used["used_hour"], used["on_the_wire"]) == (0, 1)


@pytest.mark.timeout(120)
async def test_behind_a_provider_that_is_down(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    fleet = Fleet()
    await fleet.add(db, "acme", domains=1, addresses=1)
    await insert_rows(db, "acme", 1)
    async with receiver(tmp_path, "relay") as gone:
        port = gone.port
    rig = Rig(database_url, tmp_path, relay("relay", port))
    async with running(rig):
        assert await wait_until(db, "EXISTS (SELECT FROM rotord.provider_status WHERE up IS FALSE)", 30)
        asked_at = await db.fetchval("SELECT clock_timestamp()")
        _, found = await rig.command("why", "message", "1", "--json")

    assert (found["gate"], found["name"], found["status"]) == ("provider_down", "relay", "queued")
    assert found["sentence"].startswith("provider relay is down (")
    assert found["sentence"].endswith(") and is tried again")
    # every 10 s in the first minutes, and published within a second
    assert abs(datetime.fromisoformat(found["until"]) - asked_at) < timedelta(seconds=15)
