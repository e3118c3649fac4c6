"""`POST /inbound/{provider}` over a real listener and database: verified, stored once, folded to what it says of our messages."""

import base64
import hashlib
import hmac
import json
import time
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from outbox_rows import add_fleet, begin, insert

from rotord.core.records import Term
from rotord.core.rendering import message_id
from rotord.core.return_path import build
from rotord.core.unsubscribe import rehearsal_key, token
from rotord.db.event_store import PostgresEvents
from rotord.engine.ingester import Ingester
from rotord.posting import inbound_sources, parsers
from tests.web.site import KEY, raw, running_site

SIGNER = ec.generate_private_key(ec.SECP256R1())
PUBLIC = base64.b64encode(
    SIGNER.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
).decode()
PROVIDERS = {"relay": ("smtp", "pipe-token"), "mg": ("mailgun", "mg-key"), "sg": ("sendgrid", PUBLIC), "open": ("smtp", "")}
BEARER = {"Authorization": "Bearer pipe-token"}


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)


@pytest.fixture
async def site(db, database_url):
    async with running_site(database_url, posting={"inbound": inbound_sources(PROVIDERS, KEY)}) as running:
        yield running


async def sent(db, provider="relay", **columns):
    message = await insert(db, **columns)
    attempt = await begin(db, message)
    await db.execute("UPDATE rotord.attempts SET outcome = 'accepted', finished_at = now(), provider = $2 WHERE id = $1", attempt, provider)
    await db.execute("DELETE FROM rotord.queue WHERE id = $1", message)
    await db.execute("INSERT INTO rotord.message_state (id, client, status) VALUES ($1, 'acme', 'sent')", message)
    return message, attempt


async def fold(db):
    holder = uuid4()
    await db.execute(
        "INSERT INTO rotord.lease (name, holder, epoch, elected_at, expires_at) VALUES ('main', $1, 1, now(), now() + interval '1 hour')"
        " ON CONFLICT (name) DO UPDATE SET holder = $1, epoch = 1, expires_at = now() + interval '1 hour'",
        holder,
    )
    ingester = Ingester(PostgresEvents(db), parsers({name: kind for name, (kind, _) in PROVIDERS.items()}, KEY))
    while await ingester.fold_some(Term(holder, 1, 0.0, 0)):
        pass


async def told(db):
    return [tuple(row) for row in await db.fetch("SELECT outbox_id, kind, recipient FROM rotord.events ORDER BY id")]


async def suppressed(db):
    return [tuple(row) for row in await db.fetch("SELECT client, recipient, reason FROM rotord.suppressions")]


def bounce(attempt, recipient="r@example.org", status="5.1.1", to="ada@acme.example", header=True, rehearsal=False):
    ours = f"X-Rotord-Attempt: {attempt}\n" if header else ""
    ours += "X-Rotord-Rehearsal: yes\n" if rehearsal else ""
    return (
        f"Received: from x by y; Mon, 2 Nov 2026 09:00:05 +0000\nFrom: MAILER-DAEMON@mx.example\nTo: {to}\nSubject: Undelivered\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nSorry.\n--b\n"
        "Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n"
        f"Final-Recipient: rfc822; {recipient}\nAction: failed\nStatus: {status}\n\n--b\n"
        f"Content-Type: text/rfc822-headers\n\nFrom: ada@acme.example\nTo: r@example.org\n{ours}\n--b--\n"
    )


@asynccontextmanager
async def posting(site, path, **options):
    async with site.client.post(site.url(path), **options) as answer:
        yield answer.status


async def post(site, path, **options):
    async with posting(site, path, **options) as status:
        return status


async def test_a_bounce_suppresses_its_messages_recipient_whomever_it_names(db, site):
    message, attempt = await sent(db, recipient="r@example.org")

    assert await post(site, "/inbound/relay", data=bounce(attempt, "innocent@example.org"), headers=BEARER) == 200
    assert await post(site, "/inbound/relay", data=bounce(attempt, "innocent@example.org"), headers=BEARER) == 200
    await fold(db)

    assert await told(db) == [(message, "bounced", "r@example.org")]
    assert await suppressed(db) == [("acme", "r@example.org", "hard_bounce")]
    assert await db.fetchval("SELECT delivery FROM rotord.messages WHERE id = $1", message) == "bounced"


