"""What providers took, by their own logs: the caps of hour, day and month to the message, a rate in any second, and a long steady run."""

import asyncio
import os
import time
from collections import Counter
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from tests.daemon.api_rig import DoubleProcess, api_double, rows_of
from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, running, wait_until
from tests.daemon.scenes import statuses

DOMAINS = ("d0.acme.example", "d1.acme.example")
SENT = "count(*) >= {} FROM rotord.messages WHERE status = 'sent'"


async def load(db: asyncpg.Connection, *providers: str) -> None:
    await Fleet().add(db, "acme", domains=2, addresses=50)
    await db.execute("UPDATE rotord.domains SET providers = $1", list(providers))


def most_in(double: DoubleProcess, window_s: float) -> int:
    """The most mails in any half-open window of its log."""
    times, first, most = [entry["at"] for entry in double.seen()], 0, 0
    for number, at in enumerate(times):
        while times[first] <= at - window_s:
            first += 1
        most = max(most, number - first + 1)
    return most


@pytest.mark.timeout(60)
async def test_an_hours_a_days_and_a_months_cap_are_kept_to_the_message(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await load(db, "hourly", "daily", "monthly")
    async with (
        api_double(tmp_path, "hourly", "sendgrid") as hourly,
        api_double(tmp_path, "daily", "mailgun", domains=DOMAINS) as daily,
        api_double(tmp_path, "monthly", "smtp2go") as monthly,
    ):
        toml = hourly.toml("per_hour = 30") + daily.toml("per_day = 40") + monthly.toml("per_month = 50")
        async with running(Rig(database_url, tmp_path, toml)):
            await insert_rows(db, "acme", 200)
            assert await wait_until(db, SENT.format(120), 30), await statuses(db)
            # What goes beyond a cap would go now: nothing else holds it.
            assert not await wait_until(db, "count(*) > 120 FROM rotord.attempts", 2)
        rows, taken = rows_of(hourly, daily, monthly), [len(one.seen()) for one in (hourly, daily, monthly)]

    assert taken == [30, 40, 50]
    assert set(rows.values()) == {1}


@pytest.mark.chaos
@pytest.mark.timeout(120)
async def test_a_rate_is_exact_in_any_ten_seconds_and_nearly_so_in_any_second(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await load(db, "api")
    async with api_double(tmp_path, "api", "smtp2go") as api:
        async with running(Rig(database_url, tmp_path, api.toml("per_second = 50", 20))):
            await insert_rows(db, "acme", 1500)
            assert await wait_until(db, SENT.format(1500), 90)
        second, ten = most_in(api, 1.0), most_in(api, 10.0)
    print(f"at most {second} in a second, {ten} in ten, load {os.getloadavg()[0]:.1f}")

    assert second <= 1.2 * 50
    assert 0.9 * 500 <= ten <= 500


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_a_steady_run_against_idle_closers_leaves_nothing_uncertain(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    rate, lasts_s = int(os.environ.get("STEADY_RATE", "500")), float(os.environ.get("STEADY_S", "600"))
    await load(db, "one", "two")
    async with api_double(tmp_path, "one", "sendgrid", idle_s=5) as one, api_double(tmp_path, "two", "smtp2go", idle_s=5) as two:
        async with running(Rig(database_url, tmp_path, one.toml("", 50) + two.toml("", 50))):
            began = time.monotonic()
            for number in count():
                if time.monotonic() - began >= lasts_s:
                    break
                await insert_rows(db, "acme", rate // 5, stream="main")
                await asyncio.sleep(max(0.0, began + (number + 1) / 5 - time.monotonic()))
            wanted = await db.fetchval("SELECT count(*) FROM rotord.outbox")
            spent_s = time.monotonic() - began
            behind = wanted - await db.fetchval("SELECT count(*) FROM rotord.messages WHERE status = 'sent'")
            assert await wait_until(db, SENT.format(wanted), 120), await statuses(db)
        outcomes = Counter(dict(await db.fetch("SELECT outcome, count(*) FROM rotord.attempts GROUP BY outcome")))
        taken = len(one.seen()) + len(two.seen())
    busy = os.getloadavg()[0]
    print(f"{wanted} in {spent_s:.0f} s ({wanted / spent_s:.0f}/s), {behind} behind, {dict(outcomes)}, load {busy:.1f}")

    assert outcomes == {"accepted": wanted}
    assert taken == wanted
