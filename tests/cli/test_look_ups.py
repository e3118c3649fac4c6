"""What the commands say of look-ups: check tries them, `why` and `uncertain list` tell when the next one is due."""

from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from outbox_rows import insert, make_uncertain


@pytest.fixture
async def mailgun(rotord, monkeypatch, db):
    """The provider `api`, by which acme's domain goes; `answers` is what it says to everything."""
    answers = {"status": 200, "body": '{"items": []}'}
    seen = []

    async def handle(request):
        seen.append(request.path)
        return web.Response(status=answers["status"], text=answers["body"])

    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    for name, value in {"KIND": "mailgun", "BASE_URL": f"http://127.0.0.1:{port}", "API_KEY": "canary-key"}.items():
        monkeypatch.setenv(f"ROTORD_PROVIDERS__API__{name}", value)
    await db.execute("UPDATE rotord.domains SET providers = '{api}' WHERE name = 'acme.example'")
    yield answers | {"seen": seen, "set": answers.update}
    await runner.cleanup()


async def line(rotord):
    done = await rotord("check", "--json", "--no-dns")
    assert "canary-key" not in done.out + done.err
    return [(one["level"], one["says"]) for one in done.json["checks"] if one["kind"] == "look-up"]


async def test_check_asks_after_a_message_that_does_not_exist(rotord, mailgun):
    assert await line(rotord) == [("ok", "a message whose answer was lost can be looked up")]
    assert "/v3/acme.example/events" in mailgun["seen"]


async def test_check_says_what_a_key_without_the_right_needs(rotord, mailgun):
    mailgun["set"](status=401, body='"Forbidden canary-key"')

    ((level, says),) = await line(rotord)

    assert level == "warn"
    assert says.startswith("401 Forbidden ***; api_key may not read events (a domain's sending key never may)")


async def test_check_does_not_ask_whom_nobody_may_ask(rotord, mailgun, monkeypatch):
    monkeypatch.setenv("ROTORD_PROVIDERS__API__LOOK_UPS_PER_MINUTE", "0")

    ((level, says),) = await line(rotord)

    assert (level, says[:11]) == ("ok", "never asked")
    assert "/v3/acme.example/events" not in mailgun["seen"]


async def test_why_and_the_list_tell_when_it_is_looked_up_next(rotord, mailgun, db):
    message = await insert(db, on_uncertain="resend")
    await make_uncertain(db, message, ago=timedelta(minutes=5), provider="api")
    over_at = await db.fetchval("SELECT deadline_at FROM rotord.attempts")

    first = (await rotord("why", "message", str(message), "--json")).json
    await db.execute("UPDATE rotord.queue SET look_ups = 2, looked_up_at = now()")
    again = (await rotord("why", "message", str(message), "--json")).json
    (listed,) = (await rotord("uncertain", "list", "--json")).json["messages"]
    shown = (await rotord("uncertain", "list")).out

    assert over_at + timedelta(minutes=30) == datetime.fromisoformat(first["until"])
    assert "; the look-up is due at " in first["sentence"]
    assert first["sentence"].endswith(", and sends it again if it does not find it")
    assert "its look-up has not found it, 2 times so far, last at " in again["sentence"]
    assert "; the next look-up is due at " in again["sentence"]
    due_in = datetime.fromisoformat(again["until"]) - datetime.now(UTC)  # noqa: TID251 - a person's
    assert timedelta(minutes=59) < due_in < timedelta(minutes=61)
    assert (listed["look_ups"], listed["next_look_up_at"]) == (2, again["until"])
    assert "2x, " in shown
    assert "in 1h" in shown or "in 59" in shown


async def test_what_its_provider_has_forgotten_is_looked_up_no_more(rotord, mailgun, db):
    message = await insert(db)
    await make_uncertain(db, message, ago=timedelta(days=2, hours=23, minutes=50), provider="api")
    await db.execute("UPDATE rotord.queue SET look_ups = 1, looked_up_at = now()")

    found = (await rotord("why", "message", str(message), "--json")).json
    (listed,) = (await rotord("uncertain", "list", "--json")).json["messages"]

    assert found["sentence"].endswith("it is looked up no more, for its provider forgets")
    assert (found["until"], listed["next_look_up_at"]) == (None, None)
