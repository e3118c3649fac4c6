"""`POST /webhooks/{provider}`, over a real socket and a real database: answers, what is stored, what is folded from it."""

import asyncio
import hashlib
import hmac
import json
import time
from uuid import uuid4

import pytest
from outbox_rows import add_fleet, insert, make_uncertain, status

from rotord.core.records import Term
from rotord.db.connect import open_pool
from rotord.db.event_store import PostgresEvents
from rotord.engine.ingester import Ingester
from rotord.posting import parsers, sources
from rotord.web.webhooks import ROUTE
from tests.web.site import running_site

KINDS = {"mg": "mailgun", "s2": "smtp2go", "nokey": "mailgun"}


def post(event="delivered", *, key="key", token=None, at=None, **fields):
    timestamp, token = str(int(at or time.time())), token or uuid4().hex
    signature = hmac.new(key.encode(), (timestamp + token).encode(), hashlib.sha256).hexdigest()
    data = {"event": event, "id": uuid4().hex, "timestamp": time.time(), "recipient": "r@example.org", **fields}
    return json.dumps({"signature": {"timestamp": timestamp, "token": token, "signature": signature}, "event-data": data}).encode()


@pytest.fixture
async def site(database_url):
    posting = sources({"mg": ("mailgun", "key older"), "s2": ("smtp2go", "secret"), "nokey": ("mailgun", ""), "relay": ("smtp", "x")})
    async with running_site(database_url, posting={"webhooks": posting}) as running:
        yield running


async def leading(db):
    holder = uuid4()
    await db.execute(
        "INSERT INTO rotord.lease (name, holder, epoch, elected_at, expires_at) VALUES ('main', $1, 1, now(), now() + interval '1 hour')"
        " ON CONFLICT (name) DO UPDATE SET holder = $1, epoch = 1, expires_at = now() + interval '1 hour'",
        holder,
    )
    return Term(holder, 1, 0.0, 0)


async def answers(site, provider, *bodies, **headers):
    found = []
    for body in bodies:
        async with site.client.post(site.url(f"/webhooks/{provider}"), data=body, headers=headers) as answer:
            found.append(answer.status)
    return found


async def test_what_is_answered_200_is_stored_once(site, db):
    one, two = post(), post(key="older")

    assert await answers(site, "mg", one, one, two) == [200, 200, 200]

    assert [bytes(row[0]) for row in await db.fetch("SELECT body FROM rotord.provider_posts ORDER BY id")] == [one, two]
    assert 'rotord_webhook_posts_total{outcome="known",provider="mg"} 1.0' in (await site.get("/metrics"))[1]
    assert "rotord_webhook_unfolded_posts 2.0" in (await site.get("/metrics"))[1]


async def test_a_forged_post_comes_again_until_another_one_proves_our_key(site, db):
    assert await answers(site, "mg", post(key="wrong"), post(), post(key="wrong"), post(at=time.time() - 11 * 3600)) == [503, 200, 406, 406]
    assert await answers(site, "mg", *[post(key="new key of theirs") for _ in range(20)]) == [406] * 19 + [503]
    assert await db.fetchval("SELECT count(*) FROM rotord.provider_posts") == 1


async def test_another_body_under_a_used_token_is_refused_for_good(site, db):
    assert await answers(site, "mg", post(token="t" * 50), post("complained", token="t" * 50)) == [200, 406]
    assert await db.fetchval("SELECT count(*) FROM rotord.provider_posts") == 1


async def test_without_a_key_or_a_provider_nothing_is_taken(site, db):
    assert await answers(site, "nokey", post(key="")) == [503]
    assert await answers(site, "relay", post()) == await answers(site, "unheard_of", post()) == [404]
    assert await answers(site, "s2", b"{}") == [503]
    assert await answers(site, "s2", b"{}", Authorization="Bearer secret") == [200]
    assert await answers(site, "s2", b"{}", Authorization="Bearer other") == [401]


