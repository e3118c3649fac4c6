"""An API that takes a message and loses the answer: its look-up settles the message, and only a row that says so is sent again."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from tests.daemon.fleets import Fleet
from tests.daemon.rig import Rig, running, wait_until
from tests.daemon.scenes import first_accepted, insert
from tests.doubles.http_api import Fault
from tests.doubles.mailgun import MailgunDouble

TAKEN_AND_LOST = Fault(cut="after", accepts=True)
LOST = Fault(cut="after")
DOMAIN = "d0.acme.example"
# The lease is the shortest: what a restart after kill -9 has to wait for.
TOML = """
[lease]
ttl_seconds = 5
[reconcile]
grace_seconds = {grace_s}
[providers.mailgun]
kind = "mailgun"
base_url = "{url}"
api_key = "{key}"
look_ups_per_minute = 600
"""


class Mailgun(MailgunDouble):
    """With the events of what it took, from the `shown_from`th look-up on; 401 while `barred`, as for a domain's sending key."""

    def __init__(self, directory: Path, shown_from: int = 1) -> None:
        super().__init__(directory, domains=(DOMAIN,))
        self.shown_from = shown_from
        self.barred = False
        self.look_ups: list[str] = []

    async def looked_up(self, request: web.Request, answer: Any) -> web.Response:
        if not self.lets_in(request) or self.barred:
            return web.Response(status=401, text='"Forbidden"')
        if "message-id" not in request.query:  # a page that follows
            return await super().looked_up(request, answer)
        self.look_ups.append(request.query["message-id"])
        self.happenings.lag_s = 3600.0 if self.look_ups.count(self.look_ups[-1]) < self.shown_from else 0.0
        return await super().looked_up(request, answer)

    def message_ids(self) -> Counter[str]:
        """How often it took a message."""
        return Counter(mail["headers"]["message-id"] for mail in self.mails)


def rig_of(double: Mailgun, url: str, folder: Path, grace_s: float = 1.0) -> Rig:
    return Rig(url, folder, TOML.format(url=double.url, key=double.key, grace_s=grace_s))


async def load(db: asyncpg.Connection) -> None:
    await Fleet().add(db, "acme", domains=1, addresses=3, providers=("mailgun",))


async def uncertain(db: asyncpg.Connection, double: Mailgun, fault: Fault, **columns: Any) -> int:
    """A message whose answer was lost."""
    double.faults.append(fault)
    message = await insert(db, "acme", kind="transactional", **columns)
    assert await wait_until(db, f"count(*) = 1 FROM rotord.attempts WHERE outbox_id = {message} AND outcome = 'uncertain'", 20)
    return message


async def row(db: asyncpg.Connection, message: int) -> asyncpg.Record:
    return await db.fetchrow("SELECT * FROM rotord.messages WHERE id = $1", message)


@pytest.mark.timeout(120)
async def test_what_it_has_is_sent_what_it_has_not_is_held_or_sent_once_more(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await load(db)
    async with Mailgun(tmp_path, shown_from=2) as double, running(rig_of(double, database_url, tmp_path)) as rig:
        await first_accepted(db, "acme")
        had = await uncertain(db, double, TAKEN_AND_LOST)
        held = await uncertain(db, double, LOST)
        again = await uncertain(db, double, LOST, on_uncertain="resend")
        assert await wait_until(db, f"count(*) = 2 FROM rotord.messages WHERE id IN ({had}, {again}) AND status = 'sent'", 45)
        assert await wait_until(db, f"look_ups >= 1 FROM rotord.queue WHERE id = {held}", 20)
        _, listed = await rig.command("uncertain", "list", "--json")
        _, why = await rig.command("why", "message", str(held), "--json")
        code = await rig.stop()
        (found, kept, repeated) = [await row(db, one) for one in (had, held, again)]
    attempts = await db.fetch("SELECT outcome FROM rotord.attempts WHERE outbox_id = $1 ORDER BY id", again)

    assert code == 0
    assert (found["status"], found["attempts"], kept["status"], kept["attempts"]) == ("sent", 1, "uncertain", 1)
    assert found["provider_message_id"] == found["message_id"].strip("<>")
    assert (repeated["attempts"], [one["outcome"] for one in attempts]) == (2, ["uncertain", "accepted"])
    assert double.message_ids()[found["message_id"]] == 1
    assert double.look_ups.count(found["message_id"].strip("<>")) >= 2  # its log lags behind
    assert double.message_ids()[kept["message_id"]] == 0
    assert double.message_ids()[repeated["message_id"]] == 1
    assert [one["id"] for one in listed["messages"]] == [held]
    assert listed["messages"][0]["look_ups"] >= 1
    assert why["until"] is not None
    assert double.key not in rig.log
    assert "r@recipients.example" not in rig.log


async def test_after_a_kill_the_next_term_asks(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await load(db)
    async with Mailgun(tmp_path) as double, running(rig_of(double, database_url, tmp_path, grace_s=3.0)) as rig:
        await first_accepted(db, "acme")
        message = await uncertain(db, double, TAKEN_AND_LOST, on_uncertain="resend")
        await rig.kill()
        await rig.start()
        assert await wait_until(db, f"status = 'sent' FROM rotord.messages WHERE id = {message}", 40)

    assert set(double.message_ids().values()) == {1}


@pytest.mark.chaos
@pytest.mark.timeout(120)
async def test_what_a_kill_cut_off_is_asked_after_once_its_attempt_is_over(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await load(db)
    async with Mailgun(tmp_path) as double:
        rig = rig_of(double, database_url, tmp_path)
        rig.toml += "timeout_seconds = 2\n"
        async with running(rig):
            await first_accepted(db, "acme")
            double.always = Fault(accepts=True, hang=True)
            for _ in range(5):
                await insert(db, "acme", kind="transactional", on_uncertain="resend")
            assert await wait_until(db, "count(*) = 5 FROM rotord.attempts WHERE outcome IS NULL", 20)
            await rig.kill()
            double.always = Fault()
            await rig.start()
            assert await wait_until(db, "count(*) = 6 FROM rotord.messages WHERE status = 'sent'", 60)

    assert double.message_ids().total() == 6
    assert set(double.message_ids().values()) == {1}


async def test_a_key_that_may_not_ask_is_said_once_and_stops_nothing(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await load(db)
    async with Mailgun(tmp_path) as double, running(rig_of(double, database_url, tmp_path)) as rig:
        double.barred = True
        await first_accepted(db, "acme")
        message = await uncertain(db, double, TAKEN_AND_LOST, on_uncertain="resend")
        assert await wait_until(db, "limits ? 'look_up' FROM rotord.provider_status", 20)
        _, status = await rig.command("status", "--json")
        after = await insert(db, "acme", kind="transactional")
        assert await wait_until(db, f"status = 'sent' FROM rotord.messages WHERE id = {after}", 20)
        kept = await row(db, message)

    assert kept["status"] == "uncertain"
    assert 1 <= rig.log.count("look_ups_do_not_work") <= rig.log.count("term_began")
    (provider,) = status["providers"]
    assert "sending key" in json.dumps(provider["reason"])
    assert provider["up"] is True
