"""The look for lanes finds all of them, in pages, and where each one's first live row is."""

import asyncpg
from outbox_rows import add_fleet, insert
from plan_watch import PlanWatch

from rotord.core.records import Cursor, LaneRequest
from rotord.db import queue

ROWS = """
INSERT INTO rotord.outbox (client, recipient, subject, body_text)
SELECT 'acme', 'r' || i || '@example.org', 's', 'b' FROM generate_series(1, 5000) AS i
"""
SENT = "DELETE FROM rotord.queue WHERE id <= (SELECT min(id) + 4899 FROM rotord.queue)"


async def test_lanes_are_found_page_by_page(db):
    await add_fleet(db)
    for number in range(7):
        await insert(db, campaign=f"c{number}")
        await insert(db, campaign=f"c{number}", priority=number)

    whole = await queue.lanes(db)

    assert len(whole) == 7
    for at_once in (1, 2, 7, 8):
        assert await queue.lanes(db, at_once) == whole


async def test_a_lanes_first_row_is_the_one_to_be_claimed_first(db):
    await add_fleet(db)
    await insert(db)
    urgent = await insert(db, priority=5)
    (lane,) = await queue.lanes(db)
    claimed = await queue.candidates(db, [LaneRequest(lane.key, 1, lane.first.before)])

    assert [row.id for row in claimed] == [urgent]
    assert await queue.candidates(db, [LaneRequest(lane.key, 1, lane.first)]) != claimed


async def test_a_claim_does_not_walk_over_the_dead_rows_that_an_old_snapshot_keeps(database_url, db):
    await add_fleet(db)
    await db.execute("ALTER TABLE rotord.queue SET (autovacuum_enabled = false)")  # or the plan may change in the middle
    await db.execute(ROWS)
    await db.execute("VACUUM ANALYZE rotord.queue")
    other = await asyncpg.connect(database_url)
    await other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM rotord.clients")
    await db.execute(SENT)
    (lane,) = await queue.lanes(db)
    watch = PlanWatch()
    await watch.watch(db)

    async def pages(after):
        found = await watch.of(db, queue.candidates(db, [LaneRequest(lane.key, 50, after)]))
        assert len(found) == 50
        return watch.buffers()

    from_the_first, from_the_bottom = await pages(lane.first.before), await pages(Cursor())
    assert 2 * from_the_first < from_the_bottom
    await other.close()