async def test_a_body_that_is_too_long_or_packed_is_refused_before_it_is_read(site):
    assert await answers(site, "mg", b"x" * 1_000_001) == [413]
    assert await answers(site, "mg", post(), **{"Content-Encoding": "gzip"}) == [415]


async def test_posts_that_come_together_are_all_stored(site, db):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(answers(site, "mg", post())) for _ in range(50)]

    assert [task.result() for task in tasks] == [[200]] * 50
    assert await db.fetchval("SELECT count(*) FROM rotord.provider_posts") == 50


async def test_a_database_that_is_away_is_503_and_never_200(site, db):
    locker = db.transaction()
    await locker.start()
    await db.execute("LOCK rotord.provider_posts")  # as long as it likes: its answer is not waited for
    try:
        async with asyncio.timeout(15):
            assert await answers(site, "mg", post()) == [503]
    finally:
        await locker.rollback()
    assert await answers(site, "mg", post()) == [200]


async def test_from_a_post_to_the_message(site, db, database_url):
    await add_fleet(db)
    message = await insert(db)
    attempt = await make_uncertain(db, message, provider="mg")
    term = await leading(db)
    bounce = {"severity": "permanent", "reason": "bounce", "delivery-status": {"code": 550, "message": "5.1.1 no such user"}}
    bodies = [post("failed", **bounce, **{"user-variables": {"rotord-attempt": str(attempt)}}), post("unheard_of"), b"not JSON"]
    assert await answers(site, "mg", *bodies) == [200, 200, 406]
    async with await open_pool(database_url) as pool:
        ingester = Ingester(PostgresEvents(pool), parsers(KINDS, b"0123456789abcdef"))

        assert await ingester.fold_some(term)
        assert not await ingester.fold_some(term)

    assert await status(db, message) == "sent"
    assert await db.fetchval("SELECT delivery FROM rotord.messages WHERE id = $1", message) == "bounced"
    assert (
        await db.fetchval("SELECT reason FROM rotord.suppressions WHERE client = 'acme' AND recipient = 'r@example.org'") == "hard_bounce"
    )
    assert await db.fetchval("SELECT unknown FROM rotord.provider_posts WHERE unknown IS NOT NULL") == ["unheard_of"]


async def test_what_the_database_refuses_for_its_data_stops_no_other_post(site, db, database_url):
    await add_fleet(db)
    await db.execute("ALTER TABLE rotord.events ADD CONSTRAINT picky CHECK (recipient <> 'bad@example.org')")
    term = await leading(db)
    bodies = [post(recipient=f"{name}@example.org") for name in ("a", "b", "bad", "c", "d")]
    assert await answers(site, "mg", *bodies) == [200] * 5
    async with await open_pool(database_url) as pool:
        assert await Ingester(PostgresEvents(pool), parsers(KINDS, b"key")).fold_some(term)

    assert [row[0][0] for row in await db.fetch("SELECT recipient FROM rotord.events ORDER BY id")] == list("abcd")
    assert "picky" in await db.fetchval("SELECT fault FROM rotord.provider_posts WHERE fault IS NOT NULL")
    assert await db.fetchval("SELECT count(*) FROM rotord.provider_posts WHERE folded_at IS NULL") == 0


async def test_a_post_that_its_parser_falls_over_is_set_aside_and_stops_no_other(site, db, database_url):
    await add_fleet(db)
    term = await leading(db)
    read = parsers(KINDS, b"key")[ROUTE, "mg"]

    def falls_over(body, content_type):
        if b"bad@" in body:
            raise ValueError
        return read(body, content_type)

    assert await answers(site, "mg", post(), post(recipient="bad@example.org"), post()) == [200] * 3
    async with await open_pool(database_url) as pool:
        assert await Ingester(PostgresEvents(pool), {(ROUTE, "mg"): falls_over}).fold_some(term)

    assert await db.fetchval("SELECT count(*) FROM rotord.events") == 2
    assert await db.fetchval("SELECT fault FROM rotord.provider_posts WHERE fault IS NOT NULL") == "not read: ValueError"
    assert await db.fetchval("SELECT count(*) FROM rotord.provider_posts WHERE folded_at IS NULL") == 0
