"""What is read: rotord.messages in each state of a message, rotord.address_status with the exact count against the limits."""

from datetime import timedelta

import pytest
from outbox_rows import add_fleet, begin, fail, insert, make_uncertain, status


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)


async def test_messages_has_the_columns_of_the_contract_in_order(db):
    await insert(db)

    assert list((await db.fetchrow("SELECT * FROM rotord.messages")).keys()) == [
        "id", "client", "campaign", "recipient", "kind", "status", "delivery", "sender", "provider", "provider_message_id", "message_id",
        "attempts", "last_error", "created_at", "sent_at", "settled_at", "replied_at",
    ]  # fmt: skip


async def test_a_live_messages_status_is_the_contracts_word(db):
    message = await insert(db)
    seen = {}
    for state in ("queued", "scheduled", "waiting", "sending", "uncertain"):
        await db.execute("UPDATE rotord.queue SET state = $1", state)
        seen[state] = await status(db, message)

    assert seen == {"queued": "queued", "scheduled": "queued", "waiting": "queued", "sending": "sending", "uncertain": "uncertain"}


async def test_a_message_on_the_wire_shows_who_sends_it(db):
    message = await insert(db, campaign="c")
    await begin(db, message)

    row = await db.fetchrow("SELECT campaign, sender, provider, message_id, attempts FROM rotord.messages WHERE id = $1", message)
    assert tuple(row) == ("c", "a@acme.example", "relay", "<m@x>", 1)


async def test_a_settled_message_shows_what_became_of_it(db):
    message = await insert(db)
    await fail(db, message)

    row = await db.fetchrow("SELECT status, attempts, last_error, sent_at FROM rotord.messages WHERE id = $1", message)
    assert tuple(row) == ("failed", 1, "550 no", None)


async def address(db):
    return dict(await db.fetchrow("SELECT * FROM rotord.address_status WHERE address = 'a@acme.example'"))


async def test_what_counts_is_all_but_the_proven_not_accepted_from_the_finish_on(db):
    minute, hour, day = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
    for outcome, began_ago, finished_ago in [
        ("accepted", minute, minute),  # hour and day
        ("uncertain", minute, minute),  # hour and day
        (None, minute / 2, None),  # on the wire: hour and day
        ("rejected", minute, minute),  # proven not accepted
        ("deferred", minute, minute),
        ("not_sent", minute, minute),
        ("accepted", hour + minute / 2, hour - minute / 4),  # finished within the hour: both
        (None, hour + minute / 2, None),  # its deadline, 60 s after the begin, is within the hour: both
        ("accepted", hour + 5 * minute, hour + 5 * minute),  # day
        ("accepted", hour + 5 * minute, minute),  # written down late: its deadline counts, so day
        ("accepted", day + minute / 2, day - minute / 4),  # day
        ("accepted", day + 5 * minute, day + 5 * minute),  # over
    ]:
        attempt = await begin(db, await insert(db), ago=began_ago)
        await db.execute(
            "UPDATE rotord.attempts SET outcome = $2, finished_at = now() - $3::interval WHERE id = $1", attempt, outcome, finished_ago
        )

    seen = await address(db)
    assert (seen["used_hour"], seen["used_day"]) == (5, 8)
    assert seen["client"] == "acme"


async def test_what_was_sent_before_moving_in_counts_for_a_day(db):
    await db.execute("UPDATE rotord.addresses SET used_day = 30, used_day_at = now() - interval '23 hours'")
    assert (await address(db))["used_day"] == 30
    await db.execute("UPDATE rotord.addresses SET used_day_at = now() - interval '25 hours'")
    assert (await address(db))["used_day"] == 0


@pytest.mark.parametrize(
    ("edit", "state", "reason"),
    [
        ("SELECT", "healthy", None),
        ("UPDATE rotord.addresses SET status = 'paused'", "paused", "a person set the address to paused"),
        ("UPDATE rotord.domains SET status = 'paused'", "paused", "a person set the domain to paused"),
        ("UPDATE rotord.clients SET status = 'paused'", "paused", "a person set the client to paused"),
        ("UPDATE rotord.clients SET status = 'disabled'", "disabled", "a person set the client to disabled"),
        ("UPDATE rotord.addresses SET health = 'disabled', health_reason = 'blocked'", "disabled", "blocked"),
        ("UPDATE rotord.addresses SET health = 'suspicious', health_reason = 'bounces'", "suspicious", "bounces"),
        ("UPDATE rotord.domains SET health = 'cooling', health_reason = 'bounces'", "cooling", "domain: bounces"),
        (
            "UPDATE rotord.domains SET health = 'probation'; UPDATE rotord.addresses SET health = 'cooling', health_reason = 'x'",
            "cooling",
            "x",
        ),
        (
            "UPDATE rotord.clients SET status = 'paused'; UPDATE rotord.addresses SET health = 'cooling'",
            "paused",
            "a person set the client to paused",
        ),
    ],
)
async def test_an_addresses_state_is_the_gravest_word_said_about_it(db, edit, state, reason):
    await db.execute(edit)

    seen = await address(db)
    assert (seen["state"], seen["reason"]) == (state, reason)


async def test_uncertain_counts_until_it_is_settled_otherwise(db):
    attempt = await make_uncertain(db, await insert(db))
    assert (await address(db))["used_hour"] == 1
    await db.execute("UPDATE rotord.attempts SET outcome = 'rejected' WHERE id = $1", attempt)
    assert (await address(db))["used_hour"] == 0
