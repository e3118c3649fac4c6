"""The doubles of the API providers behave as published: their look-ups and posts, and what the official clients say."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from email import message_from_bytes
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aiohttp import web
from mailgun.security import SecurityGuard
from sendgrid.helpers.eventwebhook import EventWebhook

from rotord.core.model import Outcome
from tests.doubles.http_api import Fault
from tests.providers.http_support import KINDS, api, double
from tests.providers.shapes import envelope_of
from tests.providers.support import send

EVERY = pytest.mark.parametrize("kind", KINDS)
#: so much faster than published that a timetable of days is over in a moment
FAST = 1_000_000.0


@asynccontextmanager
async def sink(*statuses):
    """Takes posts, answers by these statuses and 200 from then on; yields its address and what it got."""
    posts, answers = [], list(statuses)

    async def take(request):
        posts.append((dict(request.headers), await request.read()))
        return web.Response(status=answers.pop(0) if answers else 200)

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/hook", posts
    finally:
        await runner.cleanup()


async def ask(server, kind, message_id="", recipient="", **more):
    """What a look-up of a mail shows: the names of its events and what identifies it."""
    async with aiohttp.ClientSession() as session:
        if kind == "mailgun":
            login = {"Authorization": aiohttp.encode_basic_auth("api", server.key)}
            parameters = {"message-id": message_id, **more}
            async with session.get(f"{server.url}/v3/acme-mail.example/events", params=parameters, headers=login) as response:
                return response.status, await response.json()
        if kind == "sendgrid":
            login = {"Authorization": f"Bearer {server.key}"}
            query = f"to_email = '{recipient}' AND sg_message_id_created_at > TIMESTAMP \"2020-01-01T00:00:00Z\""
            async with session.post(f"{server.url}/v3/logs", json={"query": query, "limit": 10, **more}, headers=login) as response:
                return response.status, await response.json()
        body = {"search_recipient": recipient, "custom_headers": ["X-Rotord-Attempt"], "start_date": "2020-01-01", **more}
        async with session.post(f"{server.url}/activity/search", json=body, headers={"X-Smtp2go-Api-Key": server.key}) as response:
            return response.status, await response.json()


def message_id_of(envelope):
    return message_from_bytes(envelope.mime)["Message-ID"].strip("<>")


def items(kind, content):
    if kind == "smtp2go":
        return content["data"]["events"]
    return content["items" if kind == "mailgun" else "messages"]


def names(kind, content):
    return [one["status" if kind == "sendgrid" else "event"] for one in items(kind, content)]


DELIVERED = {"mailgun": ["delivered", "accepted"], "sendgrid": ["delivered"], "smtp2go": ["processed", "delivered"]}


@EVERY
async def test_a_look_up_finds_a_mail_after_the_lag_and_through_the_doubles_end(kind, tmp_path):
    async with double(kind, tmp_path, lag_s=3600.0) as server, api(kind, server) as provider:
        server.faults.append(Fault(cut="after", accepts=True))
        envelope = envelope_of("plain", 7)
        assert (await send(provider, envelope)).outcome is Outcome.UNCERTAIN
        who = {"message_id": message_id_of(envelope), "recipient": envelope.message.recipient}
        status, content = await ask(server, kind, **who)

        assert (status, names(kind, content)) == (200, [])

    async with double(kind, tmp_path) as server:
        status, content = await ask(server, kind, **who)
        assert (status, names(kind, content)) == (200, DELIVERED[kind])
        server.happens(7, "bounced")
        _, content = await ask(server, kind, **who)
    expected = {"mailgun": ["failed", *DELIVERED[kind]], "sendgrid": ["bounced"], "smtp2go": [*DELIVERED[kind], "hard-bounced"]}

    assert expected[kind] == names(kind, content)


@EVERY
async def test_what_was_never_taken_is_not_found(kind, tmp_path):
    async with double(kind, tmp_path) as server, api(kind, server) as provider:
        server.faults.append(Fault(status=500))
        await send(provider, envelope_of("plain", 7))
        envelope = envelope_of("plain", 7)
        status, content = await ask(server, kind, message_id_of(envelope), envelope.message.recipient)

    assert (status, items(kind, content)) == (200, [])


async def test_mailguns_pages_go_on_until_an_empty_one_and_angle_brackets_find_others(tmp_path):
    async with double("mailgun", tmp_path) as server, api("mailgun", server) as provider:
        for attempt in (1, 2, 3):
            await send(provider, envelope_of("plain", attempt))
        seen, login = [], {"Authorization": aiohttp.encode_basic_auth("api", server.key)}
        async with aiohttp.ClientSession(headers=login) as session:
            url = f"{server.url}/v3/acme-mail.example/events?limit=4&ascending=yes&begin=1"
            while True:
                async with session.get(url) as response:
                    page = await response.json()
                if not page["items"]:
                    break
                seen.append(len(page["items"]))
                url = page["paging"]["next"]
        _, of_others = await ask(server, "mailgun", "<nobody@acme-mail.example>")
        refused, _ = await ask(server, "mailgun", limit=301)

    assert (seen, len(of_others["items"]), refused) == ([4, 2], 6, 400)


async def test_sendgrids_log_shows_custom_args_of_one_message_alone(tmp_path):
    async with double("sendgrid", tmp_path) as server, api("sendgrid", server) as provider:
        envelope = envelope_of("plain", 7)
        reply = await send(provider, envelope)
        _, found = await ask(server, "sendgrid", recipient=envelope.message.recipient)
        (summary,) = found["messages"]
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {server.key}"}) as session,
            session.get(f"{server.url}/v3/logs/{summary['sg_message_id']}") as response,
        ):
            detail = await response.json()
        bad, _ = await ask(server, "sendgrid", query="rotord_attempt = '7'; DROP")

    assert summary["sg_message_id"].startswith(f"{reply.provider_message_id}.")
    assert "custom_args" not in summary
    assert detail["custom_args"] == {"rotord_attempt": "7"}
    assert bad == 400


async def test_mailguns_posts_verify_with_its_own_client_and_end_on_406(tmp_path):
    async with (
        sink(500, 406, 500) as (url, posts),
        double("mailgun", tmp_path, webhook_url=url, speed=FAST) as server,
        api("mailgun", server) as provider,
    ):
        server.happenings.fates = lambda _taken: ("accepted",)
        await send(provider, envelope_of("plain", 7))
        await server.webhook.idle()
        server.happens(7, "delivered")
        await server.webhook.idle()
        tries = [one.tries for one in server.webhook.deliveries]
    bodies = [json.loads(body) for _, body in posts]

    assert tries == [[500, 406], [500]]  # no retries are promised for the delivery's
    assert [body["event-data"]["event"] for body in bodies] == ["accepted", "accepted", "delivered"]
    assert bodies[0] == bodies[1]
    assert bodies[0]["event-data"]["user-variables"] == {"rotord-attempt": "7"}
    signature = bodies[0]["signature"]
    assert SecurityGuard.verify_webhook(server.signing_key, signature["token"], signature["timestamp"], signature["signature"])
    assert not SecurityGuard.verify_webhook("another", signature["token"], signature["timestamp"], signature["signature"])


async def test_sendgrids_batches_verify_with_its_own_client_and_come_again_until_taken(tmp_path):
    async with (
        sink(503, 503) as (url, posts),
        double("sendgrid", tmp_path, webhook_url=url, speed=1000.0) as server,
        api("sendgrid", server) as provider,
    ):
        for attempt in (1, 2, 3):
            await send(provider, envelope_of("plain", attempt))
        server.webhook.speed = FAST
        await server.webhook.idle()
        key = server.webhook.public_key
    headers, body = posts[0]
    told = [(one["event"], one["rotord_attempt"]) for _, sent in posts for one in json.loads(sent)]
    signature = headers["X-Twilio-Email-Event-Webhook-Signature"], headers["X-Twilio-Email-Event-Webhook-Timestamp"]
    judge = EventWebhook()
    public_key = judge.convert_public_key_to_ecdsa(key)

    assert {name for name, _ in told} == {"processed", "delivered"}
    assert {attempt for _, attempt in told} == {"1", "2", "3"}
    assert len(posts) >= 3
    assert judge.verify_signature(body.decode(), *signature, public_key)
    assert not judge.verify_signature(body.decode().rstrip(), *signature, public_key)


@pytest.mark.parametrize(("form", "auth"), [("json", "bearer"), ("form", "basic")])
async def test_smtp2gos_posts_bear_a_token_and_come_35_times_at_most(form, auth, tmp_path):
    async with (
        sink(*[500] * 35) as (url, posts),
        double("smtp2go", tmp_path, webhook_url=url, speed=FAST) as server,
        api("smtp2go", server) as provider,
    ):
        server.happenings.fates = lambda _taken: ("accepted",)
        server.webhook.output_format, server.webhook.auth = form, auth
        await send(provider, envelope_of("plain", 7))
        await server.webhook.idle()
        (delivery,) = server.webhook.deliveries
    headers, body = posts[0]
    told = json.loads(body) if form == "json" else dict(parse_qsl(body.decode()))
    expected = "the-webhook-token" if auth == "bearer" else base64.b64encode(b"the-webhook-token").decode()

    assert (len(posts), delivery.given_up) == (35, True)
    assert headers["Authorization"].split() == [auth.title(), expected]
    assert (told["event"], told["X-Rotord-Attempt"]) == ("processed", "7")
    assert "rcpt" not in told


@EVERY
async def test_credits_a_disabled_domain_and_an_outage_refuse_mail_and_its_port_comes_back(kind, tmp_path):
    async with double(kind, tmp_path) as server:
        async with api(kind, server) as provider:
            server.credits = 1
            replies = [await send(provider, envelope_of("plain", attempt)) for attempt in (1, 2)]
            assert [reply.outcome for reply in replies] == [Outcome.ACCEPTED, Outcome.NOT_SENT]
            assert replies[1].blame == "account"
        async with api(kind, server) as provider:
            server.credits = None
            server.disabled_domains = {"acme-mail.example"}
            refused = await send(provider, envelope_of("plain", 3))
            assert refused.outcome in {Outcome.NOT_SENT, Outcome.DEFERRED}, refused
            assert refused.blame in {"account", "sender"}, refused
            server.disabled_domains = set()
        async with server.outage(), aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(server.url)
        async with api(kind, server) as provider:
            assert (await send(provider, envelope_of("plain", 5))).outcome is Outcome.ACCEPTED

        assert server.truth() == [1, 5]
