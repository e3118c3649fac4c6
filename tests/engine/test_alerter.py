"""The alerter on a real database, with sinks over real HTTP: told once, not lost while a sink fails, at its end told of the end."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from rotord.alerts.slack import Slack
from rotord.alerts.telegram import Telegram
from rotord.core.alerting import Alert, Severity
from rotord.db import alerts
from rotord.db.connect import open_pool
from rotord.engine.alerter import Alerter
from tests.doubles.slack import SlackDouble
from tests.doubles.telegram import CHAT, TOKEN, TelegramDouble, failure

DOWN = Alert("provider_silent", "mailgun_eu", Severity.WARNING, "3 of 40 expected events came")
REPORT = """
INSERT INTO rotord.provider_status (provider, kind, up, ready, in_flight, capacity, reason, since, updated_at, limits)
VALUES ('relay', 'smtp', $1, 0, 0, 8, $2, now() - interval '1 minute', now(), $3)
ON CONFLICT (provider) DO UPDATE SET up = excluded.up, reason = excluded.reason, limits = excluded.limits, updated_at = now()
"""


@pytest.fixture
async def pool(database_url):
    async with await open_pool(database_url) as opened:
        yield opened


@pytest.fixture
async def telegram(tmp_path):
    async with TelegramDouble(tmp_path) as double:
        yield double


@pytest.fixture
async def slack(tmp_path):
    async with SlackDouble(tmp_path) as double:
        yield double


@asynccontextmanager
async def running(pool, sinks, *, leads=True):
    for sink in sinks:
        sink.every_s = 0.05
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Alerter(pool, sinks, lambda: leads).run())
        yield
        task.cancel()


async def until(true, *, seconds=20):
    """Poll: what is waited for lies behind a server and a database."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - see the docstring
            await asyncio.sleep(0.02)


async def until_written(pool, count):
    """Wait until so many deliveries are written down: a stop before it, after the sending, repeats the message."""
    async with asyncio.timeout(20):
        while await pool.fetchval("SELECT count(*) FROM rotord.alert_deliveries WHERE told_at IS NOT NULL") < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def titles(double):
    return [content["text"].partition("\n")[0].strip("*").removeprefix("<b>").removesuffix("</b>") for content in double.truth()]


async def test_a_provider_that_goes_down_and_comes_back_is_told_to_both_once(pool, telegram, slack):
    await pool.execute(REPORT, False, "connection refused", {"month": {"used": 85, "per_month": 100}})
    async with running(pool, [Telegram(telegram.url, TOKEN, CHAT), Slack(slack.webhook_url)]):
        await until(lambda: len(telegram.truth()) == len(slack.truth()) == 2)
        await pool.execute(REPORT, True, "", {"month": {"used": 85, "per_month": 100}})
        await until(lambda: len(telegram.truth()) == len(slack.truth()) == 3)

    assert (
        titles(telegram) == titles(slack) == ["CRITICAL: provider down: relay", "INFO: plan used: relay", "RESOLVED: provider down: relay"]
    )
    assert "connection refused" in telegram.truth()[0]["text"]


async def test_what_was_told_is_not_told_again_after_a_restart(pool, slack):
    await alerts.raise_alert(pool, DOWN)
    for count in (1, 2):
        async with running(pool, [Slack(slack.webhook_url)]):
            await until_written(pool, count)
        await alerts.raise_alert(pool, Alert("other", "x", Severity.WARNING, ""))

    assert titles(slack) == ["WARNING: provider silent: mailgun_eu", "WARNING: other: x"]


async def test_who_does_not_lead_tells_nothing(pool, slack, telegram):
    await alerts.raise_alert(pool, DOWN)
    async with running(pool, [Slack(slack.webhook_url)], leads=False), running(pool, [Telegram(telegram.url, TOKEN, CHAT)]):
        await until(telegram.truth)

    assert slack.requests == []


async def test_a_sink_that_is_asked_for_patience_gets_it_later_and_one_that_is_wrong_is_told_of_to_the_other(pool, telegram, slack, capfd):
    slack.refusals.append((429, "rate_limited", {"Retry-After": "0.1"}))
    await alerts.raise_alert(pool, DOWN)
    wrong = "99:a-secret-canary"
    async with running(pool, [Telegram(telegram.url, wrong, CHAT), Slack(slack.webhook_url)]):
        await until(lambda: len(slack.truth()) == 2)

    assert titles(slack) == ["WARNING: provider silent: mailgun_eu", "WARNING: alert sink failing: telegram"]
    assert "401 Unauthorized" in slack.truth()[1]["text"]

    rows = await pool.fetch(
        "SELECT last_error, attempts, next_try_at > now() + interval '59 minutes' FROM rotord.alert_deliveries WHERE sink = 'telegram'"
    )

    assert [tuple(row) for row in rows] == [("401 Unauthorized", 1, True)]
    assert "canary" not in "".join(capfd.readouterr())


async def test_a_sink_that_works_again_hears_how_things_stand_and_is_not_reported_any_more(pool, telegram):
    telegram.refusals.append((403, failure(403, "Forbidden: bot was kicked"), {}))
    await alerts.raise_alert(pool, DOWN)
    async with running(pool, [Telegram(telegram.url, TOKEN, CHAT)]):
        async with asyncio.timeout(20):
            while not await pool.fetchval("SELECT count(*) FROM rotord.alerts WHERE what = 'alert_sink_failing'"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    await pool.execute("UPDATE rotord.alert_deliveries SET next_try_at = now()")
    async with running(pool, [Telegram(telegram.url, TOKEN, CHAT)]):
        await until(lambda: len(telegram.truth()) == 2)

    assert titles(telegram) == ["WARNING: provider silent: mailgun_eu", "OVER: alert sink failing: telegram"]


async def test_an_absence_of_the_database_is_told_when_it_is_over(pool, slack):
    alerter = Alerter(pool, [], lambda: True)
    alerter._away_since = time.monotonic() - 40
    alerter._came_back()
    await alerter._report_absence()
    async with running(pool, [Slack(slack.webhook_url)]):
        await until(slack.truth)

    assert titles(slack) == ["OVER: database away: database"]
    assert "for about 40 s" in slack.truth()[0]["text"]


async def test_an_absence_of_the_database_ends_nothing(pool, slack, db):
    """Its connections are cut while it runs, again and again."""
    await alerts.raise_alert(pool, DOWN)
    async with running(pool, [Slack(slack.webhook_url)]):
        for _ in range(5):
            await db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await until(slack.truth)
