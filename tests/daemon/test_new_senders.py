"""A row may name an address that is as new as itself: it is not failed for news that has not been read yet."""

from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet
from tests.daemon.rig import wait_until
from tests.daemon.scenes import first_accepted, insert, sending, statuses

ROUNDS = 15


@pytest.mark.timeout(120)
async def test_a_row_that_names_an_address_of_its_own_transaction_is_sent(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    fleet = Fleet()
    await fleet.add(db, "acme", domains=1, addresses=1)
    async with sending(database_url, tmp_path):
        await first_accepted(db, "acme")
        for number in range(ROUNDS):
            async with db.transaction():
                email = f"new{number}@d0.acme.example"
                await db.execute("INSERT INTO rotord.addresses (email, domain) VALUES ($1, 'd0.acme.example')", email)
                one = await insert(db, "acme", sender=email)
            assert await wait_until(db, f"status IN ('sent', 'failed') FROM rotord.messages WHERE id = {one}", 20)
        found = await statuses(db)
        one = await insert(db, "acme", sender="never@d0.acme.example")
        assert await wait_until(db, f"status = 'failed' FROM rotord.messages WHERE id = {one}", 20)

    assert found == {"sent": ROUNDS + 1}
