"""What the database itself does with a message: it feeds the queue, keeps threads in order, calls back, and forgets nothing."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest
from outbox_rows import add_fleet, begin, insert, make_uncertain, queue_row, status

LATER = datetime(2199, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)


async def states(db):
    """The live messages' states by id, in order."""
    return [row["state"] for row in await db.fetch("SELECT state FROM rotord.queue ORDER BY id")]


async def cancel(db, *messages):
    await db.execute("UPDATE rotord.outbox SET cancelled_at = now() WHERE id = ANY ($1)", list(messages))


async def settle(db, message):
    """As the recorder does with an accepted message, without promoting the next of its thread."""
    await db.execute(
        "WITH q AS (DELETE FROM rotord.queue WHERE id = $1 RETURNING *) "
        "INSERT INTO rotord.message_state (id, client, status) SELECT id, client, 'sent' FROM q",
        message,
    )


async def test_a_plain_message_is_queued_with_what_the_claim_needs(db):
    row = await queue_row(db, await insert(db, body_html="x" * 1000, priority=7))

    assert row | {"client": "acme", "stream": "main", "kind": "bulk", "campaign": "", "pin": "", "pin_kind": "", "state": "queued"} == row
    assert (row["recipient"], row["rank"], row["attempts"]) == ("r@example.org", -7, 0)
    assert 5000 < row["bytes"] < 5200
    assert row["due_at"] == await db.fetchval("SELECT send_after FROM rotord.outbox")


async def test_a_message_for_later_is_scheduled(db):
    row = await queue_row(db, await insert(db, send_after=LATER, expires_at=LATER))

    assert (row["state"], row["due_at"], row["expires_at"]) == ("scheduled", LATER, LATER)


async def test_a_sender_pins_whatever_its_capitals(db):
    row = await queue_row(db, await insert(db, sender="A@Acme.example", thread_key="t"))

    assert (row["pin"], row["pin_kind"]) == ("a@acme.example", "sender")


async def test_a_thread_keeps_its_sender(db):
    await db.execute("INSERT INTO rotord.threads VALUES ('acme', 't', 'a@acme.example', '<m@x>')")

    row = await queue_row(db, await insert(db, thread_key="t"))
    assert (row["pin"], row["pin_kind"]) == ("a@acme.example", "thread")
    row = await queue_row(db, await insert(db, thread_key="t", client="other"))
    assert (row["pin"], row["pin_kind"]) == ("", "")


async def test_a_thread_waits_behind_its_first_within_one_statement(db):
    await db.execute(
        "INSERT INTO rotord.outbox (client, recipient, subject, body_text, thread_key) "
        "SELECT client, 'r@x.y', 's', 'b', thread_key FROM (VALUES ('acme', 't'), ('acme', 't'), ('other', 't'), ('acme', 'u'), "
        "('acme', NULL), ('acme', NULL), ('acme', 't')) AS v (client, thread_key)"
    )

    assert await states(db) == ["queued", "waiting", "queued", "queued", "queued", "queued", "waiting"]


@pytest.mark.parametrize("state", ["queued", "scheduled", "sending", "uncertain", "settled"])
async def test_a_thread_waits_behind_an_earlier_statement_while_that_is_live(db, state):
    first = await insert(db, thread_key="t", **({"send_after": LATER} if state == "scheduled" else {}))
    match state:
        case "sending":
            await begin(db, first)
        case "uncertain":
            await make_uncertain(db, first)
        case "settled":
            await settle(db, first)

    second = await queue_row(db, await insert(db, thread_key="t"))

    assert second["state"] == ("queued" if state in {"uncertain", "settled"} else "waiting")


async def test_the_plan_of_a_first_row_serves_twenty_thousand_of_one_thread(db):
    await insert(db)
    await asyncio.wait_for(
        db.execute(
            "INSERT INTO rotord.outbox (client, recipient, subject, body_text, thread_key) "
            "SELECT 'acme', 'r@x.y', 's', 'b', 't' || i % 2 FROM generate_series(1, 20000) AS i"
        ),
        timeout=20,
    )

    assert await db.fetchval("SELECT count(*) FROM rotord.queue WHERE state = 'waiting'") == 19998


async def test_a_campaign_is_created_on_first_use_and_only_then(db):
    for _ in range(2):
        await insert(db, campaign="spring")
    await insert(db, campaign="")
    await insert(db, client="other", campaign="spring")

    assert [tuple(row) for row in await db.fetch("SELECT client, name FROM rotord.campaigns ORDER BY 1")] == [
        ("acme", "spring"),
        ("other", "spring"),
    ]
    assert await db.fetchval("SELECT count(*) FROM rotord.fleet_changes WHERE kind = 'campaign'") == 2


async def test_an_insert_wakes_the_daemon_once_and_an_empty_one_does_not(db, database_url):
    heard = asyncio.Queue()
    listener = await asyncpg.connect(database_url)
    await listener.add_listener("rotord_outbox", lambda *call: heard.put_nowait(call[3]))

    await db.execute("INSERT INTO rotord.outbox (client, recipient, subject, body_text) SELECT 'acme', 'a@b.c', 's', 'b' WHERE false")
    await db.execute(
        "INSERT INTO rotord.outbox (client, recipient, subject, body_text) SELECT 'acme', 'a@b.c', 's', 'b' FROM generate_series(1, 9)"
    )
    await db.execute("NOTIFY rotord_outbox, 'end'")

    assert [await asyncio.wait_for(heard.get(), 5) for _ in range(2)] == ["", "end"]
    await listener.close()


