"""What an app's transaction, open for as long as it likes, may cost the daemon: nothing."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet
from tests.daemon.scenes import first_accepted, insert, sending

COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
WATCH_S = 4.0


@pytest.mark.timeout(60)
async def test_a_row_that_is_due_and_locked_is_not_asked_for_without_pause(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    fleet = Fleet()
    await fleet.add(db, "acme", domains=1, addresses=1)
    app = await asyncpg.connect(database_url)
    async with sending(database_url, tmp_path):
        await first_accepted(db, "acme")
        soon = await db.fetchval("SELECT now() + interval '1 s'")
        one = await insert(db, "acme", send_after=soon)
        await app.execute("BEGIN")
        await app.execute("UPDATE rotord.outbox SET cancelled_at = now() WHERE id = $1", one)
        await asyncio.sleep(2.0)
        before = await db.fetchval(COMMITS)
        await asyncio.sleep(WATCH_S)
        commits = await db.fetchval(COMMITS) - before
        app.terminate()
    print(f"{commits / WATCH_S:.0f} transactions a second")

    assert commits < 60 * WATCH_S
