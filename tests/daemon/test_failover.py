"""One domain, two relays: when one fails the other carries on, nothing is lost, nothing is sent twice, and what recovers comes back."""

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from rotord.core.breaker import FIRST_PAUSE_S
from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.policy_receiver import OK, PolicyReceiver, listening
from tests.daemon.rig import Rig, Truth, receiver, relay, running, wait_until
from tests.daemon.scenes import first_accepted, insert

OUT_OF_ORDER = "451 4.3.0 our storage is out of order"
CONNECTIONS = 4
ALL_SENT = "count(*) = {} FROM rotord.messages WHERE status = 'sent'"


@dataclass
class Moody(PolicyReceiver):
    """Refuses at MAIL while `failing`."""

    failing: bool = True
    refused: int = 0

    async def handle_MAIL(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802
        if self.failing:
            self.refused += 1
            return OUT_OF_ORDER
        envelope.mail_from = address
        return OK


async def load(db: asyncpg.Connection, *providers: str) -> None:
    """A client whose every domain goes by all of these providers."""
    await Fleet().add(db, "acme", domains=2, addresses=10)
    await db.execute("UPDATE rotord.domains SET providers = $1", list(providers))


def two(bad: int, good: int, extra: str = "") -> str:
    """The configuration of both relays."""
    return relay("bad", bad, CONNECTIONS, extra) + relay("good", good, CONNECTIONS)


def taken(*policies: PolicyReceiver) -> Counter[str]:
    """How often each row was taken, whoever took it."""
    return Counter(given.header("x-row") for policy in policies for given in policy.taken)


async def begun_at(db: asyncpg.Connection, provider: str) -> list[float]:
    """When its attempts began, in order."""
    rows = await db.fetch(
        "SELECT extract(epoch FROM began_at)::float8 FROM rotord.attempts WHERE provider = $1 ORDER BY began_at", provider
    )
    return [row[0] for row in rows]


async def errors_at(db: asyncpg.Connection, provider: str) -> list[float]:
    """When it ended an attempt by its own fault, in order."""
    rows = await db.fetch(
        "SELECT extract(epoch FROM finished_at)::float8 FROM rotord.attempts"
        " WHERE provider = $1 AND blame IN ('provider', 'network', 'account') ORDER BY finished_at",
        provider,
    )
    return [row[0] for row in rows]


@pytest.mark.timeout(150)
async def test_one_that_refuses_at_mail_is_left_alone_through_a_kill_and_comes_back_by_probes(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await load(db, "bad", "good")
    bad, good = Moody(), PolicyReceiver()
    async with listening(bad), listening(good), running(Rig(database_url, tmp_path, two(bad.port, good.port))) as rig:
        await first_accepted(db, "acme")
        since = time.monotonic()
        await insert_rows(db, "acme", 100)
        assert await wait_until(db, ALL_SENT.format(101), 20)
        took = time.monotonic() - since
        opened_at = (await errors_at(db, "bad"))[3]
        _, status = await rig.command("status", "--json")
        await rig.kill(signal.SIGKILL)
        bad.failing = False
        await rig.start()
        # Mail all the time: whoever forgot would begin some there at once.
        sent = 101
        while (await db.fetchval("SELECT count(*) FROM rotord.attempts WHERE provider = 'bad' AND outcome = 'accepted'")) < 10:
            assert time.time() < opened_at + FIRST_PAUSE_S + 30
            for _ in range(4):
                await insert(db, "acme", headers=f'{{"X-Row": "later/{sent}"}}')
                sent += 1
            assert await wait_until(db, ALL_SENT.format(sent), 20)
    begins = await begun_at(db, "bad")
    first_probe = next(at for at in begins if at > opened_at + 1)
    print(
        f"100 messages took {took:.1f} s; {bad.refused} were refused; the first probe came {first_probe - opened_at:.2f} s after it opened"
    )

    assert set(taken(bad, good).values()) == {1}
    assert len(taken(bad, good)) == sent
    assert took < 10
    assert bad.refused <= 4 + CONNECTIONS
    assert FIRST_PAUSE_S - 0.01 <= first_probe - opened_at <= FIRST_PAUSE_S + 5
    assert {row["provider"]: row["reason"] for row in status["providers"]}["bad"].startswith("failing: 4 of 4 answers were errors")
    assert await db.fetchval("SELECT count(*) FROM rotord.addresses WHERE health <> 'healthy'") == 0
    # Three good ones, one at a time, before the others.
    probes = await db.fetch(
        "SELECT extract(epoch FROM began_at)::float8 AS began, extract(epoch FROM finished_at)::float8 AS ended FROM rotord.attempts"
        " WHERE provider = 'bad' AND extract(epoch FROM began_at) > $1 ORDER BY began_at LIMIT 4",
        opened_at + 1,
    )
    assert all(later["began"] >= earlier["ended"] - 0.01 for earlier, later in pairwise(probes))


@pytest.mark.timeout(60)
async def test_one_that_fails_60_of_100_is_left_alone_and_every_message_arrives_once(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await load(db, "bad", "good")
    draw = random.Random(60)
    bad = PolicyReceiver(on_data=lambda _sender, _recipient: OUT_OF_ORDER if draw.random() < 0.6 else OK)
    good = PolicyReceiver()
    async with listening(bad), listening(good), running(Rig(database_url, tmp_path, two(bad.port, good.port))):
        await insert_rows(db, "acme", 300)
        assert await wait_until(db, ALL_SENT.format(300), 40)
    refused = [given for given in bad.given if given.answer == OUT_OF_ORDER]
    tries = await db.fetchval("SELECT max(attempts) FROM rotord.messages")
    print(f"it opened after at most {len(bad.given)} answers, {len(refused)} of them errors; a message took {tries} tries at most")

    assert taken(bad, good) == Counter({f"acme/main/{number}": 1 for number in range(1, 301)})
    assert len(bad.given) <= 20 + CONNECTIONS
    assert tries <= 3
    # Nothing that it refused was given to it again while the other one took mail.
    assert max(Counter(given.header("x-row") for given in refused).values()) == 1


@pytest.mark.timeout(60)
async def test_one_that_is_killed_hands_its_mail_over_and_holds_what_it_may_have(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await load(db, "bad", "good")
    async with receiver(tmp_path, "bad", latency_ms="50") as bad, receiver(tmp_path, "good", latency_ms="5") as good:
        async with running(Rig(database_url, tmp_path, two(bad.port, good.port))):
            await insert_rows(db, "acme", 400)
            assert await wait_until(db, "count(*) > 20 FROM rotord.attempts WHERE provider = 'bad' AND outcome = 'accepted'", 20)
            bad.process.kill()
            await bad.process.wait()
            killed = time.monotonic()
            settled = "count(*) = 400 FROM rotord.messages WHERE status IN ('sent', 'uncertain')"
            assert await wait_until(db, settled, 20)
            took = time.monotonic() - killed
        truth = Truth.of(bad, good)
    uncertain = await db.fetch(
        "SELECT o.headers ->> 'X-Row' FROM rotord.messages m JOIN rotord.outbox o USING (id) WHERE status = 'uncertain'"
    )
    sent = await db.fetch("SELECT o.headers ->> 'X-Row' FROM rotord.messages m JOIN rotord.outbox o USING (id) WHERE status = 'sent'")
    print(f"all were settled {took:.1f} s after the kill, {len(uncertain)} of them uncertain")

    assert took < 10 + 5
    assert set(truth.rows.values()) == {1}
    assert {row[0] for row in sent} <= set(truth.rows) <= {row[0] for row in [*sent, *uncertain]}
    assert len(uncertain) <= CONNECTIONS


@pytest.mark.timeout(60)
async def test_one_that_takes_mail_and_never_answers_gets_no_more_and_nothing_of_it_goes_elsewhere(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await load(db, "bad", "good")
    async with receiver(tmp_path, "bad", silent_share="1.0") as bad, receiver(tmp_path, "good", latency_ms="20") as good:
        async with running(Rig(database_url, tmp_path, two(bad.port, good.port, "final_timeout_seconds = 1"))):
            await insert_rows(db, "acme", 400)
            assert await wait_until(db, "count(*) = 400 FROM rotord.messages WHERE status IN ('sent', 'uncertain')", 30)
        truth = Truth.of(bad, good)
    uncertain = await db.fetchval("SELECT count(*) FROM rotord.messages WHERE status = 'uncertain'")
    begins = await begun_at(db, "bad")
    opened_at = (await errors_at(db, "bad"))[3]
    print(f"{uncertain} of 400 are uncertain")

    assert set(truth.rows.values()) == {1}
    assert len(truth.rows) == 400
    assert uncertain == len(begins) == len(bad.seen())
    assert 4 <= uncertain <= 4 + CONNECTIONS
    assert max(begins) <= opened_at
    assert await db.fetchval("SELECT max(attempts) FROM rotord.messages") == 1


@pytest.mark.timeout(60)
async def test_with_one_provider_alone_mail_waits_and_why_says_for_what(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await load(db, "bad")
    bad = Moody()
    async with listening(bad), running(Rig(database_url, tmp_path, relay("bad", bad.port, 1))) as rig:
        await insert_rows(db, "acme", 20)
        assert await wait_until(db, "EXISTS (SELECT FROM rotord.provider_status WHERE limits ? 'breaker')", 20)
        waiting = await db.fetchval("SELECT min(id) FROM rotord.queue WHERE state = 'queued'")
        _, why = await rig.command("why", "message", str(waiting), "--json")
        now = await db.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        begins = await begun_at(db, "bad")
    probe_at = (await errors_at(db, "bad"))[3] + FIRST_PAUSE_S

    assert bad.refused == len(begins) == 4
    assert (why["gate"], why["scope"], why["name"]) == ("breaker", "provider", "bad")
    assert "provider bad is failing: 4 of 4 answers were errors" in why["sentence"]
    assert why["numbers"] == {"errors": 4, "answers": 4}
    assert why["until"] is not None
    assert now < probe_at
