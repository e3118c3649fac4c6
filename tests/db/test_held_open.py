"""An app that keeps its transaction open holds up nobody but itself."""

import asyncio

import asyncpg
import pytest
from outbox_rows import add_fleet, begin, insert

from rotord.db import senders


@pytest.fixture
async def app(database_url):
    """Another connection, whose transactions stay open."""
    connection = await asyncpg.connect(database_url)
    yield connection
    connection.terminate()


async def test_a_cancel_that_met_a_begin_does_not_hold_up_the_recording_of_its_answer(app, db):
    await add_fleet(db)
    message = await insert(db)
    async with asyncio.timeout(20):
        beginning = db.transaction()
        await beginning.start()
        attempt = await begin(db, message)
        await app.execute("BEGIN")
        async with asyncio.TaskGroup() as group:
            group.create_task(app.execute("UPDATE rotord.outbox SET cancelled_at = now() WHERE id = $1", message))
            while not await db.fetchval(
                "SELECT wait_event IN ('PgSleep', 'transactionid') FROM pg_stat_activity WHERE pid = $1", app.get_server_pid()
            ):
                pass
            await beginning.commit()
        # The app's transaction is still open.
        await db.execute("SET lock_timeout = '1s'")
        settled = await db.execute("UPDATE rotord.queue SET state = 'uncertain' WHERE id = $1 AND attempt = $2", message, attempt)
    assert settled == "UPDATE 1"


async def test_a_change_of_the_fleet_is_told_once_however_long_another_transaction_is_open(app, db):
    await add_fleet(db)
    fleet = await senders.load(db)
    await app.execute("BEGIN")
    await app.execute("INSERT INTO rotord.suppressions (recipient, reason) VALUES ('x@y.z', 'manual')")
    await db.execute("UPDATE rotord.addresses SET per_hour = 3 WHERE email = 'a@acme.example'")

    first = await senders.changes(db, fleet.mark)
    again = await senders.changes(db, first.mark)

    assert [address.per_hour for address in first.addresses] == [3]
    assert list(again.addresses) == []
