"""A person's verdict on uncertain messages settles attempt, queue, status and thread in one transaction."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest
from outbox_rows import add_fleet, begin, insert, make_uncertain, queue_row, status

from rotord.db import uncertain
from rotord.db.uncertain import Resolved, Verdict


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)


async def outcome(db, attempt):
    return await db.fetchval("SELECT outcome FROM rotord.attempts WHERE id = $1", attempt)


async def test_sent_settles_the_message_as_if_its_provider_had_accepted_it(db):
    message = await insert(db)
    attempt = await make_uncertain(db, message)

    assert Resolved(sent=(message,)) == await uncertain.resolve(db, [message], Verdict.SENT)

    read = await db.fetchrow("SELECT * FROM rotord.messages WHERE id = $1", message)
    assert tuple(read[column] for column in ("status", "sender", "provider", "message_id", "attempts")) == (
        "sent",
        "a@acme.example",
        "relay",
        "<m@x>",
        1,
    )
    assert read["sent_at"] == await db.fetchval("SELECT began_at FROM rotord.attempts WHERE id = $1", attempt)
    assert await queue_row(db, message) is None
    assert await outcome(db, attempt) == "accepted"


async def test_not_sent_puts_it_back_due_now_with_its_message_id(db):
    message = await insert(db)
    attempt = await make_uncertain(db, message)

    assert Resolved(queued=(message,)) == await uncertain.resolve(db, [message], Verdict.NOT_SENT)

    row = await queue_row(db, message)
    assert (row["state"], row["attempts"], row["message_id"]) == ("queued", 1, "<m@x>")
    assert row["due_at"] <= await db.fetchval("SELECT clock_timestamp()")
    assert await outcome(db, attempt) == "not_sent"


async def test_not_sent_ends_as_cancelled_what_was_called_back_meanwhile(db):
    message = await insert(db)
    attempt = await make_uncertain(db, message)
    await db.execute("UPDATE rotord.outbox SET cancelled_at = now() WHERE id = $1", message)

    assert Resolved(cancelled=(message,)) == await uncertain.resolve(db, [message], Verdict.NOT_SENT)

    assert await status(db, message) == "cancelled"
    assert await queue_row(db, message) is None
    assert await outcome(db, attempt) == "not_sent"


@pytest.mark.parametrize("verdict", Verdict)
async def test_only_uncertain_messages_are_touched(db, verdict):
    on_the_wire, queued = await insert(db), await insert(db)
    attempt = await begin(db, on_the_wire)

    assert Resolved() == await uncertain.resolve(db, [on_the_wire, queued, 4711], verdict)

    assert (await status(db, on_the_wire), await status(db, queued)) == ("sending", "queued")
    assert await outcome(db, attempt) is None


@pytest.mark.parametrize("verdict", Verdict)
async def test_two_verdicts_at_once_settle_a_message_once(db, database_url, verdict):
    ids = [await insert(db) for _ in range(20)]
    for message in ids:
        await make_uncertain(db, message)
    rival = await asyncpg.connect(database_url)
    results = []

    async def resolve(conn):
        results.append(await uncertain.resolve(conn, ids, verdict))

    async with asyncio.TaskGroup() as group:
        group.create_task(resolve(db))
        group.create_task(resolve(rival))
    await rival.close()

    assert sorted(len(result.ids) for result in results) == [0, 20]


async def test_a_failure_half_way_leaves_everything_as_it_was(db):
    message = await insert(db)
    attempt = await make_uncertain(db, message)
    await db.execute("INSERT INTO rotord.message_state (id, client, status) VALUES ($1, 'acme', 'sent')", message)

    with pytest.raises(asyncpg.UniqueViolationError):
        await uncertain.resolve(db, [message], Verdict.SENT)

    assert (await queue_row(db, message))["state"] == "uncertain"
    assert await outcome(db, attempt) == "uncertain"


async def test_not_sent_waits_for_the_message_of_its_thread_that_went_on_meanwhile(db):
    first, second = await insert(db, thread_key="t"), await insert(db, thread_key="t")
    await make_uncertain(db, first)
    await db.execute("UPDATE rotord.queue SET state = 'queued' WHERE id = $1", second)

    await uncertain.resolve(db, [first], Verdict.NOT_SENT)

    assert ((await queue_row(db, first))["state"], (await queue_row(db, second))["state"]) == ("waiting", "queued")


async def test_of_a_thread_only_the_first_leaves_and_from_the_threads_address(db):
    first, second = await insert(db, thread_key="t"), await insert(db, thread_key="t")
    await make_uncertain(db, first)
    await make_uncertain(db, second)
    await db.execute("INSERT INTO rotord.threads VALUES ('acme', 't', 'a@acme.example', '<m@x>')")

    await uncertain.resolve(db, [second, first], Verdict.NOT_SENT)

    rows = [await queue_row(db, message) for message in (first, second)]
    assert [(row["state"], row["pin_kind"], row["pin"]) for row in rows] == [
        ("queued", "thread", "a@acme.example"),
        ("waiting", "thread", "a@acme.example"),
    ]


async def test_the_same_thread_key_of_another_client_is_another_thread(db):
    mine, theirs = await insert(db, thread_key="t"), await insert(db, thread_key="t", client="other")
    await make_uncertain(db, mine)

    await uncertain.resolve(db, [mine], Verdict.NOT_SENT)

    assert ((await queue_row(db, mine))["state"], (await queue_row(db, theirs))["state"]) == ("queued", "queued")


async def test_a_finish_that_is_not_known_is_not_later_than_the_deadline(db):
    message = await insert(db)
    attempt = await make_uncertain(db, message, ago=timedelta(hours=1))

    await uncertain.resolve(db, [message], Verdict.SENT)

    row = await db.fetchrow("SELECT finished_at, deadline_at FROM rotord.attempts WHERE id = $1", attempt)
    assert row["deadline_at"] == row["finished_at"]


async def test_find_narrows_by_client_provider_and_age(db):
    old, young, other = await insert(db), await insert(db), await insert(db, client="other")
    await make_uncertain(db, old, ago=timedelta(hours=3))
    await make_uncertain(db, young, ago=timedelta(minutes=1), provider="backup")
    await make_uncertain(db, other)

    async def find(**filters):
        return [row["id"] for row in await uncertain.find(db, **filters)]

    assert [old, young, other] == await find()
    assert [old, young] == await find(client="acme")
    assert [young] == await find(provider="backup")
    assert [old] == await find(older_than=timedelta(hours=2))
    assert [old] == await find(limit=1)
