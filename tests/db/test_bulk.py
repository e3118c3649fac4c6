"""Many messages tried again or called back: which ones, and how the queue looks afterwards."""

import asyncpg
import pytest
from outbox_rows import add_fleet, begin, fail, insert, make_uncertain, queue_row, status

from rotord.db import bulk
from rotord.db.bulk import Filter, Retried

EVERYTHING = Filter(frozenset({"failed", "queued", "suppressed"}))
QUEUED = Filter(frozenset({"queued"}))


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"stream": "news", "kind": "transactional", "campaign": "spring", "priority": 7},
        {"sender": "A@Acme.example", "recipient": "MiXed@Example.org"},
        {"thread_key": "t", "body_html": "<p>äöü</p>", "headers": '{"X-A": "b"}'},
    ],
)
async def test_a_failed_message_comes_back_as_the_trigger_made_it(db, columns):
    message = await insert(db, **columns)
    before = await queue_row(db, message)
    await fail(db, message)
    assert await status(db, message) == "failed"

    assert Retried(requeued=1, woken=0) == await bulk.retry(db, EVERYTHING)

    after = await queue_row(db, message)
    assert tuple(after[column] for column in ("state", "attempts", "message_id", "last_error")) == ("queued", 1, "<m@x>", "550 no")
    moved = {"due_at", "attempts", "message_id", "last_error"}
    assert {k: v for k, v in before.items() if k not in moved} == {k: v for k, v in after.items() if k not in moved}
    assert after["due_at"] <= await db.fetchval("SELECT clock_timestamp()")
    assert await status(db, message) == "queued"


async def test_a_retried_message_of_a_thread_waits_for_what_of_it_is_not_settled(db):
    first, second, third = [await insert(db, thread_key="t") for _ in range(3)]
    await fail(db, first)
    await fail(db, second)
    await db.execute("UPDATE rotord.queue SET state = 'queued' WHERE id = $1", third)

    await bulk.retry(db, EVERYTHING)

    assert [(await queue_row(db, message))["state"] for message in (first, second, third)] == ["waiting", "waiting", "queued"]


async def test_of_a_thread_that_failed_whole_the_first_message_leaves(db):
    ids = [await insert(db, thread_key="t") for _ in range(3)]
    await db.execute("INSERT INTO rotord.threads VALUES ('acme', 't', 'a@acme.example', '')")
    for message in ids:
        await fail(db, message)

    await bulk.retry(db, EVERYTHING)

    rows = [await queue_row(db, message) for message in ids]
    assert [row["state"] for row in rows] == ["queued", "waiting", "waiting"]
    assert {("a@acme.example", "thread")} == {(row["pin"], row["pin_kind"]) for row in rows}


async def test_what_can_never_leave_is_not_retried(db):
    blanked, called_back, expired = [await insert(db) for _ in range(3)]
    for message in (blanked, called_back, expired):
        await fail(db, message)
    await db.execute("UPDATE rotord.outbox SET body_text = NULL, blanked_at = now() WHERE id = $1", blanked)
    await db.execute("UPDATE rotord.outbox SET cancelled_at = now() WHERE id = $1", called_back)
    await db.execute("UPDATE rotord.outbox SET expires_at = now() - interval '1 s' WHERE id = $1", expired)

    assert (await bulk.preview_retry(db, EVERYTHING)).count == 0
    assert Retried(0, 0) == await bulk.retry(db, EVERYTHING)


async def test_deferred_messages_become_due_and_scheduled_ones_do_not(db):
    deferred = await insert(db)
    later = await insert(db, send_after=await db.fetchval("SELECT now() + interval '1 day'"))
    await begin(db, deferred)
    await db.execute("UPDATE rotord.queue SET state = 'scheduled', due_at = now() + interval '1 hour' WHERE id = $1", deferred)

    assert Retried(requeued=0, woken=1) == await bulk.retry(db, EVERYTHING)

    assert tuple([(await queue_row(db, message))["state"] for message in (deferred, later)]) == ("queued", "scheduled")


async def test_sent_and_uncertain_messages_are_never_retried(db):
    sent, unsure = await insert(db), await insert(db)
    await fail(db, sent)
    await db.execute("UPDATE rotord.message_state SET status = 'sent'")
    await make_uncertain(db, unsure)

    assert Retried(0, 0) == await bulk.retry(db, EVERYTHING)


