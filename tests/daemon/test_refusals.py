"""Refusals for now and for good: who tries again, from where, when, for how long, who is blamed, and what a refusal gives back."""

import time
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.policy_receiver import OK, PolicyReceiver, listening
from tests.daemon.rig import Rig, relay, running, wait_until

RETRY = "[engine]\nretry_first_seconds = 1\nretry_max_seconds = 4\nretry_for_seconds = 60\n"
GREYLISTED = "450 4.7.1 Greylisted, come back later"


class Greylist:
    """Refuses a (sender, recipient) until `wait_s` after its first try."""

    def __init__(self, wait_s: float) -> None:
        self.first: dict[tuple[str, str], float] = {}
        self.wait_s = wait_s

    def __call__(self, sender: str, recipient: str) -> str:
        first = self.first.setdefault((sender, recipient), time.monotonic())
        return OK if time.monotonic() - first >= self.wait_s else GREYLISTED


@pytest.mark.timeout(60)
async def test_a_greylisted_message_comes_back_from_the_same_address(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await Fleet().add(db, "acme", domains=3, addresses=10)
    await insert_rows(db, "acme", 60)
    policy = PolicyReceiver(on_rcpt=Greylist(1.0))
    async with listening(policy) as one, running(Rig(database_url, tmp_path, RETRY + relay("relay", one.port, 10))):
        assert await wait_until(db, "count(*) = 60 FROM rotord.messages WHERE status = 'sent'", 40)
    tries = defaultdict(list)
    for given in policy.given:
        tries[given.recipient].append(given)
    print(f"60 greylisted messages took {len(policy.given)} tries")

    assert len(policy.taken) == 60
    assert {recipient: len({given.sender for given in seen}) for recipient, seen in tries.items()} == dict.fromkeys(tries, 1)
    assert max(len(seen) for seen in tries.values()) <= 4
    assert min(seen[1].at - seen[0].at for seen in tries.values()) >= 0.7  # 1 s less the jitter of a quarter
    assert len({given.header("message-id") for given in policy.taken}) == 60


@pytest.mark.timeout(60)
async def test_tries_back_off_and_are_given_up(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await Fleet().add(db, "acme", domains=1, addresses=3)
    await insert_rows(db, "acme", 5)
    policy = PolicyReceiver(on_rcpt=lambda _sender, _recipient: "450 4.2.1 try later")
    toml = RETRY.replace("retry_for_seconds = 60", "retry_for_seconds = 6") + relay("relay", 0, 10)
    async with listening(policy) as one, running(Rig(database_url, tmp_path, toml.replace("port = 0", f"port = {one.port}"))):
        assert await wait_until(db, "count(*) = 5 FROM rotord.messages WHERE status = 'failed'", 30)
    tries = defaultdict(list)
    for given in policy.given:
        tries[given.recipient].append(given.at)
    errors = {row["last_error"] for row in await db.fetch("SELECT last_error FROM rotord.messages")}
    gaps = {recipient: [later - at for at, later in pairwise(times)] for recipient, times in tries.items()}
    print("waits between tries:", {recipient: [round(gap, 1) for gap in seen] for recipient, seen in gaps.items()})

    assert [error for error in errors if "try later" not in error] == []
    for times, waits in zip(tries.values(), gaps.values(), strict=True):
        assert waits[0] >= 0.7
        assert waits[1] >= 1.4
        assert waits[1] > waits[0]
        assert 3 <= times[-1] - times[0] <= 6.5


@pytest.mark.timeout(60)
async def test_a_refusal_for_good_fails_at_once_and_blames_whom_it_should(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await Fleet().add(db, "acme", domains=1, addresses=3)
    await insert_rows(db, "acme", 3)
    answers = {
        "r1@recipients.example": "550 5.1.1 user unknown",
        "r2@recipients.example": "550 5.7.1 spam message rejected",
        "r3@recipients.example": OK,
    }
    policy = PolicyReceiver(on_data=lambda _sender, recipient: answers[recipient])
    async with listening(policy) as one, running(Rig(database_url, tmp_path, RETRY + relay("relay", one.port, 3))):
        assert await wait_until(db, "count(*) = 3 FROM rotord.attempts WHERE outcome IS NOT NULL", 20)
        assert await wait_until(db, "count(*) = 0 FROM rotord.queue", 5)
    ledger = {
        row["recipient"]: (row["status"], row["number"], row["outcome"], row["blame"], row["code"])
        for row in await db.fetch("SELECT * FROM rotord.attempts a JOIN rotord.messages m ON m.id = a.outbox_id")
    }

    assert ledger == {
        "r1@recipients.example": ("failed", 1, "rejected", "recipient", "550 5.1.1"),
        "r2@recipients.example": ("failed", 1, "rejected", "content", "550 5.7.1"),
        "r3@recipients.example": ("sent", 1, "accepted", None, "250 2.0.0"),
    }


@pytest.mark.timeout(60)
async def test_refused_messages_give_their_places_back(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await Fleet().add(db, "acme", domains=1, addresses=1, per_hour=(2, 2, 2))
    await insert_rows(db, "acme", 5)
    refused: Counter[str] = Counter()

    def refuse_first(_sender: str, recipient: str) -> str:
        refused[recipient] += 1
        return OK if refused[recipient] > 1 else "450 4.2.1 try later"

    policy = PolicyReceiver(on_rcpt=refuse_first)
    async with listening(policy) as one, running(Rig(database_url, tmp_path, RETRY + relay("relay", one.port, 3))) as rig:
        assert await wait_until(db, "count(*) = 2 FROM rotord.messages WHERE status = 'sent'", 20)
        assert await wait_until(db, "count(*) = 5 FROM rotord.messages WHERE attempts > 0", 10)
        # Only accepted messages count against the limit: the other three were refused, wait, and stay queued.
        _, why = await rig.command("why", "client", "acme", "--json")
    status = Counter(row["status"] for row in await db.fetch("SELECT status FROM rotord.messages"))

    assert status == {"sent": 2, "queued": 3}
    assert len(policy.taken) == 2
    assert why["ready"] in {0, 1, 2, 3}
