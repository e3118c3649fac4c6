"""campaign: one that a message named is there, shows what became of it, and obeys a person's word."""

import pytest

from rotord.db import campaigns, senders
from tests.outbox_rows import insert, make_uncertain, status


async def test_the_first_message_makes_it_and_the_last_one_leaves_it_done(rotord, db):
    assert "no campaign" in (await rotord("campaign", "list")).out
    message = await insert(db, campaign="spring")
    [row] = (await rotord("campaign", "list", "--client", "acme", "--json")).json["campaigns"]
    assert (row["client"], row["campaign"], row["status"], row["queued"]) == ("acme", "spring", "active", 1)

    await db.execute("UPDATE rotord.outbox SET cancelled_at = now() WHERE id = $1", message)
    assert (await rotord("campaign", "stats", "acme/spring", "--json")).json["status"] == "done"
    assert "acme/spring: done, 0 messages queued" in (await rotord("campaign", "stats", "acme/spring")).out


async def test_a_name_that_nobody_used_hears_of_the_nearest(rotord, db):
    await insert(db, campaign="spring")
    refused = await rotord("campaign", "pause", "acme/sprnig")

    assert refused.code == 1
    assert "spring" in refused.err
    assert (await rotord("campaign", "stats", "spring")).code == 2


async def test_paused_and_resumed(rotord, db):
    await insert(db, campaign="spring")
    assert (await rotord("campaign", "pause", "acme/spring")).out == "campaign acme/spring is paused\n"
    assert ("campaign", "acme/spring") in (await senders.load(db)).paused
    assert (await rotord("campaign", "resume", "acme/spring", "--json")).json["status"] == "active"
    assert (await senders.load(db)).paused == frozenset()


async def test_cancelled_calls_back_what_is_queued_and_what_comes_later(rotord, db):
    queued, wired = await insert(db, campaign="spring"), await insert(db, campaign="spring")
    later, other = await insert(db, campaign="spring", send_after=await db.fetchval("SELECT now() + interval '1 h'")), await insert(db)
    await make_uncertain(db, wired)
    done = await rotord("campaign", "cancel", "acme/spring")
    assert "2 messages called back" in done.out
    assert [await status(db, message) for message in (queued, later, wired, other)] == ["cancelled", "cancelled", "uncertain", "queued"]

    new = await insert(db, campaign="spring")
    assert ("campaign", "acme/spring") in (await senders.load(db)).paused
    assert await campaigns.sweep(db) == 1
    assert [await status(db, message) for message in (new, other)] == ["cancelled", "queued"]
    assert (await rotord("campaign", "resume", "acme/spring")).code == 1


async def test_a_window_and_stop_on_reply_are_set_before_the_first_message(rotord, db):
    done = await rotord("campaign", "set", "acme/spring", "--window", "mon-fri 09:00-17:00", "--stop-on-reply", "yes")
    assert done.out == "campaign acme/spring sends mon-fri 09:00-17:00; no limits of its own; a reply stops it for its sender\n"
    [campaign] = (await senders.load(db)).campaigns
    assert (campaign.client, campaign.name, campaign.sending_window) == ("acme", "spring", "mon-fri 09:00-17:00")

    assert (await rotord("campaign", "set", "acme/spring", "--window", "", "--json")).json["sending_window"] is None
    assert (await rotord("campaign", "set", "acme/spring", "--window", "whenever")).code == 2
    assert (await rotord("campaign", "set", "acme/spring")).code == 2
    assert (await senders.load(db)).campaigns == []


async def test_limits_are_set_changed_alone_and_taken_away(rotord, db):
    done = await rotord("campaign", "set", "acme/spring", "--per-hour", "1200", "--per-day", "9000")
    assert done.out == (
        "campaign acme/spring has no window of its own; at most 1,200 in any 60 minutes and 9,000 in any 24 hours; a reply stops nothing\n"
    )
    await rotord("campaign", "set", "acme/spring", "--per-hour", "0")
    [campaign] = (await senders.load(db)).campaigns
    assert (campaign.sending_window, campaign.per_hour, campaign.per_day) == (None, 0, 9000)

    rules = (await rotord("campaign", "set", "acme/spring", "--per-hour", "none", "--per-day", "none", "--json")).json
    assert (rules["per_hour"], rules["per_day"]) == (None, None)
    assert (await senders.load(db)).campaigns == []
    for wrong in ("-1", "many", "2147483648", "٣"):
        assert (await rotord("campaign", "set", "acme/spring", f"--per-hour={wrong}")).code == 2


@pytest.mark.parametrize(("stops", "called_back"), [("yes", 1), ("no", 0)])
async def test_a_reply_stops_the_campaign_for_its_sender_alone(rotord, db, stops, called_back):
    await rotord("campaign", "set", "acme/spring", "--stop-on-reply", stops)
    replied, next_one = await insert(db, campaign="spring"), await insert(db, campaign="spring", recipient="r@example.ORG")
    await db.execute("DELETE FROM rotord.queue WHERE id = $1", replied)
    others = [
        await insert(db, campaign="spring", recipient="x@example.org"),
        await insert(db, campaign="autumn"),
        await insert(db, campaign="spring", client="other"),
        await insert(db),
    ]

    assert [await campaigns.stop_on_reply(db, replied) for _ in range(2)] == [called_back, 0]
    assert (await status(db, next_one) == "cancelled") == bool(called_back)
    assert {await status(db, message) for message in others} == {"queued"}