async def test_a_message_inserted_as_cancelled_is_never_queued_and_holds_up_no_thread(db):
    message = await insert(db, thread_key="t", cancelled_at=LATER)
    after = await insert(db, thread_key="t")

    assert await status(db, message) == "cancelled"
    assert (await queue_row(db, after))["state"] == "queued"


@pytest.mark.parametrize("send_after", [None, LATER])
async def test_cancel_takes_what_is_not_on_the_wire_out_of_the_queue(db, send_after):
    message = await insert(db, **({"send_after": send_after} if send_after else {}))
    await cancel(db, message)

    assert await queue_row(db, message) is None
    assert await status(db, message) == "cancelled"
    assert await db.fetchval("SELECT settled_at FROM rotord.messages WHERE id = $1", message) is not None


async def test_cancel_carries_over_what_earlier_attempts_left(db):
    message = await insert(db)
    await begin(db, message)
    await db.execute("UPDATE rotord.queue SET state = 'scheduled', last_error = '451 later'")
    await cancel(db, message)

    row = await db.fetchrow("SELECT status, sender, provider, message_id, attempts, last_error FROM rotord.messages")
    assert tuple(row) == ("cancelled", "a@acme.example", "relay", "<m@x>", 1, "451 later")


@pytest.mark.parametrize(("put", "state"), [(begin, "sending"), (make_uncertain, "uncertain")])
async def test_cancel_does_not_touch_what_its_provider_may_have(db, database_url, put, state):
    message = await insert(db)
    await put(db, message)
    app = await asyncpg.connect(database_url)
    async with app.transaction():
        await app.execute("UPDATE rotord.outbox SET cancelled_at = now() WHERE id = $1", message)
        # Not even locked: an app that forgets to commit must not hold up the recording of its answer.
        await db.execute("SELECT FROM rotord.queue WHERE id = $1 FOR UPDATE NOWAIT", message)
    await app.close()

    assert (await queue_row(db, message))["state"] == state
    assert await status(db, message) == state


async def test_cancel_is_too_late_for_a_settled_message(db):
    message = await insert(db)
    await settle(db, message)
    await cancel(db, message)

    assert await status(db, message) == "sent"


async def test_cancelling_the_head_of_a_thread_lets_the_next_go_from_the_threads_sender(db):
    first, second, third = [await insert(db, thread_key="t") for _ in range(3)]
    await db.execute("INSERT INTO rotord.threads VALUES ('acme', 't', 'a@acme.example', '<m@x>')")
    await cancel(db, first)

    row = await queue_row(db, second)
    assert (row["state"], row["pin"], row["pin_kind"]) == ("queued", "a@acme.example", "thread")
    assert (await queue_row(db, third))["state"] == "waiting"


async def test_cancelling_within_a_thread_does_not_let_the_later_overtake(db):
    first, second, third = [await insert(db, thread_key="t") for _ in range(3)]
    await begin(db, first)
    await cancel(db, second)

    assert await states(db) == ["sending", "waiting"]
    assert (await queue_row(db, third))["state"] == "waiting"


async def test_cancelling_a_whole_thread_leaves_nothing(db):
    messages = [await insert(db, thread_key="t", **({"send_after": LATER} if i else {})) for i in range(3)]
    await cancel(db, messages[0])
    assert await states(db) == ["scheduled", "waiting"]
    await cancel(db, *messages)

    assert await states(db) == []
    assert [await status(db, message) for message in messages] == ["cancelled"] * 3


async def test_a_cancel_waits_for_a_begin_and_sees_its_end(db, database_url):
    message = await insert(db)
    app = await asyncpg.connect(database_url)
    async with asyncio.TaskGroup() as tasks, db.transaction():
        await begin(db, message)
        cancelling = tasks.create_task(cancel(app, message))
        while not await db.fetchval("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')"):
            assert not cancelling.done()
    await app.close()

    row = await queue_row(db, message)
    assert row["state"] == "sending"


async def test_a_cancel_is_not_taken_back_and_its_first_time_stands(db):
    message = await insert(db)
    await cancel(db, message)
    first = await db.fetchval("SELECT cancelled_at FROM rotord.outbox")

    with pytest.raises(asyncpg.RestrictViolationError, match="not taken back"):
        await db.execute("UPDATE rotord.outbox SET cancelled_at = NULL")
    await cancel(db, message)
    assert await db.fetchval("SELECT cancelled_at FROM rotord.outbox") == first


@pytest.mark.parametrize(
    "statement", ["DELETE FROM rotord.outbox", "DELETE FROM rotord.outbox WHERE false", "TRUNCATE rotord.outbox CASCADE"]
)
async def test_no_row_ever_leaves_the_outbox(db, statement):
    await insert(db)
    with pytest.raises(asyncpg.RestrictViolationError, match="stay for ever") as refused:
        await db.execute(statement)

    assert "cancelled_at" in refused.value.hint
    assert await db.fetchval("SELECT count(*) FROM rotord.outbox") == 1


async def test_bodies_can_be_blanked_and_the_stub_keeps_its_key(db):
    message = await insert(db, idempotency_key="k")
    await db.execute("UPDATE rotord.outbox SET body_text = NULL, attachments = '[]', blanked_at = now() WHERE id = $1", message)

    with pytest.raises(asyncpg.UniqueViolationError):
        await insert(db, idempotency_key="k")


@pytest.mark.parametrize(
    "stage", ["DELETE FROM rotord.clients WHERE slug = 'acme'", "UPDATE rotord.clients SET slug = 'new' WHERE slug = 'acme'"]
)
async def test_a_client_with_messages_keeps_its_slug_under_which_its_limits_count(db, stage):
    await insert(db)

    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await db.execute(stage)
