"""Forged, altered, replayed, stale and another client's posts: refused or believed of nobody, counted, alerted until they end."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from outbox_rows import add_fleet, begin, insert

from rotord.core.conditions import ASSESSED, POSTS_REFUSED, assess
from rotord.core.records import Term
from rotord.db import alerts, watch
from rotord.db.connect import open_pool
from rotord.db.event_store import PostgresEvents
from rotord.engine.ingester import Ingester
from rotord.posting import parsers, sources
from tests.web.site import running_site

SIGNER = ec.generate_private_key(ec.SECP256R1())
PUBLIC = base64.b64encode(
    SIGNER.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
).decode()
KEYS = {"mg": ("mailgun", "mg-key"), "sg": ("sendgrid", PUBLIC), "s2": ("smtp2go", "s2-token"), "b": ("smtp2go", "token-of-client-b")}


def mailgun(event="delivered", *, key="mg-key", at=None, token=None):
    timestamp, token = str(int(at or time.time())), token or uuid4().hex
    signature = hmac.new(key.encode(), (timestamp + token).encode(), hashlib.sha256).hexdigest()
    data = {"event": event, "id": uuid4().hex, "timestamp": time.time(), "recipient": "r@example.org"}
    return json.dumps({"signature": {"timestamp": timestamp, "token": token, "signature": signature}, "event-data": data}).encode(), {}


def sendgrid(event="delivered", *, at=None, signer=SIGNER, altered=b""):
    timestamp = str(int(at or time.time()))
    body = json.dumps([{"event": event, "email": "r@example.org", "timestamp": int(time.time()), "sg_event_id": uuid4().hex}]).encode()
    signature = base64.b64encode(signer.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()
    headers = {"X-Twilio-Email-Event-Webhook-Signature": signature, "X-Twilio-Email-Event-Webhook-Timestamp": timestamp}
    return body + altered, headers


def smtp2go(attempt=None, *, token="s2-token", event="delivered"):
    fields = {"event": event, "rcpt": "r@example.org", "time": "2027-01-15T08:00:02Z", "email_id": uuid4().hex, "bounce": "hard"}
    fields |= {"X-Rotord-Attempt": str(attempt)} if attempt else {}
    return json.dumps(fields).encode(), {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)


@pytest.fixture
async def site(database_url):
    async with running_site(database_url, posting={"webhooks": sources(KEYS)}) as running:
        yield running


async def post(site, provider, made):
    body, headers = made
    async with site.client.post(site.url(f"/webhooks/{provider}"), data=body, headers=headers) as answer:
        return answer.status


async def counted(db, *wanted):
    """What was refused, once it is written (every 2 s)."""
    async with asyncio.timeout(20):
        while True:
            rows = {(row["provider"], row["reason"]): row["count"] for row in await db.fetch(watch.REFUSED, 600.0)}
            if rows.keys() >= set(wanted):
                return rows
            await asyncio.sleep(0.05)


async def test_every_kind_of_post_that_is_not_to_be_believed_is_refused_counted_and_alerted(site, db):
    stranger, long_ago = ec.generate_private_key(ec.SECP256R1()), time.time() - 3 * 86_400
    good = {"mg": mailgun(token="t" * 50), "sg": sendgrid(), "s2": smtp2go()}
    assert [await post(site, name, made) for name, made in good.items()] == [200, 200, 200]
    stored = await db.fetchval("SELECT count(*) FROM rotord.provider_posts")

    refused = {
        "forged by a stranger": ("mg", mailgun(key="guessed"), 406),
        "altered under its signature": ("mg", mailgun("complained", token="t" * 50), 406),
        "replayed long after": ("mg", mailgun(at=long_ago), 406),
        "another account's key": ("sg", sendgrid(signer=stranger), 403),
        "altered after it was signed": ("sg", sendgrid(altered=b" "), 403),
        "signed long ago": ("sg", sendgrid(at=long_ago), 403),
        "another client's token": ("s2", smtp2go(token="token-of-client-b"), 401),
        "no token": ("s2", smtp2go(token=""), 401),
    }
    for name, (provider, made, status) in refused.items():
        assert (name, await post(site, provider, made)) == (name, status)
    assert await db.fetchval("SELECT count(*) FROM rotord.provider_posts") == stored
    # the same post once more is no forgery, and no second event
    assert await post(site, "mg", good["mg"]) == 200
    assert await db.fetchval("SELECT count(*) FROM rotord.provider_posts") == stored

    expected = {
        ("mg", "refused"): 1,
        ("mg", "forged"): 1,
        ("mg", "stale"): 1,
        ("sg", "refused"): 2,
        ("sg", "stale"): 1,
        ("s2", "refused"): 2,
    }
    assert await counted(db, *expected) == expected
    page = (await site.get("/metrics"))[1]
    for (provider, outcome), count in expected.items():
        assert f'rotord_webhook_posts_total{{outcome="{outcome}",provider="{provider}"}} {count}.0' in page


async def test_many_are_one_alert_and_it_resolves_when_they_end(site, db):
    for _ in range(20):
        await post(site, "s2", smtp2go(token="guessed"))
    await counted(db, ("s2", "unverified"))

    for _ in range(2):
        hold, unknown = assess(await watch.read(db))
        await alerts.keep(db, ASSESSED, hold, unknown)
    (raised,) = await alerts.open_alerts(db)
    assert (raised["what"], raised["subject"], raised["times"]) == (POSTS_REFUSED, "s2", 1)
    assert "webhook_key" in raised["remedy"]

    await db.execute("UPDATE rotord.refused_posts SET minute = minute - interval '11 min'")
    await alerts.keep(db, ASSESSED, *assess(await watch.read(db)))
    assert await alerts.open_alerts(db) == []


async def test_events_of_another_clients_messages_are_believed_of_nobody_and_counted(site, db, database_url):
    message = await insert(db, recipient="r@example.org")
    attempt = await begin(db, message, provider="mg")
    assert [await post(site, "b", smtp2go(attempt, token="token-of-client-b", event="bounce")) for _ in range(3)] == [200] * 3
    holder = uuid4()
    await db.execute(
        "INSERT INTO rotord.lease (name, holder, epoch, elected_at, expires_at) VALUES ('main', $1, 1, now(), now() + interval '1 hour')"
        " ON CONFLICT (name) DO UPDATE SET holder = $1, epoch = 1, expires_at = now() + interval '1 hour'",
        holder,
    )
    async with await open_pool(database_url) as pool:
        store = PostgresEvents(pool, (), site.counters.posted)
        ingester = Ingester(store, parsers({name: kind for name, (kind, _) in KEYS.items()}, b"0123456789abcdef"))
        while await ingester.fold_some(Term(holder, 1, 0.0, 0)):
            pass

    assert {row["outbox_id"] for row in await db.fetch("SELECT outbox_id FROM rotord.events")} == {None}
    assert await db.fetchval("SELECT count(*) FROM rotord.suppressions") == 0
    assert await counted(db) == {("b", "foreign"): 3}
    assert 'outcome="foreign",provider="b"} 3.0' in (await site.get("/metrics"))[1]
    (alert,) = assess(await watch.read(db)).hold
    assert alert.subject == "b"
