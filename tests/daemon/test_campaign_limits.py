"""A campaign's own limit, by the receiver's log: exact through a restart and a change; other mail goes past it."""

from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, Truth, receiver, relay, running, wait_until

SENT = "count(*) = {0} FROM rotord.messages WHERE status = 'sent' AND {1}"


@pytest.mark.timeout(90)
async def test_a_campaigns_cap_holds_through_a_restart_and_holds_nobody_else(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await Fleet().add(db, "acme", domains=1, addresses=5)
    await db.execute("INSERT INTO rotord.campaigns (client, name, per_hour) VALUES ('acme', 'spring', 20)")
    await insert_rows(db, "acme", 60, campaign="spring")
    async with receiver(tmp_path, "relay", latency_ms="1,30") as one:
        rig = Rig(database_url, tmp_path, relay("relay", one.port, 10))
        async with running(rig):
            assert await wait_until(db, SENT.format(20, "campaign = 'spring'"), 20)
            assert await rig.stop() == 0
            await insert_rows(db, "acme", 60)
            await rig.start()
            assert await wait_until(db, SENT.format(60, "campaign IS NULL"), 30)
            await db.execute("UPDATE rotord.campaigns SET per_hour = 25")
            assert await wait_until(db, SENT.format(25, "campaign = 'spring'"), 10)
            assert await rig.stop() == 0
        truth = Truth.of(one)

    assert len(truth.rows) == 60 + 25
    assert max(truth.rows.values()) == 1