async def test_a_full_mailbox_suppresses_nobody(db, site):
    message, attempt = await sent(db, recipient="r@example.org")
    await post(site, "/inbound/relay", data=bounce(attempt, status="5.2.2"), headers=BEARER)
    await fold(db)

    assert await told(db) == [(message, "bounced", "r@example.org")]
    assert await suppressed(db) == []


async def test_a_return_path_is_enough(db, site):
    message, attempt = await sent(db, recipient="r@example.org")
    await post(
        site, "/inbound/relay", data=bounce(0, "r@example.org", to=build(KEY, attempt, "b.acme.example"), header=False), headers=BEARER
    )
    await fold(db)

    assert await told(db) == [(message, "bounced", "r@example.org")]


async def test_an_envelope_id_is_enough(db, site):
    message, attempt = await sent(db, recipient="r@example.org")
    mail = bounce(0, "innocent@example.org", header=False).replace("Reporting-MTA", f"Original-Envelope-Id: {attempt}\nReporting-MTA")
    await post(site, "/inbound/relay", data=mail, headers=BEARER)
    await fold(db)

    assert await told(db) == [(message, "bounced", "r@example.org")]


@pytest.mark.parametrize(
    ("key", "headers"),
    [
        (rehearsal_key(KEY), {"header": False}),  # nothing but the return path
        (None, {"rehearsal": True}),  # nothing but what came back
        (rehearsal_key(KEY), {"rehearsal": True}),
    ],
)
async def test_a_testers_bounce_in_a_rehearsal_is_not_the_recipients(db, site, key, headers):
    message, attempt = await sent(db, recipient="r@example.org")
    to = build(key, attempt, "b.acme.example") if key else "ada@acme.example"
    await post(site, "/inbound/relay", data=bounce(attempt, "tester@agency.example", to=to, **headers), headers=BEARER)
    await fold(db)

    assert await told(db) == [(message, "bounced", "tester@agency.example")]
    assert await suppressed(db) == []
    assert (await db.fetchval("SELECT reason FROM rotord.events")).startswith("rehearsal: ")


async def test_a_return_path_in_earnest_outweighs_a_header_that_anybody_can_write(db, site):
    message, attempt = await sent(db, recipient="r@example.org")
    await post(site, "/inbound/relay", data=bounce(attempt, to=build(KEY, attempt, "b.acme.example"), rehearsal=True), headers=BEARER)
    await fold(db)

    assert await told(db) == [(message, "bounced", "r@example.org")]
    assert await suppressed(db) == [("acme", "r@example.org", "hard_bounce")]


async def test_a_bounce_of_nothing_of_ours_suppresses_nobody(db, site):
    await sent(db, recipient="r@example.org")
    await post(site, "/inbound/relay", data=bounce(0, "r@example.org", header=False), headers=BEARER)
    await fold(db)

    assert await told(db) == [(None, "bounced", "r@example.org")]
    assert await suppressed(db) == []


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic pipe-token"}])
async def test_who_does_not_know_the_token_is_refused(db, site, headers):
    assert await post(site, "/inbound/relay", data=bounce(1), headers=headers) == 503
    assert await post(site, "/inbound/open", data=bounce(1), headers={"Authorization": "Bearer "}) == 503
    assert await post(site, "/inbound/nobody", data=bounce(1), headers=BEARER) == 404
    assert await db.fetchval("SELECT count(*) FROM rotord.provider_posts") == 0


def reply(to):
    return (
        "From: Kim <r@example.org>\nTo: ada@acme.example\nSubject: Re: hello\nMessage-ID: <reply-1@example.org>\n"
        f"Date: Mon, 2 Nov 2026 10:00:00 +0000\nReferences: <other@x> {to}\n\nYes, please.\n"
    )


