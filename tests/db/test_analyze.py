"""A plan that was made for an empty table does not outlive its growth."""

from plan_watch import PlanWatch

from rotord.core.model import Outcome, Reply
from rotord.core.records import Next, Settlement, Step
from rotord.db import settle
from rotord.db.analyze import analyze

SETTLEMENTS = [Settlement(1, 1, Reply(Outcome.ACCEPTED, None, "250", "ok", "p1"), 0.0, Step(Next.SENT))]
ATTEMPTS = """
INSERT INTO rotord.attempts (id, outbox_id, number, epoch, address, domain, client, provider, began_at, deadline_at)
SELECT i, i, 1, 1, 'a@acme.example', 'acme.example', 'acme', 'relay', now(), now() FROM generate_series(1, 5000) AS i
"""


async def test_a_table_that_outgrew_its_statistics_is_analyzed_once_and_statements_that_were_planned_before_find_their_rows_by_index(db):
    await db.execute("ALTER TABLE rotord.attempts SET (autovacuum_enabled = false); SET plan_cache_mode = force_generic_plan")
    watch = PlanWatch()
    await watch.watch(db)
    await db.execute("VACUUM ANALYZE rotord.attempts")
    await settle.settle(db, SETTLEMENTS)
    await db.execute(ATTEMPTS)

    await watch.of(db, settle.settle(db, SETTLEMENTS))
    assert "Seq Scan on attempts" in watch.scans(["attempts"])  # else there is nothing to mend
    assert await analyze(db) == ["attempts"]

    await watch.of(db, settle.settle(db, SETTLEMENTS))
    assert watch.scans(["attempts"]) == {"attempts_pkey"}
    assert await analyze(db) == []


async def test_another_roles_tables_are_left_to_it(db):
    await db.execute("ALTER TABLE rotord.attempts SET (autovacuum_enabled = false)")
    await db.execute("VACUUM ANALYZE rotord.attempts")
    await db.execute(ATTEMPTS)
    try:
        await db.execute("SET ROLE rotord_app")
        assert await analyze(db) == []
    finally:
        await db.execute("RESET ROLE")
    assert await analyze(db) == ["attempts"]
