"""An hour of steady sending through providers that are in trouble now and then: nothing grows, nothing is lost, nothing is there twice.

`SOAK_S` and `SOAK_RATE` (messages a second) make it shorter or harder; each minute's sample is printed.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection
from itertools import count
from pathlib import Path
from statistics import median
from typing import NamedTuple

import asyncpg
import pytest

from tests.daemon.api_rig import DoubleProcess, api_double, rows_of
from tests.daemon.fleets import Fleet
from tests.daemon.rig import Rig, receiver, relay, running, wait_until
from tests.daemon.scenes import statuses
from tests.daemon.test_provider_storm import all_found, uncertain

DOMAINS = tuple(f"d{number}.acme.example" for number in range(6))
TROUBLES = (
    {"chances": [[0.3, {"status": 429, "headers": {"Retry-After": "1"}}]]},
    {"chances": [[0.03, {"cut": "after", "accepts": True}]]},
    {"chances": [[0.05, {"status": 500, "accepts": True}]]},
    {"chances": [[0.5, {"status": 503}]]},
    {"chances": [[0.05, {"cut": "in"}]]},
    {"outage_s": 20},
)
DEAD = "SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = 'rotord' AND relname = ANY ($1)"
ROWS = """
INSERT INTO rotord.outbox (client, stream, recipient, subject, body_text, headers)
SELECT 'acme', 'main', 'r' || i || '@recipients.example', 'Message ' || i, 'Hello ' || i, jsonb_build_object('X-Row', 'row-' || i)
  FROM generate_series($1::int + 1, $1::int + $2::int) AS i
"""
API_PLACES, RELAY_PLACES = 50, 20
#: every place in use, and what a daemon has besides
DESCRIPTORS = 3 * (API_PLACES + 1) + RELAY_PLACES + 60
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


class Sample(NamedTuple):
    """What the daemon holds at a moment."""

    at_s: float
    sent: int
    rss_kb: int
    descriptors: int
    connections: int
    dead: int


def held(pid: int) -> tuple[int, int]:
    """A process's resident memory in kB, and how many descriptors it has open."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), len(
        list(Path(f"/proc/{pid}/fd").iterdir())
    )


async def sampled(db: asyncpg.Connection, pid: int, began: float, every_s: float) -> AsyncIterator[Sample]:
    """One after the other, for ever."""
    while True:
        await asyncio.sleep(every_s)
        sent = await db.fetchval("SELECT count(*) FROM rotord.message_state WHERE status = 'sent'")
        dead = await db.fetchval(DEAD, ["queue", "attempts", "message_state", "lanes", "threads", "lease", "provider_reports"])
        sample = Sample(time.monotonic() - began, sent, *held(pid), await db.fetchval(CONNECTIONS), dead)
        print(
            f"{sample.at_s:6.0f} s {sample.sent:8} sent, {sample.rss_kb / 1024:6.1f} MB, {sample.descriptors} descriptors,"
            f" {sample.connections} connections, {sample.dead} dead tuples, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        yield sample


def judged(wanted: Collection[str], taken: Counter[str], uncertain: Collection[str]) -> tuple[set[str], set[str]]:
    """Which rows were lost (nobody took them, and the daemon thinks that somebody did), and which were taken twice or are none of ours."""
    lost = set(wanted) - taken.keys() - set(uncertain)
    return lost, {row for row, times in taken.items() if times > 1} | taken.keys() - set(wanted)


@pytest.mark.parametrize(
    ("taken", "uncertain", "verdict"),
    [
        ("abc", "", ("", "")),
        ("ab", "c", ("", "")),
        ("abc", "c", ("", "")),  # taken, and its answer was lost
        ("ab", "", ("c", "")),
        ("ab", "b", ("c", "")),
        ("abbc", "", ("", "b")),
        ("abb", "", ("c", "b")),  # as many as were wanted
        ("abd", "", ("c", "d")),
    ],
)
def test_what_is_lost_or_there_twice_is_told_row_by_row(taken: str, uncertain: str, verdict: tuple[str, str]) -> None:
    assert judged("abc", Counter(taken), uncertain) == tuple(map(set, verdict))


async def trouble(apis: list[DoubleProcess], draw: random.Random) -> None:
    """One of them at a time, half of the time."""
    while True:
        await asyncio.sleep(draw.uniform(10, 30))
        one = draw.choice(apis)
        one.order(**draw.choice(TROUBLES))
        await asyncio.sleep(draw.uniform(10, 30))
        one.order(chances=[])


@pytest.mark.chaos
@pytest.mark.timeout(7200)
async def test_an_hour_of_sending_through_trouble_is_flat(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    lasts_s, rate = float(os.environ.get("SOAK_S", "3600")), int(os.environ.get("SOAK_RATE", "200"))
    await Fleet().add(db, "acme", domains=len(DOMAINS), addresses=50)
    await db.execute("UPDATE rotord.domains SET providers = $1", ["one", "two", "three", "relay"])
    samples: list[Sample] = []
    watching = await asyncpg.connect(database_url)

    async def sample() -> None:
        assert rig.daemon is not None
        async for one in sampled(watching, rig.daemon.pid, began, min(60.0, lasts_s / 12)):
            samples.append(one)  # noqa: PERF401 - it is cancelled in the midst

    async with (
        api_double(tmp_path, "one", "sendgrid") as one,
        api_double(tmp_path, "two", "smtp2go") as two,
        api_double(tmp_path, "three", "mailgun", domains=DOMAINS) as three,
        receiver(tmp_path, "relay", latency_ms="5,50") as smtp,
    ):
        apis = [one, two, three]
        toml = "[reconcile]\ngrace_seconds = 5\n" + "".join(api.toml("", API_PLACES) for api in apis)
        toml += relay("relay", smtp.port, RELAY_PLACES)
        async with running(Rig(database_url, tmp_path, toml)) as rig, asyncio.TaskGroup() as group:
            began = time.monotonic()
            helpers = [group.create_task(trouble(apis, random.Random(1))), group.create_task(sample())]
            for number in count():
                if time.monotonic() - began >= lasts_s:
                    break
                await db.execute(ROWS, number * (rate // 5), rate // 5)
                await asyncio.sleep(max(0.0, began + (number + 1) / 5 - time.monotonic()))
            for helper in helpers:
                helper.cancel()
            for api in apis:
                api.order(chances=[])
            over = "count(*) = 0 FROM rotord.messages WHERE status IN ('queued', 'scheduled', 'sending')"
            assert await wait_until(db, over, 300), await statuses(db)
            assert await all_found(db, 120, *apis), await statuses(db)
        rows, unknown = rows_of(one, two, three, smtp), await uncertain(db)
        wanted = [row[0] for row in await db.fetch("SELECT headers ->> 'X-Row' FROM rotord.outbox")]
    await watching.close()
    print(f"{len(wanted)} messages, {len(rows)} taken, {len(unknown)} uncertain that no API has")

    assert judged(wanted, rows, unknown) == (set(), set())
    early, late = samples[len(samples) // 4 : len(samples) // 2], samples[-len(samples) // 4 :]
    for name, most in [("rss_kb", 1.1), ("connections", 1.2), ("dead", 2.0)]:
        before, after = (median(getattr(sample, name) for sample in part) for part in (early, late))
        print(f"{name}: {before:.0f} in the second quarter, {after:.0f} in the last")
        assert after <= most * before + 10, name
    # They come and go with the trouble: of a provider that is slow all places are in use.
    assert max(sample.descriptors for sample in samples) <= DESCRIPTORS
