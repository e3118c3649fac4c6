"""Folding: once each whatever the order, by rank, settling what was uncertain, suppressing for the message's own client alone."""

import random
from datetime import timedelta
from uuid import uuid4

import pytest
from outbox_rows import add_fleet, begin, insert, make_uncertain, queue_row, status
from plan_watch import PlanWatch

from rotord.core.events import Event, EventKind, Reason, natural_key
from rotord.core.records import Term
from rotord.db import events, posts
from rotord.db.events import Folded, Told
from rotord.db.posts import Kept, NewPost

K = EventKind
AT = 1_790_000_000.0


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)


@pytest.fixture
async def term(db):
    holder = uuid4()
    await db.execute(
        "INSERT INTO rotord.lease (name, holder, epoch, elected_at, expires_at) VALUES ('main', $1, 1, now(), now() + interval '1 hour')"
        " ON CONFLICT (name) DO UPDATE SET holder = $1, epoch = 1, expires_at = now() + interval '1 hour'",
        holder,
    )
    return Term(holder, 1, 0.0, 0)


def event(kind, attempt=None, at=AT, **fields):
    fields = {"recipient": "r@example.org", "attempt_id": attempt, **fields}
    return Event(kind, at, key=natural_key(kind, attempt, at, fields["recipient"]), **fields)


async def post(db, token=None, provider="relay", body=b"x"):
    token = token or uuid4().hex
    await posts.store(db, [NewPost(provider, "webhooks", token, body, "", body)])
    return await db.fetchval("SELECT id FROM rotord.provider_posts WHERE provider = $1 AND token = $2", provider, token)


async def fold(db, term, *told, provider="relay", claimed=None):
    raw = await post(db)
    count = await events.fold(db, term, [Told(raw, provider, one, claimed) for one in told], [Folded(raw)])
    await events.apply(db, term)
    return count


async def sent(db, **columns):
    message = await insert(db, **columns)
    attempt = await begin(db, message)
    await settle(db, message, attempt)
    return message, attempt


async def settle(db, message, attempt):
    await db.execute("UPDATE rotord.attempts SET outcome = 'accepted', finished_at = now() WHERE id = $1", attempt)
    await db.execute("DELETE FROM rotord.queue WHERE id = $1", message)
    await db.execute("INSERT INTO rotord.message_state (id, client, status, message_id) VALUES ($1, 'acme', 'sent', '<m@x>')", message)


async def delivery(db, message):
    return await db.fetchval("SELECT delivery FROM rotord.messages WHERE id = $1", message)


async def test_a_token_is_taken_once_and_another_body_under_it_is_forged(db):
    first, again, other = [NewPost("mg", "webhooks", "t", digest, "", digest) for digest in (b"a", b"a", b"b")]

    assert await posts.store(db, [first, again, other]) == [Kept.STORED, Kept.KNOWN, Kept.FORGED]
    assert await posts.store(db, [other, again]) == [Kept.FORGED, Kept.KNOWN]
    assert await posts.store(db, [NewPost("mg2", "webhooks", "t", b"b", "", b"b")]) == [Kept.STORED]


@pytest.mark.parametrize("seed", range(4))
async def test_delivery_moves_by_rank_whatever_the_order(db, term, seed):
    message, attempt = await sent(db)
    told = [event(kind, attempt) for kind in (K.ACCEPTED, K.DEFERRED, K.DELIVERED, K.BOUNCED, K.OPENED)]
    random.Random(seed).shuffle(told)

    for one in told:
        await fold(db, term, one)

    assert await delivery(db, message) == "bounced"
    await fold(db, term, event(K.COMPLAINED, attempt))
    await fold(db, term, event(K.DELIVERED, attempt, AT + 9))
    assert await delivery(db, message) == "complained"


async def test_an_event_is_kept_once_however_often_it_is_told(db, term):
    _, attempt = await sent(db)

    assert await fold(db, term, event(K.DELIVERED, attempt), event(K.DELIVERED, attempt)) == 1
    assert await fold(db, term, event(K.DELIVERED, attempt)) == 0
    assert await db.fetchval("SELECT count(*) FROM rotord.events") == 1


async def test_an_event_before_the_answer_to_the_send_waits_for_it(db, term):
    message = await insert(db)
    attempt = await begin(db, message)
    await fold(db, term, event(K.DELIVERED, attempt))
    assert (await status(db, message), await delivery(db, message)) == ("sending", None)

    await settle(db, message, attempt)
    await events.apply(db, term)

    assert await delivery(db, message) == "delivered"
    assert await db.fetchval("SELECT count(*) FROM rotord.event_waits") == 0