async def test_cancel_takes_queued_messages_only_unless_it_is_told_more(db):
    queued, waiting_a, on_the_wire = await insert(db), await insert(db, thread_key="t"), await insert(db)
    waiting_b = await insert(db, thread_key="t")
    later = await insert(db, send_after=await db.fetchval("SELECT now() + interval '1 day'"))
    await begin(db, on_the_wire)

    assert await bulk.cancel(db, QUEUED) == 4
    assert {"cancelled"} == {await status(db, message) for message in (queued, waiting_a, waiting_b, later)}
    assert await status(db, on_the_wire) == "sending"

    assert await bulk.cancel(db, Filter(frozenset({"sending"}))) == 1
    assert await db.fetchval("SELECT cancelled_at IS NOT NULL FROM rotord.outbox WHERE id = $1", on_the_wire)
    assert await bulk.cancel(db, Filter(frozenset({"sending"}))) == 0


async def test_filters_narrow_and_the_preview_agrees_with_the_deed(db):
    ours = await insert(db, campaign="spring")
    await insert(db, campaign="autumn")
    await insert(db, campaign="spring", client="other")
    await db.execute("UPDATE rotord.outbox SET created_at = now() - interval '1 day' WHERE campaign = 'autumn'")
    yesterday_evening = await db.fetchval("SELECT now() - interval '6 hours'")
    narrow = Filter(frozenset({"queued"}), client="acme", campaign="spring")

    assert [ours] == [row["id"] for row in (await bulk.preview_cancel(db, narrow)).sample]
    assert (await bulk.preview_cancel(db, Filter(frozenset({"queued"}), since=yesterday_evening))).count == 2
    assert await bulk.cancel(db, narrow) == 1
    assert (await bulk.preview_cancel(db, narrow)).count == 0
    assert await db.fetchval("SELECT count(*) FROM rotord.outbox WHERE cancelled_at IS NULL") + 1 == 3


async def test_retry_filters_by_status_and_time_of_the_end(db):
    failed, suppressed = await insert(db, campaign="c"), await insert(db)
    await fail(db, failed)
    await fail(db, suppressed)
    await db.execute("UPDATE rotord.message_state SET status = 'suppressed' WHERE id = $1", suppressed)
    await db.execute("UPDATE rotord.message_state SET settled_at = now() - interval '2 days' WHERE id = $1", suppressed)
    since = await db.fetchval("SELECT now() - interval '1 day'")

    async def found(**filters):
        return [row["id"] for row in (await bulk.preview_retry(db, Filter(**filters))).sample]

    assert [failed] == await found(statuses=frozenset({"failed"}))
    assert [suppressed] == await found(statuses=frozenset({"suppressed"}))
    assert [failed] == await found(statuses=frozenset({"failed", "suppressed"}), since=since)
    assert [failed] == await found(statuses=frozenset({"failed", "suppressed"}), campaign="c")
    assert await found(statuses=frozenset({"failed"}), client="other") == []


async def test_more_than_a_batch_is_done_whole_and_wakes_the_daemon(db, database_url):
    count = 2 * bulk.BATCH + 1
    await db.execute(
        "INSERT INTO rotord.outbox (client, recipient, subject, body_text) "
        "SELECT 'acme', i || '@example.org', 's', 'b' FROM generate_series(1, $1) AS i",
        count,
    )
    listener = await asyncpg.connect(database_url)
    heard = []
    await listener.add_listener("rotord_outbox", lambda *message: heard.append(message))

    assert count == await bulk.cancel(db, QUEUED)
    await db.execute("UPDATE rotord.message_state SET status = 'failed'")
    await db.execute("ALTER TABLE rotord.outbox DISABLE TRIGGER USER")
    await db.execute("UPDATE rotord.outbox SET cancelled_at = NULL")
    assert Retried(requeued=count, woken=0) == await bulk.retry(db, EVERYTHING)
    await listener.fetch("SELECT 1")
    await listener.close()

    assert count == await db.fetchval("SELECT count(*) FROM rotord.queue WHERE state = 'queued'")
    assert heard
