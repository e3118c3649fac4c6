"""The queue of alerts: one row a condition, each sink's knowledge of it, back-off, and its bounds."""

from datetime import timedelta

from outbox_rows import add_fleet, begin, insert, make_uncertain

from rotord.core.alerting import Alert, Change, Severity, Told, change, told_by
from rotord.db import alerts, watch

DOWN = Alert("provider_down", "mailgun_eu", Severity.WARNING, "connection refused", "look at its status page")


async def due(db, sink="telegram"):
    """What a sink would be told now."""
    now = await db.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
    return [(one.standing.alert.subject, change(one.standing, one.told, now)) for one in await alerts.deliveries(db, sink)]


async def tell(db, sink="telegram"):
    for one in await alerts.deliveries(db, sink):
        what = change(one.standing, one.told, one.standing.since_at)
        if what is not None:
            await alerts.told(db, sink, one.standing.alert, told_by(what, one.standing, 0))


async def test_raised_as_often_as_you_like_it_is_one_alert_told_once_a_sink(db):
    for _ in range(3):
        await alerts.raise_alert(db, DOWN)

    assert await due(db) == [("mailgun_eu", Change.RAISED)]

    await tell(db)

    assert await due(db) == [("mailgun_eu", None)]
    assert await due(db, "slack") == [("mailgun_eu", Change.RAISED)]
    assert [(row["subject"], row["times"]) for row in await alerts.open_alerts(db)] == [("mailgun_eu", 1)]


async def test_its_end_is_told_once_to_who_knew_and_as_over_to_who_did_not(db):
    await alerts.raise_alert(db, DOWN)
    await tell(db)
    await alerts.resolve(db, "provider_down", "mailgun_eu", "it answers again")
    await alerts.resolve(db, "provider_down", "mailgun_eu", "said twice, the first counts")

    (one,) = await alerts.deliveries(db, "telegram")

    assert one.standing.resolution == "it answers again"
    assert await due(db) == [("mailgun_eu", Change.RESOLVED)]
    assert await due(db, "slack") == [("mailgun_eu", Change.OVER)]

    await tell(db)
    await tell(db, "slack")

    assert await due(db) == await due(db, "slack") == []
    assert await alerts.open_alerts(db) == []


async def test_one_that_comes_back_soon_is_the_same_trouble_and_one_that_comes_late_a_new_one(db):
    await alerts.raise_alert(db, DOWN)
    await alerts.resolve(db, "provider_down", "mailgun_eu")
    await alerts.raise_alert(db, DOWN)
    (row,) = await alerts.open_alerts(db)

    assert row["times"] == 2

    await alerts.resolve(db, "provider_down", "mailgun_eu")
    await db.execute("UPDATE rotord.alerts SET since = since - interval '1 hour', resolved_at = resolved_at - interval '1 hour'")
    await alerts.raise_alert(db, DOWN)
    (again,) = await alerts.open_alerts(db)

    assert again["times"] == 1
    assert again["since"] > row["since"]


async def test_keep_resolves_what_no_longer_holds_of_its_own_kinds_and_leaves_the_unknown(db):
    other = Alert("plan_used", "mailgun_eu", Severity.INFO, "80 %")
    await alerts.keep(db, ["provider_down"], [DOWN, Alert("provider_down", "relay", Severity.WARNING, "refused")])
    await alerts.raise_alert(db, other)
    await alerts.keep(db, ["provider_down"], [], unknown=[("provider_down", "relay")])

    assert {(row["what"], row["subject"]) for row in await alerts.open_alerts(db)} == {
        ("provider_down", "relay"),
        ("plan_used", "mailgun_eu"),
    }


async def test_what_could_not_be_told_waits_for_its_next_try_and_keeps_what_was_told(db):
    await alerts.raise_alert(db, DOWN)
    await alerts.failed(db, "telegram", DOWN, 60, "HTTP 500")
    await alerts.failed(db, "telegram", DOWN, 120, "HTTP 500")

    assert await due(db) == []

    await db.execute("UPDATE rotord.alert_deliveries SET next_try_at = clock_timestamp()")
    (one,) = await alerts.deliveries(db, "telegram")

    assert (one.told, one.attempts) == (Told(), 2)

    await alerts.told(db, "telegram", DOWN, Told(Severity.WARNING, 0))
    (one,) = await alerts.deliveries(db, "telegram")

    assert (one.told.severity, one.attempts) == (Severity.WARNING, 0)


async def test_the_queue_has_an_end_and_forgets(db):
    await db.execute(
        "INSERT INTO rotord.alerts (what, subject, severity, text, remedy) SELECT 'x', n, 'info', '', '' FROM generate_series(1, $1) AS n",
        alerts.MOST_ALERTS - 1,
    )
    await alerts.raise_alert(db, DOWN)
    await alerts.raise_alert(db, Alert("one", "too many", Severity.INFO, ""))
    await alerts.raise_alert(db, Alert(DOWN.what, DOWN.subject, Severity.CRITICAL, "worse"))

    assert await db.fetchval("SELECT count(*) FROM rotord.alerts") == alerts.MOST_ALERTS
    assert (await alerts.open_alerts(db))[0]["text"] == "worse"

    await db.execute("UPDATE rotord.alerts SET resolved_at = clock_timestamp() - interval '31 days' WHERE what = 'x'")
    await alerts.forget(db)

    assert await db.fetchval("SELECT count(*) FROM rotord.alerts") == 1


async def test_what_became_uncertain_long_ago_or_is_on_the_wire_is_no_news(db):
    await add_fleet(db)
    new, old, sending = [await insert(db) for _ in range(3)]
    await make_uncertain(db, new)
    await make_uncertain(db, old, ago=timedelta(minutes=11))
    await begin(db, sending)

    assert (await watch.read(db)).became_uncertain == 1