async def test_a_reply_by_mailguns_route_marks_its_message_whoever_sent_it(db, site):
    message, _ = await sent(db, recipient="r@example.org")
    stamp, once = str(int(time.time())), "t" * 50
    form = {
        "recipient": "ada@acme.example",
        "sender": "r@example.org",
        "body-mime": reply(message_id(message, "acme.example")),
        "timestamp": stamp,
        "token": once,
        "signature": hmac.new(b"mg-key", (stamp + once).encode(), hashlib.sha256).hexdigest(),
    }

    assert await post(site, "/inbound/mg", data=form) == 200
    assert await post(site, "/inbound/mg", data=form | {"sender": "forged@example.org"}) == 406
    await fold(db)

    assert await told(db) == [(message, "replied", "r@example.org")]
    assert (await db.fetchval("SELECT replied_at FROM rotord.messages WHERE id = $1", message)).isoformat() == "2026-11-02T10:00:00+00:00"


@pytest.mark.parametrize("in_reply_to", [True, False])
async def test_a_reply_answers_what_it_names_nearest(db, site, in_reply_to):
    first, second, third = [(await sent(db, recipient="r@example.org"))[0] for _ in range(3)]
    named = {message: message_id(message, "acme.example") for message in (first, second, third)}
    nearest = f"In-Reply-To: {named[second]}\n" if in_reply_to else ""
    mail = nearest + reply(f"{named[first]} {named[third]}")
    await post(site, "/inbound/relay", data=mail, headers=BEARER)
    await fold(db)

    assert await told(db) == [(second if in_reply_to else third, "replied", "r@example.org")]


async def test_a_reply_stops_its_campaign_for_its_recipient_where_the_campaign_says_so(db, site):
    first, _ = await sent(db, recipient="r@example.org", campaign="stops")
    later = await insert(db, recipient="R@example.org", campaign="stops")
    others = [
        await insert(db, recipient="r@example.org", campaign="goes-on"),
        await insert(db, recipient="s@example.org", campaign="stops"),
    ]
    await db.execute("UPDATE rotord.campaigns SET stop_on_reply = true WHERE name = 'stops'")
    await post(site, "/inbound/relay", data=reply(message_id(first, "acme.example")), headers=BEARER)
    await fold(db)

    assert await db.fetchval("SELECT status FROM rotord.messages WHERE id = $1", later) == "cancelled"
    assert {row[0] for row in await db.fetch("SELECT status FROM rotord.messages WHERE id = ANY ($1)", others)} == {"queued"}


async def test_a_testers_reply_in_a_rehearsal_stops_nothing_and_goes_to_nobody(db, site):
    message, _ = await sent(db, recipient="r@example.org", campaign="stops")
    later = await insert(db, recipient="r@example.org", campaign="stops")
    await db.execute("UPDATE rotord.campaigns SET stop_on_reply = true")
    await db.execute("UPDATE rotord.clients SET forward_replies_to = 'staff@acme.example'")
    mail = reply(message_id(message, "acme.example")).replace("r@example", "tester@example").replace("hello", "[to R@example.org] hello")
    await post(site, "/inbound/relay", data=mail, headers=BEARER)
    await fold(db)

    assert await told(db) == [(message, "replied", "tester@example.org")]
    assert await db.fetchval("SELECT reason FROM rotord.events") == "rehearsal: Re: [to R@example.org] hello"
    assert await db.fetchval("SELECT replied_at FROM rotord.messages WHERE id = $1", message) is None
    assert await db.fetchval("SELECT status FROM rotord.messages WHERE id = $1", later) == "queued"
    assert await db.fetchval("SELECT count(*) FROM rotord.outbox") == 2


