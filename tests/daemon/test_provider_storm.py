"""Three providers, one of them in trouble: by what they took, nothing is lost, nothing is there twice, every lost answer is looked up."""

import asyncio
import os
import signal
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from rotord.core.breaker import FIRST_PAUSE_S
from tests.daemon.api_rig import DoubleProcess, api_double, rows_of
from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, receiver, relay, running, wait_until
from tests.daemon.scenes import first_accepted, statuses

DOMAINS = ("d0.acme.example", "d1.acme.example")
IN_FLIGHT = 4
# The lease is the shortest: what a restart after kill -9 has to wait for.
TOML = "[lease]\nttl_seconds = 5\n[reconcile]\ngrace_seconds = 1\n"
# A killed one's look-up waits for its attempt's deadline.
BRIEF = "timeout_seconds = 10"
LIMITED = {"status": 429, "headers": {"Retry-After": "0"}}
DROPPED = {"cut": "after", "accepts": True}
FAILED = {"status": 500, "accepts": True}
MIXED = [[0.05, DROPPED], [0.05, FAILED], [0.4, LIMITED]]


async def load(db: asyncpg.Connection, *providers: str) -> None:
    await Fleet().add(db, "acme", domains=2, addresses=10)
    await db.execute("UPDATE rotord.domains SET providers = $1", list(providers))


async def uncertain(db: asyncpg.Connection) -> dict[str, str]:
    """The provider of every uncertain message, by its row."""
    return dict(
        await db.fetch(
            "SELECT o.headers ->> 'X-Row', m.provider FROM rotord.messages m JOIN rotord.outbox o USING (id) WHERE m.status = 'uncertain'"
        )
    )


async def all_found(db: asyncpg.Connection, within_s: float, *apis: DoubleProcess) -> bool:
    """Wait until look-ups have found every uncertain message that its API has."""
    names, deadline = {one.name for one in apis}, time.monotonic() + within_s
    while rows_of(*apis).keys() & {row for row, provider in (await uncertain(db)).items() if provider in names}:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.5)
    return True


async def storm(
    url: str, db: asyncpg.Connection, folder: Path, count: int, trouble: dict[str, Any], within_s: float, kill_every_s: float = 0.0
) -> None:
    """`count` messages by three providers, the first of which is in `trouble`; what must hold then, holds."""
    await load(db, "bad", "good", "relay")
    async with (
        api_double(folder, "bad", "sendgrid") as bad,
        api_double(folder, "good", "mailgun", domains=DOMAINS) as good,
        receiver(folder, "relay", latency_ms="5") as smtp,
    ):
        toml = TOML + bad.toml(BRIEF, 20) + good.toml(BRIEF) + relay("relay", smtp.port, 2)
        async with running(Rig(url, folder, toml)) as rig:
            await first_accepted(db, "acme")
            bad.order(**trouble)
            began = time.monotonic()
            await insert_rows(db, "acme", count)
            settled = f"count(*) > {count} FROM rotord.messages WHERE status = 'sent' OR status = 'uncertain' AND provider = 'relay'"
            if kill_every_s:
                # What a kill left with an API provider that had not got it stays uncertain for good, so quiet is not "all sent".
                settled = "count(*) = 0 FROM rotord.messages WHERE status IN ('queued', 'sending')"
            # A restart waits for the old lease: the time counts from when it sends again.
            while kill_every_s and not await wait_until(db, settled, kill_every_s):
                await rig.kill(signal.SIGKILL)
                assert time.monotonic() - began < within_s
                begun = await db.fetchval("SELECT count(*) FROM rotord.attempts")
                await rig.start()
                await wait_until(db, f"count(*) > {begun} FROM rotord.attempts", 30)
            assert await wait_until(db, settled, within_s), await statuses(db)
            took_s = time.monotonic() - began
            # A kill leaves what was on the wire to the first look-up after its deadline.
            assert await all_found(db, 60 if kill_every_s else 0, bad, good), await uncertain(db)
            searched_s = time.monotonic() - began - took_s
        rows, ended = rows_of(bad, good, smtp), await statuses(db)
        by_provider = {one.log.stem: len(one.seen()) for one in (bad, good, smtp)}
    unknown = await uncertain(db)
    lookups = sum(entry["lost"] for entry in bad.seen())
    print(
        f"{count} messages in {took_s:.1f} s ({count / took_s:.0f}/s), {by_provider}, {lookups} lost answers,"
        f" {Counter(unknown.values())} unknown after {searched_s:.0f} s, {rig.starts} starts, {dict(ended)}, load {os.getloadavg()[0]:.1f}"
    )

    wanted = {f"acme/main/{number}" for number in range(1, count + 1)}
    assert lookups > 0 or "accepts" not in str(trouble)
    assert max(rows.values()) == 1
    assert wanted - rows.keys() <= unknown.keys()
    assert sum(ended.values()) == count + 1
    assert kill_every_s or not unknown
    assert await db.fetchval("SELECT count(*) FROM rotord.addresses WHERE health <> 'healthy'") == 0