async def test_an_event_settles_an_uncertain_message(db, term):
    message = await insert(db)
    attempt = await make_uncertain(db, message)

    await fold(db, term, event(K.DELIVERED, attempt, provider_message_id="pm"))

    assert (await status(db, message), await delivery(db, message), await queue_row(db, message)) == ("sent", "delivered", None)
    assert await db.fetchval("SELECT outcome FROM rotord.attempts WHERE id = $1", attempt) == "accepted"
    assert await db.fetchval("SELECT provider_message_id FROM rotord.messages WHERE id = $1", message) == "pm"


async def test_an_event_that_came_before_its_message_became_uncertain_settles_it(db, term):
    message = await insert(db)
    attempt = await begin(db, message)
    await fold(db, term, event(K.ACCEPTED, attempt))
    await db.execute("UPDATE rotord.attempts SET outcome = 'uncertain' WHERE id = $1", attempt)
    await db.execute("UPDATE rotord.queue SET state = 'uncertain' WHERE id = $1", message)

    await events.apply(db, term)

    assert await status(db, message) == "sent"


async def test_a_drop_settles_an_uncertain_message_as_failed(db, term):
    message = await insert(db)
    attempt = await make_uncertain(db, message)

    await fold(db, term, event(K.DROPPED, attempt))

    assert (await status(db, message), await delivery(db, message)) == ("failed", "bounced")


async def test_what_would_be_sent_again_is_not_once_its_first_attempt_is_told_of(db, term):
    message = await insert(db, on_uncertain="resend")
    attempt = await make_uncertain(db, message)
    await db.execute("UPDATE rotord.queue SET state = 'queued' WHERE id = $1", message)

    await fold(db, term, event(K.DELIVERED, attempt))

    assert (await status(db, message), await queue_row(db, message)) == ("sent", None)


async def test_a_note_that_says_nothing_of_the_uncertain_attempt_stands_before_no_other(db, term, monkeypatch):
    monkeypatch.setattr(events, "APPLY_BATCH", 1)
    unclear = await insert(db)
    first = await begin(db, unclear)
    await db.execute("UPDATE rotord.attempts SET outcome = 'deferred', finished_at = now() WHERE id = $1", first)
    await db.execute("UPDATE rotord.queue SET state = 'queued' WHERE id = $1", unclear)
    await make_uncertain(db, unclear)
    await fold(db, term, event(K.DELIVERED, first))
    message, attempt = await sent(db)

    await fold(db, term, event(K.DELIVERED, attempt))

    assert await status(db, unclear) == "uncertain"
    assert await delivery(db, message) == "delivered"


async def test_another_providers_word_on_an_attempt_is_kept_but_not_believed(db, term):
    message = await insert(db)
    attempt = await make_uncertain(db, message)

    assert await fold(db, term, event(K.BOUNCED, attempt, suppresses=Reason.HARD_BOUNCE), provider="someone_else") == 1

    assert await status(db, message) == "uncertain"
    assert await db.fetchval("SELECT outbox_id FROM rotord.events") is None
    assert await db.fetchval("SELECT count(*) FROM rotord.suppressions") == 0


async def test_a_hard_bounce_suppresses_for_its_own_client_alone(db, term):
    _, attempt = await sent(db)

    await fold(db, term, event(K.BOUNCED, attempt, suppresses=Reason.HARD_BOUNCE), event(K.BOUNCED, None, suppresses=Reason.HARD_BOUNCE))

    rows = await db.fetch("SELECT client, recipient, reason, source FROM rotord.suppressions")
    assert [tuple(row) for row in rows] == [("acme", "r@example.org", "hard_bounce", "event of relay")]


async def test_a_delayed_bounce_finds_its_message_by_the_message_id(db, term):
    message, _ = await sent(db)

    await fold(db, term, event(K.BOUNCED), claimed=message)

    assert await delivery(db, message) == "bounced"


async def test_who_does_not_lead_folds_nothing(db, term):
    message, attempt = await sent(db)
    raw = await post(db)
    old = Term(uuid4(), 1, 0.0, 0)

    assert await events.fold(db, old, [Told(raw, "relay", event(K.DELIVERED, attempt))], [Folded(raw)]) is None

    assert [row["id"] for row in await posts.unfolded(db, 10, 1000)] == [raw]
    assert await delivery(db, message) is None


