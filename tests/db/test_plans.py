"""Hot statements find their rows by index whatever is queued, whatever the statistics say, however the statement is planned.

The store's own functions run on a backlog of 200,000 and auto_explain tells what the server did, down into triggers.
"""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import backlog
import pytest
from plan_watch import PlanWatch

from rotord.core.events import Event, EventKind
from rotord.core.model import Blame, Outcome, Reply
from rotord.core.records import Begin, Cursor, LaneRequest, Next, Settlement, Step, Term
from rotord.db import campaigns, events, explain, forget, forwards, keys, lease, ledger, queue, retention, senders, settle, stats

BIG = ("queue", "outbox", "attempts", "message_state", "suppressions", "threads", "fleet_changes")
BATCH = 100
HOLDER = UUID("11111111-1111-1111-1111-111111111111")

pytestmark = pytest.mark.timeout(300)  # the first one loads half a million rows


@dataclass(frozen=True, slots=True)
class Facts:
    """What the statements are asked about."""

    term: Term
    big_lane: int
    lanes: list[LaneRequest]
    after: LaneRequest
    begins: list[Begin]
    settlements: list[Settlement]
    threads: list[asyncpg.Record]
    mark: str


@dataclass(frozen=True, slots=True)
class Backlog:
    urls: dict[str, str]
    small_url: str
    facts: Facts


@pytest.fixture(scope="module")
def world(postgres_url, template_database):
    """The backlog under three statistics: of another day, none, and of now."""
    with asyncio.Runner() as runner:
        yield runner.run(build(postgres_url, template_database))
        runner.run(drop(postgres_url))


async def build(postgres_url, template):
    def url(name):
        return postgres_url.replace("/rotord?", f"/{name}?")

    async def run(name, *calls):
        connection = await asyncpg.connect(url(name))
        for call in calls:
            answer = await call(connection)
        await connection.close()
        return answer

    async def create(connection):
        for name, source in (("plans_another_day", template), ("plans_small", template)):
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {source} STRATEGY file_copy")

    async def clone(connection):
        for name in ("plans_none", "plans_now"):
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE plans_another_day STRATEGY file_copy")

    await run("rotord", create)
    facts = await run("plans_another_day", backlog.load, gather)
    await run("rotord", clone)
    await run("plans_none", backlog.forget_statistics)
    await run("plans_now", lambda connection: connection.execute("ANALYZE"))
    await run("plans_small", backlog.load_small_queue)
    return Backlog({name: url(f"plans_{name}") for name in ("another_day", "none", "now")}, url("plans_small"), facts)


async def drop(postgres_url):
    connection = await asyncpg.connect(postgres_url)
    for name in ("another_day", "none", "now", "small"):
        await connection.execute(f"DROP DATABASE plans_{name} WITH (FORCE)")
    await connection.close()