@pytest.mark.timeout(60)
async def test_answers_that_are_lost_fail_or_come_too_often_lose_and_double_nothing(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await storm(database_url, db, tmp_path, 300, {"chances": MIXED}, 40)


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kill_every_s", [0.0, 5.0], ids=["alone", "with_kills"])
@pytest.mark.parametrize(
    "trouble",
    [{"outage_s": 60}, {"chances": [[0.5, LIMITED]]}, {"chances": [[0.05, DROPPED]]}, {"chances": [[0.05, FAILED]]}, {"chances": MIXED}],
    ids=["down", "limited", "dropped", "failed", "mixed"],
)
async def test_ten_thousand_messages_lose_and_double_nothing(
    trouble: dict[str, Any], kill_every_s: float, database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    messages = int(os.environ.get("STORM_MESSAGES", "10000"))
    await storm(database_url, db, tmp_path, messages, trouble, 800, kill_every_s)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("pattern", "most"), [([FAILED, {}, FAILED, {}, FAILED], 10), ([FAILED, {}, {}, {}, {}], 45)])
async def test_one_that_fails_after_accepting_gets_nothing_more(
    pattern: list[dict[str, Any]], most: int, database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await load(db, "bad", "good")
    async with api_double(tmp_path, "bad", "sendgrid") as bad, receiver(tmp_path, "good", latency_ms="20") as good:
        bad.order(pattern=pattern)
        toml = TOML + bad.toml(max_in_flight=IN_FLIGHT) + relay("good", good.port, IN_FLIGHT)
        async with running(Rig(database_url, tmp_path, toml)):
            await insert_rows(db, "acme", 300)
            assert await wait_until(db, "count(*) = 300 FROM rotord.messages WHERE status = 'sent'", 40)
        rows = rows_of(bad, good)
    begins = [row[0].timestamp() for row in await db.fetch("SELECT began_at FROM rotord.attempts WHERE provider = 'bad' ORDER BY began_at")]
    share = pattern.count(FAILED) * 100 // len(pattern)
    # Probes come after a pause.
    taken = next((number for number, (one, after) in enumerate(pairwise(begins), 1) if after - one > FIRST_PAUSE_S / 2), len(begins))
    print(f"{taken} messages began there at {share} % errors, then {len(begins) - taken} probes, load {os.getloadavg()[0]:.1f}")

    assert set(rows.values()) == {1}
    assert len(rows) == 300
    assert 0 < taken <= most + IN_FLIGHT
    assert await db.fetchval("SELECT count(*) FROM rotord.addresses WHERE health <> 'healthy'") == 0


@pytest.mark.chaos  # half a minute of it is the breaker's first pause
@pytest.mark.timeout(120)
async def test_one_that_was_away_comes_back_by_itself(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await load(db, "bad", "good")
    async with api_double(tmp_path, "bad", "smtp2go") as bad, receiver(tmp_path, "good", latency_ms="5") as good:
        async with running(Rig(database_url, tmp_path, TOML + bad.toml() + relay("good", good.port, IN_FLIGHT))):
            await first_accepted(db, "acme")
            bad.order(outage_s=2)
            await asyncio.sleep(0.5)
            before = len(bad.seen())
            await insert_rows(db, "acme", 100)
            assert await wait_until(db, "count(*) = 101 FROM rotord.messages WHERE status = 'sent'", 20)
            async with asyncio.timeout(40):
                while len(bad.seen()) <= before:
                    await db.execute(
                        "INSERT INTO rotord.outbox (client, recipient, subject, body_text) VALUES ('acme', 'r@b.example', 's', 'b')"
                    )
                    await asyncio.sleep(0.3)
        rows = rows_of(bad, good)

    assert {rows[f"acme/main/{number}"] for number in range(1, 101)} == {1}