async def test_posts_are_read_oldest_first_within_a_size_and_again_on_replay(db, term):
    ids = [await post(db, body=b"x" * 100) for _ in range(4)]
    assert [row["id"] for row in await posts.unfolded(db, 10, 150)] == ids[:2]

    await events.fold(db, term, [], [Folded(one, ["new_name"], "") for one in ids[:3]])

    assert [row["id"] for row in await posts.unfolded(db, 10, 1000)] == ids[3:]
    assert await db.fetchval("SELECT unknown FROM rotord.provider_posts WHERE id = $1", ids[0]) == ["new_name"]
    assert await posts.replay(db, None) == 3
    assert len(await posts.unfolded(db, 10, 1000)) == 4


async def test_partitions_are_made_once_and_events_of_other_months_have_their_place(db, term):
    assert len(await events.make_partitions(db)) == 2
    assert await events.make_partitions(db) == []

    await fold(db, term, event(K.OPENED, at=AT), event(K.OPENED, at=1.0), event(K.OPENED, at=9e9 - 4e9))

    assert await db.fetchval("SELECT count(*) FROM rotord.events") == 3


async def test_an_app_sees_its_own_clients_events_alone(db, term):
    _, mine = await sent(db)
    await fold(db, term, event(K.OPENED, mine), event(K.CLICKED))
    await db.execute("CREATE ROLE events_app IN ROLE rotord_app; INSERT INTO rotord.app_clients VALUES ('events_app', 'acme')")
    try:
        await db.execute("SET ROLE events_app")
        seen = [row["kind"] for row in await db.fetch("SELECT kind FROM rotord.events")]
        await db.execute("RESET ROLE")
    finally:
        await db.execute("RESET ROLE; DROP ROLE events_app")

    assert seen == ["opened"]


async def test_a_provider_that_should_report_and_does_not_is_alerted(db, database_url):
    from rotord.db.connect import open_pool  # noqa: PLC0415
    from rotord.db.event_store import PostgresEvents  # noqa: PLC0415

    sent_then = []
    for _ in range(20):
        message = await insert(db)
        attempt = await begin(db, message, ago=timedelta(minutes=40))
        await settle(db, message, attempt)
        sent_then.append(message)
    alert = "SELECT count(*) FROM rotord.alerts WHERE what = 'webhooks_silent' AND subject = 'relay' AND resolved_at IS NULL"
    async with await open_pool(database_url) as pool:
        watched = PostgresEvents(pool, ["relay", "other"])

        await watched.watch()
        assert await db.fetchval(alert) == 1

        await db.execute(
            "INSERT INTO rotord.events (outbox_id, provider, kind, occurred_at, received_at, recipient, key)"
            " SELECT id, 'relay', 'delivered', now(), now(), 'r@example.org', id::text::bytea FROM unnest($1::bigint[]) AS m (id)",
            sent_then[:4],
        )
        await watched.watch()
        assert await db.fetchval(alert) == 0

        await db.execute("DELETE FROM rotord.events")
        await watched.watch()
        await db.execute("DELETE FROM rotord.attempts WHERE outbox_id <> $1", sent_then[0])
        await watched.watch()
        assert await db.fetchval(alert) == 1  # too few to tell: it stays as it is


async def test_a_look_for_silence_reads_no_month_before(db):
    await db.execute("CREATE TABLE rotord.events_2001_01 PARTITION OF rotord.events FOR VALUES FROM ('2001-01-01') TO ('2001-02-01')")
    attempts = [await begin(db, await insert(db), ago=timedelta(hours=1)) for _ in range(2)]
    await db.execute("UPDATE rotord.attempts SET outcome = 'accepted'")
    await db.execute(
        "INSERT INTO rotord.events (outbox_id, provider, kind, occurred_at, received_at, recipient, key)"
        " SELECT outbox_id, provider, 'delivered', began_at, began_at, 'r@example.org', 'k' FROM rotord.attempts WHERE id = $1",
        attempts[0],
    )
    watch = PlanWatch()
    await watch.watch(db)

    assert await watch.of(db, events.silence(db, ["relay"], 7200, 1800)) == [("relay", 2, 1)]
    assert watch.scans(["events_other"])
    assert watch.scans(["events_2001_01"]) == set()