async def gather(db):
    now = await db.fetchval("SELECT extract(epoch FROM now())::float8")
    rows = await queue.lanes(db)
    big = next(row.key for row in rows if (row.lane.client, row.lane.kind, row.lane.campaign, row.lane.pin) == ("client-0", "bulk", "", ""))
    claimed = await queue.candidates(db, [LaneRequest(big, BATCH, Cursor())])
    first_id = (int(now * 1000) + 1) << 20
    sending = await db.fetch("SELECT id, attempt FROM rotord.queue WHERE state = 'sending' ORDER BY id LIMIT $1", BATCH)
    return Facts(
        Term(HOLDER, 3, now, first_id),
        big,
        [LaneRequest(row.key, BATCH // 10, Cursor()) for row in rows[:10]],
        LaneRequest(big, BATCH, Cursor(claimed[-1].rank, claimed[-1].due_at, claimed[-1].id)),
        [
            Begin(row.id, first_id + n, "a1@d0.client-0.example", "d0.client-0.example", "client-0", "relay", 60.0, f"<{row.id}@x>", now)
            for n, row in enumerate(claimed)
        ],
        [settlement(row["attempt"], row["id"], now, n) for n, row in enumerate(sending)],
        await db.fetch("SELECT DISTINCT client, thread_key FROM rotord.queue WHERE state = 'waiting' LIMIT 50"),
        await db.fetchval(senders.MARK),
    )


def settlement(attempt, outbox_id, now, number):
    outcome, step = (
        (Outcome.ACCEPTED, Step(Next.SENT)),
        (Outcome.REJECTED, Step(Next.FAILED)),
        (Outcome.DEFERRED, Step(Next.RETRY, now + 60)),
        (Outcome.UNCERTAIN, Step(Next.UNCERTAIN)),
    )[number % 4]
    blame = None if outcome is Outcome.ACCEPTED else Blame.RECIPIENT
    return Settlement(attempt, outbox_id, Reply(outcome, blame, "250", "ok", "p1"), now, step)


async def win(db):
    await db.execute("UPDATE rotord.lease SET expires_at = now() - interval '1 s'")
    assert await lease.win(db, UUID(int=7), 10.0, "n") is not None


async def sweep(db):
    await db.execute("UPDATE rotord.campaigns SET status = 'cancelled' WHERE client = 'client-1'")
    assert await db.fetchval(campaigns.SWEEP, 50) == 50


async def pass_on(db, outbox_id):
    await db.execute("UPDATE rotord.clients SET forward_replies_to = 'inbox@example.org'")
    reply = Event(EventKind.REPLIED, 1_795_000_000.0, "r@example.org", b"k", mail=b"From: r@example.org\n\nYes.")
    assert isinstance(await forwards.pass_on(db, "relay", reply, outbox_id), int)


POST = """
INSERT INTO rotord.provider_posts (provider, route, token, digest, content_type, body) VALUES ('relay', 'webhooks', 't', '', '', '')
RETURNING id
"""


async def fold(db, facts):
    post, at = await db.fetchval(POST), facts.term.now
    told = [
        events.Told(post, "relay", Event(EventKind.DELIVERED, at, "r@example.org", b"%d" % n, attempt_id=one.attempt_id))
        for n, one in enumerate(facts.settlements)
    ]
    claimed = [
        events.Told(post, "relay", Event(EventKind.DELIVERED, at, "r@example.org", b"c%d" % n), 1_000_000 + n) for n in range(1, 101)
    ]
    assert await events.fold(db, facts.term, told + claimed, [events.Folded(post)]) == len(told) + len(claimed)


# Notes of 500 that are uncertain and 300 that were sent, and what was told of the first.
NOTES = """
WITH notes AS (
  INSERT INTO rotord.event_waits SELECT generate_series(164501, 165000) UNION ALL SELECT generate_series(1000001, 1000300)
)
INSERT INTO rotord.events (outbox_id, client, provider, kind, occurred_at, received_at, recipient, attempt_id, key)
SELECT i, 'client-1', 'relay', 'delivered', now(), now(), 'r@example.org', (SELECT id FROM rotord.attempts WHERE outbox_id = i), int4send(i)
  FROM generate_series(164501, 165000) AS i
"""


async def take_notes(db, term):
    await db.execute(NOTES)
    assert [await events.apply(db, term), await events.apply(db, term)] == [(500, 500), (300, 0)]


async def recover(db, term):
    await db.execute("UPDATE rotord.lease SET epoch = 4")
    assert await settle.recover(db, Term(HOLDER, 4, term.now, term.ids_from), 60.0) == 500


async def blank_bodies(db):
    assert await retention.blank_bodies(db, 0)


async def delete_attempts(db):
    await db.execute("INSERT INTO rotord.daily_counters SELECT now()::date, 'p', 'c', 'd', 'a', 1, 1")
    await db.execute("UPDATE rotord.stats_progress SET upto = 9223372036854775807")
    assert await retention.delete_attempts(db, 2, 0) > 0


async def note(db):
    """Whom forgetting finds before it erases."""
    pads = await keys.forget_key(db)
    [(name, _)] = await db.fetch(forget.SUPPRESS, "gone7@example.org", pads)
    await db.execute(forget.NOTE, "R7@example.org", name)
    assert len(await db.fetch(forget.NOTED, "R7@example.org", name)) == 2
    await db.fetch(forget.NOTE_REPLIES, "R7@example.org", name, forwards.CAMPAIGN, forwards.KEY)


async def begin_when_somebody_is_forgotten(db, facts):
    await keys.forget_key(db)
    await queue.begin(db, facts.term, facts.begins)


async def fold_when_somebody_is_forgotten(db, facts):
    await keys.forget_key(db)
    await fold(db, facts)


async def insert_when_somebody_is_forgotten(db):
    await keys.forget_key(db)
    await db.execute(INSERT, 4674)


async def erase(db, begins):
    await keys.forget_key(db)
    ids = [begin.outbox_id for begin in begins]
    assert await forget.erase_messages(db, ids) == (len(ids), len(ids), 0)


INSERT = """
INSERT INTO rotord.outbox (client, recipient, subject, body_text, thread_key, campaign)
SELECT 'client-1', 'R@Example.org', 's', 'b', 't' || i, 'c1' FROM generate_series(4475, $1::int) AS i
"""
HEAD_OF_THREAD = {"queue_thread", "queue_pkey", "threads_pkey"}
# What runs, and the indexes by which it may read the big tables.
STATEMENTS: dict[str, tuple[Any, set[str]]] = {
    "lanes": (lambda db, _: queue.lanes(db), {"queue_ready"}),
    "candidates": (lambda db, facts: queue.candidates(db, facts.lanes), {"queue_ready"}),
    "candidates_after_a_cursor": (lambda db, facts: queue.candidates(db, [facts.after]), {"queue_ready"}),
    "payloads": (lambda db, facts: queue.payloads(db, [begin.outbox_id for begin in facts.begins]), {"outbox_pkey", "threads_pkey"}),
    "begin": (
        lambda db, facts: queue.begin(db, facts.term, facts.begins),
        {"queue_pkey", "outbox_pkey", "suppressions_lower", "queue_thread", "threads_pkey"},
    ),
    "begin_when_somebody_is_forgotten": (
        begin_when_somebody_is_forgotten,
        {"queue_pkey", "outbox_pkey", "suppressions_lower", "queue_thread", "threads_pkey"},
    ),
    "settle": (lambda db, facts: settle.settle(db, facts.settlements), {"attempts_pkey", "outbox_pkey", *HEAD_OF_THREAD}),
    "promote": (lambda db, facts: settle.promote(db, *zip(*facts.threads, strict=True)), HEAD_OF_THREAD),
    "stranded": (lambda db, _: settle.promote_stranded(db), HEAD_OF_THREAD),
    "ripen": (lambda db, facts: settle.ripen(db, facts.term.now), {"queue_scheduled", "queue_pkey"}),
    "expire": (lambda db, _: settle.expire(db), {"queue_expires", *HEAD_OF_THREAD}),
    "repin": (lambda db, facts: settle.repin(db, facts.big_lane, "a2@d0.client-0.example"), {"queue_ready", "queue_pkey", "threads_pkey"}),
    "fail_lane": (lambda db, facts: settle.fail_lane(db, facts.big_lane, "gone"), {"queue_ready", "queue_pkey"}),
    "fail_row": (lambda db, facts: settle.fail_row(db, facts.begins[0].outbox_id, "bad"), {"queue_pkey"}),
    "read_back": (lambda db, facts: settle.read_back(db, [one.attempt_id for one in facts.settlements]), {"attempts_pkey"}),
    "past": (lambda db, facts: ledger.past(db, facts.term.now), {"attempts_pkey", "outbox_pkey"}),
    "recent_of": (lambda db, facts: ledger.recent_of(db, facts.term.now, "client-1"), {"attempts_pkey", "outbox_pkey"}),
    "requests_of_others": (lambda db, facts: ledger.requests_of_others(db, facts.term.now, "client-1", ["relay"]), {"attempts_pkey"}),
    "changes": (lambda db, facts: senders.changes(db, facts.mark), {"fleet_changes_xid"}),
    "roll_up": (lambda db, facts: stats.roll_up(db, facts.term.now), {"attempts_pkey", "attempts_outbox", "outbox_pkey"}),
    "fold": (fold, {"attempts_pkey", "attempts_outbox", "outbox_pkey", "suppressions_lower"}),
    "fold_when_somebody_is_forgotten": (
        fold_when_somebody_is_forgotten,
        {"attempts_pkey", "attempts_outbox", "outbox_pkey", "suppressions_lower"},
    ),
    "take_notes": (lambda db, facts: take_notes(db, facts.term), {"attempts_pkey", "attempts_outbox", "queue_pkey", "message_state_pkey"}),
    "sweep": (lambda db, _: sweep(db), {"queue_ready", "outbox_pkey", "attempts_pkey", *HEAD_OF_THREAD}),
    "blank_bodies": (lambda db, _: blank_bodies(db), {"message_state_settled", "outbox_pkey"}),
    "delete_attempts": (lambda db, _: delete_attempts(db), {"attempts_pkey", "queue_pkey"}),
    "forget_note": (
        lambda db, _: note(db),
        {"suppressions_lower", "outbox_recipient", "outbox_pkey", "outbox_campaign", "outbox_idempotency_key_is_unique_per_client"},
    ),
    "forget_erase": (
        lambda db, facts: erase(db, facts.begins),
        {"queue_pkey", "outbox_pkey", "message_state_pkey", "attempts_outbox", "attempts_pkey", "threads_pkey"},
    ),
    "win": (lambda db, _: win(db), {"attempts_pkey"}),
    "swept": (lambda db, facts: lease.sweep(db, ledger.over_by(facts.term.now + 10_000), 60.0), {"attempts_pkey"}),
    "recover": (lambda db, facts: recover(db, facts.term), {"attempts_pkey", "queue_pkey", "threads_pkey"}),
    "insert_of_one": (lambda db, _: db.execute(INSERT, 4475), {"queue_thread", "threads_pkey"}),
    "insert_of_200": (lambda db, _: db.execute(INSERT, 4674), {"queue_thread", "threads_pkey"}),
    "pass_on": (
        lambda db, facts: pass_on(db, facts.settlements[0].outbox_id),
        {
            "outbox_pkey",
            "outbox_campaign",
            "outbox_idempotency_key_is_unique_per_client",
            "attempts_outbox",
            "queue_thread",
            "threads_pkey",
        },
    ),
    "insert_when_somebody_is_forgotten": (
        lambda db, _: insert_when_somebody_is_forgotten(db),
        {"queue_thread", "threads_pkey", "suppressions_lower"},
    ),
    "why_message": (
        lambda db, facts: explain.message(db, facts.begins[0].outbox_id),
        {"outbox_pkey", "queue_pkey", "message_state_pkey", "attempts_pkey", "suppressions_lower", "queue_thread"},
    ),
    "why_client": (lambda db, _: explain.backlog(db, "client-0", 1000), {"queue_ready"}),
}


async def watched(url, mode, call):
    """Run the call in a transaction that is rolled back, as the engine's connection (or one behind a pooler) plans it."""
    db = await asyncpg.connect(url, statement_cache_size=0 if mode == "not_cached" else 100)
    if mode == "generic":
        await db.execute("SET plan_cache_mode = force_generic_plan")
    watch = PlanWatch()
    await watch.watch(db)
    transaction = db.transaction()
    await transaction.start()
    answer = await watch.of(db, call(db))
    await transaction.rollback()
    await db.close()
    return watch, answer


@pytest.mark.parametrize("statistics", ["another_day", "none", "now"])
@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_hot_statement_reads_a_big_table_from_end_to_end(world, name, statistics):
    call, allowed = STATEMENTS[name]
    for mode in ("custom", "generic", "not_cached"):
        watch, _ = await watched(world.urls[statistics], mode, lambda db: call(db, world.facts))
        scans = watch.scans(BIG)

        assert scans, mode
        assert scans <= allowed, mode


async def test_a_scan_of_the_whole_queue_would_be_seen(world):
    watch, _ = await watched(world.urls["now"], "custom", lambda db: db.fetch("SELECT id FROM rotord.queue WHERE bytes > 5000"))

    assert watch.scans(BIG) == {"Seq Scan on queue"}


@pytest.mark.parametrize("mode", ["custom", "generic"])
async def test_a_claim_costs_the_same_pages_behind_10_000_rows_and_behind_200_000(world, mode):
    def claim(db):
        return queue.candidates(db, [LaneRequest(world.facts.big_lane, BATCH, Cursor())])

    of_many, rows = await watched(world.urls["now"], mode, claim)
    of_few, few = await watched(world.small_url, mode, claim)

    assert len(rows) == len(few) == BATCH
    assert of_many.buffers() <= 1.5 * of_few.buffers()


BURST = """
INSERT INTO rotord.outbox (client, recipient, subject, body_text)
SELECT 'client-' || i % 50, 'r' || i || '@example.org', 'Hello', 'Hi' FROM generate_series(1, $1::int) AS i
"""


async def burst(db, rows, *, leaves):
    await db.execute(BURST, rows)
    if leaves:
        await db.execute("UPDATE rotord.queue SET state = 'sending', attempt = id WHERE state = 'queued'")


# What the planner takes the whole queue for then: a scan from end to end; a bitmap and a sort for each lane.
@pytest.mark.parametrize(("sending", "queued", "how"), [(0, 0, "VACUUM ANALYZE"), (5, 1, "ANALYZE")], ids=["empty", "nearly-empty"])
async def test_a_queue_that_was_analysed_while_it_was_empty_is_walked_by_its_index_all_the_same(db, database_url, sending, queued, how):
    await db.execute("INSERT INTO rotord.clients (slug) SELECT 'client-' || i FROM generate_series(0, 49) AS i")
    for _ in range(3):
        await burst(db, 1000, leaves=True)
        await db.execute("DELETE FROM rotord.queue")
    await burst(db, sending, leaves=True)
    await burst(db, queued, leaves=False)
    await db.execute("ALTER TABLE rotord.queue SET (autovacuum_enabled = off)")
    await db.execute(f"{how} rotord.queue")
    leader = await asyncpg.connect(database_url)
    await leader.execute("SET plan_cache_mode = force_generic_plan")
    watch = PlanWatch()
    await watch.watch(leader)
    await look(leader, watch)
    await burst(db, 1000, leaves=False)
    lanes, pages = await look(leader, watch)  # by the plans of the first
    await leader.close()

    assert lanes == 50
    assert pages <= 1000


async def look(leader, watch):
    lanes = await watch.of(leader, queue.lanes(leader))
    pages = watch.buffers()
    await watch.of(leader, queue.candidates(leader, [LaneRequest(row.key, 20, Cursor()) for row in lanes]))
    return len(lanes), pages + watch.buffers()


# A row that changes its state touches the page it is on, the one it goes to, and three of each index that it is found or entered in.
# And two for dead versions of it: what the tests before have begun was rolled back, and no vacuum comes here (965 to 1,200 for 100 begins).
PAGES = {"candidates": 2, "candidates_after_a_cursor": 1, "payloads": 5, "begin": 14, "settle": 14}


@pytest.mark.parametrize(("name", "pages_a_row"), PAGES.items())
async def test_pages_a_message_are_few(world, name, pages_a_row):
    for mode in ("custom", "generic"):
        watch, _ = await watched(world.urls["now"], mode, lambda db: STATEMENTS[name][0](db, world.facts))

        assert watch.buffers() <= BATCH * pages_a_row, mode
