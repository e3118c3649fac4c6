"""send-test: a real message through a real daemon, each step as it was; and a clear word when it cannot go."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

MESSAGE = ("--from", "a@acme.example", "--to", "qa@example.org")


@pytest.fixture(autouse=True)
async def provider(rotord, db):
    await db.execute("UPDATE rotord.domains SET providers = '{backup}'")


@pytest.fixture
async def leader(db):
    """A lease that nobody uses: a daemon that leads and does nothing."""
    await db.execute(
        "INSERT INTO rotord.lease (name, holder, epoch, elected_at, expires_at) "
        "VALUES ('main', gen_random_uuid(), 1, now(), now() + interval '1 hour')"
    )


@asynccontextmanager
async def daemon(db, **environ):
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "rotord", "run", env=os.environ | environ)
    try:
        async with asyncio.timeout(30):
            while not await db.fetchval("SELECT count(*) FROM rotord.lease WHERE expires_at > now()"):  # noqa: ASYNC110 - its state is its event
                await asyncio.sleep(0.05)
        yield
    finally:
        process.terminate()
        await process.wait()


async def test_each_step_of_a_real_message_is_shown(rotord, db, tmp_path):
    async with daemon(db):
        done = await rotord("send-test", *MESSAGE)
        as_json = await rotord("send-test", "--json", *MESSAGE)

    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line.split()[2] for line in lines] == ["accepted", "queued", "begun", "accepted", "sent"]
    assert "attempt 1 from a@acme.example through backup" in lines[2]
    assert "backup answered 250 sandbox: kept" in lines[3]
    times = [float(line.split()[0].replace(",", "")) for line in lines]
    assert times == sorted(times)
    assert (as_json.code, as_json.json["status"], as_json.json["why"]) == (0, "sent", None)
    mails = sorted((tmp_path / ".rotord" / "sandbox" / "backup" / "new").iterdir())
    assert len(mails) == 2
    assert b"\r\nSubject: rotord test, 2" in mails[0].read_bytes()
    assert b"text/html" in mails[0].read_bytes()
    assert await db.fetchval("SELECT count(*) FROM rotord.outbox WHERE cancelled_at IS NOT NULL") == 0


async def test_a_refusal_is_told_in_the_providers_words(rotord, db):
    async with daemon(db, ROTORD_PROVIDERS__BACKUP__OUTCOMES="{rejected = 1}"):
        done = await rotord("send-test", *MESSAGE)

    assert done.code == 1
    assert "rejected  backup answered 550 5.1.1 sandbox: no such user; to blame: recipient" in done.out
    assert done.out.splitlines()[-1].endswith("failed    sandbox: no such user")


async def test_without_a_daemon_nothing_is_inserted(rotord, db):
    done = await rotord("send-test", *MESSAGE)

    remedy = "no daemon leads, and only a leader knows what the limits allow: start one with rotord run"
    assert (done.code, done.out, done.err) == (1, "", f"rotord: {remedy}\n")
    assert await db.fetchval("SELECT count(*) FROM rotord.outbox") == 0


async def test_what_is_not_sent_in_time_is_explained_and_called_back(rotord, db, leader):
    await db.execute("UPDATE rotord.clients SET per_hour = 0")

    done = await rotord("send-test", "--timeout", "1s", *MESSAGE)

    assert done.code == 1
    assert [line.split()[2] for line in done.out.splitlines()[:2]] == ["accepted", "queued"]
    assert "not sent within 1s: " in done.out
    assert done.out.endswith(": called back\n")
    (message,) = await db.fetch(
        "SELECT m.status, o.kind, o.sender, o.expires_at - o.created_at AS life FROM rotord.messages m JOIN rotord.outbox o USING (id)"
    )
    assert tuple(message) == ("cancelled", "transactional", "a@acme.example", timedelta(seconds=31))


async def test_a_test_that_is_interrupted_is_called_back(rotord, db, leader):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rotord", "send-test", *MESSAGE), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert b"accepted  into the outbox" in await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, error = await process.communicate()

    assert (process.returncode, error) == (130, b"")
    assert await db.fetchval("SELECT status FROM rotord.messages") == "cancelled"


async def test_a_suppressed_recipient_is_said(rotord, db):
    await db.execute("INSERT INTO rotord.suppressions (recipient, reason) VALUES ('qa@example.org', 'manual')")
    async with daemon(db):
        done = await rotord("send-test", *MESSAGE)

    assert (done.code, done.out.splitlines()[-1].split()[2]) == (1, "suppressed")


REFUSED = [
    ("UPDATE rotord.addresses SET email = 'b@acme.example' WHERE domain = 'acme.example'",
     "there is no address A@acme.example in the fleet; did you mean b@acme.example?"),
    ("UPDATE rotord.addresses SET status = 'paused'", "address a@acme.example is paused: rotord resume address a@acme.example"),
    ("UPDATE rotord.domains SET status = 'disabled'",
     "domain acme.example is disabled: set its status to active in the fleet file and apply it"),
    ("UPDATE rotord.clients SET status = 'paused'", "client acme is paused: rotord resume client acme"),
    ("INSERT INTO rotord.pauses VALUES ('all', '')", "all is paused: rotord resume all"),
    ("INSERT INTO rotord.pauses VALUES ('stream', 'acme/main')", "stream acme/main is paused: rotord resume stream acme/main"),
    ("INSERT INTO rotord.pauses VALUES ('provider', 'backup')",
     "every provider of domain acme.example is paused: rotord resume provider backup"),
    ("UPDATE rotord.addresses SET health = 'disabled', health_reason = 'bounces'",
     "rotord itself has disabled address a@acme.example: bounces"),
    ("UPDATE rotord.domains SET providers = '{}'", "domain acme.example has no provider: give it one in the fleet file and apply it"),
    ("UPDATE rotord.domains SET providers = '{x,y}'",
     "the configuration has none of the providers of domain acme.example (x, y)"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "error"), REFUSED)
async def test_a_sender_that_cannot_send_is_refused_before_anything_is_inserted(rotord, db, leader, edit, error):
    await db.execute(edit)

    done = await rotord("send-test", "--from", "A@acme.example", "--to", "qa@example.org")

    assert (done.code, done.err, done.out) == (1, f"rotord: {error}\n", "")
    assert await db.fetchval("SELECT count(*) FROM rotord.outbox") == 0


async def test_a_recipient_that_is_no_address_is_a_usage_error(rotord, leader):
    done = await rotord("send-test", "--from", "a@acme.example", "--to", "qa")

    assert (done.code, done.err) == (2, "rotord: qa is no address that mail can go to\n")
