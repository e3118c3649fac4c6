"""What the lease row remembers of attempts that nobody answered for."""

import time

import pytest
from outbox_rows import add_fleet, begin, insert

from rotord.db import lease, ledger

AN_HOUR_MS = 3_600_000


@pytest.fixture
async def led(db):
    await add_fleet(db)
    await db.execute("INSERT INTO rotord.lease VALUES ('main', gen_random_uuid(), 1, now(), now())")
    return db


async def attempt(db, hours_ago, *, finished):
    """An attempt of so long ago; its id."""
    made = await begin(db, await insert(db))
    old = (int(time.time() * 1000) - int(hours_ago * AN_HOUR_MS)) << 20
    outcome = "accepted" if finished else None
    await db.execute("UPDATE rotord.attempts SET id = $2, outcome = $3 WHERE id = $1", made, old, outcome)
    return old


async def swept(db):
    await lease.sweep(db, ledger.over_by(time.time()), 60.0)
    return await db.fetchval("SELECT swept_id FROM rotord.lease")


async def test_a_start_reads_no_attempt_that_is_over_however_long_the_term_was(led):
    old = await attempt(led, 30, finished=True)
    recent = await attempt(led, 1, finished=False)

    assert old < await swept(led) < recent


async def test_an_attempt_that_nobody_answered_for_is_found_however_old_it_is(led):
    await attempt(led, 40, finished=True)
    unfinished = await attempt(led, 30, finished=False)
    await attempt(led, 20, finished=True)

    assert await swept(led) == unfinished
    assert await swept(led) == unfinished

    await led.execute("UPDATE rotord.attempts SET outcome = 'uncertain' WHERE id = $1", unfinished)

    assert await swept(led) > unfinished