@pytest.mark.parametrize("raw_mode", [True, False])
async def test_a_reply_by_sendgrids_inbound_parse(db, site, raw_mode):
    message, _ = await sent(db, recipient="r@example.org")
    mail = reply(message_id(message, "acme.example"))
    fields = {"envelope": json.dumps({"to": ["ada@acme.example"], "from": "r@example.org"})}
    fields |= {"email": mail} if raw_mode else {"headers": mail.partition("\n\n")[0], "text": "Yes, please."}
    body = (
        "".join(f'--xx\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
        + "--xx--\r\n"
    )
    stamp = str(int(time.time()))
    signature = base64.b64encode(SIGNER.sign((stamp + body).encode(), ec.ECDSA(hashes.SHA256()))).decode()
    headers = {
        "Content-Type": "multipart/form-data; boundary=xx",
        "X-Twilio-Email-Event-Webhook-Signature": signature,
        "X-Twilio-Email-Event-Webhook-Timestamp": stamp,
    }

    assert await post(site, "/inbound/sg", data=body.encode(), headers=headers) == 200
    assert await post(site, "/inbound/sg", data=body.replace("Yes", "No").encode() + b"x", headers=headers) == 403
    await fold(db)

    assert await told(db) == [(message, "replied", "r@example.org")]


async def test_a_mail_has_up_to_32_mb(db, site):
    mail = b"From: r@example.org\n\n" + b"x" * 1_040_000  # more than an event's post may have
    announced = b"POST /inbound/relay HTTP/1.1\r\nHost: x\r\nContent-Length: 32000001\r\nConnection: close\r\n\r\n"

    assert await post(site, "/inbound/relay", data=mail, headers=BEARER) == 200
    assert (await raw(site.port, announced)).startswith(b"HTTP/1.1 413 ")


async def test_an_automatic_answer_is_nothing(db, site):
    message, _ = await sent(db, recipient="r@example.org")
    await post(site, "/inbound/relay", data="Auto-Submitted: auto-replied\n" + reply(message_id(message, "acme.example")), headers=BEARER)
    await fold(db)

    assert await told(db) == []
    assert await db.fetchval("SELECT count(*) FROM rotord.provider_posts WHERE folded_at IS NOT NULL AND fault IS NULL") == 1


async def test_an_unsubscribe_mail_suppresses_and_a_forged_one_does_not(db, site):
    message, _ = await sent(db, recipient="r@example.org")
    for link in (token(b"another key of 16", message), token(KEY, message)):
        await post(site, "/inbound/relay", data=f"From: r@example.org\nSubject: unsubscribe {link}\n\n.\n", headers=BEARER)
        await fold(db)

    assert [(outbox_id, kind) for outbox_id, kind, _ in await told(db)] == [(None, "replied"), (message, "unsubscribed")]
    assert await suppressed(db) == [("acme", "r@example.org", "unsubscribe")]


async def test_an_unsubscribe_mail_and_a_reply_come_years_after_their_messages_attempts_went(db, site):
    message, _ = await sent(db, recipient="r@example.org")
    await db.execute("DELETE FROM rotord.attempts")
    await post(site, "/inbound/relay", data=f"From: r@example.org\nSubject: unsubscribe {token(KEY, message)}\n\n.\n", headers=BEARER)
    await post(site, "/inbound/relay", data=reply(message_id(message, "acme.example")), headers=BEARER)
    await fold(db)

    assert await told(db) == [(message, "unsubscribed", "r@example.org"), (message, "replied", "r@example.org")]
    assert await suppressed(db) == [("acme", "r@example.org", "unsubscribe")]
    assert await db.fetchval("SELECT replied_at IS NOT NULL FROM rotord.messages WHERE id = $1", message)


@pytest.mark.parametrize("rehearsal", [False, True])
async def test_a_complaint_suppresses_but_not_in_a_rehearsal(db, site, rehearsal):
    message, attempt = await sent(db, recipient="r@example.org")
    to = "tester@agency.example\nX-Rotord-Rehearsal: yes" if rehearsal else "redacted"
    mail = (
        "From: fbl@example.net\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\n"
        "Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: x/1\nVersion: 1\n\n--b\n"
        f"Content-Type: message/rfc822\n\nFrom: ada@acme.example\nTo: {to}\nX-Rotord-Attempt: {attempt}\n\nhi\n--b--\n"
    )
    await post(site, "/inbound/relay", data=mail, headers=BEARER)
    await fold(db)

    assert await told(db) == [(message, "complained", "tester@agency.example" if rehearsal else "r@example.org")]
    assert await suppressed(db) == ([] if rehearsal else [("acme", "r@example.org", "complaint")])


async def test_a_mail_that_says_no_time_happened_when_it_came(db, site):
    message, attempt = await sent(db, recipient="r@example.org")
    undated = bounce(attempt).partition("\n")[2]
    for _ in range(2):
        assert await post(site, "/inbound/relay", data=undated, headers=BEARER) == 200
        await fold(db)

    assert await told(db) == [(message, "bounced", "r@example.org")]
    assert await db.fetchval("SELECT bool_and(occurred_at = received_at) FROM rotord.events")
