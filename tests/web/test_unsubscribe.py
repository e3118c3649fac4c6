"""RFC 8058 over real HTTP and a real database: POST acts, GET does not, nothing is forged, 200 means committed."""

import asyncio
import base64
import gzip
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from rotord.core.records import Begin, Verdict
from rotord.core.unsubscribe import rehearsal_key, token
from rotord.db import lease, queue
from rotord.db.connect import open_pool
from tests.web.conftest import MESSAGE
from tests.web.site import FORM, KEY, ONE_CLICK, Site, raw, running_site

SUPPRESSED = "SELECT client, recipient, reason, source FROM rotord.suppressions ORDER BY id"


async def suppressed(db: asyncpg.Connection) -> list[tuple[str, ...]]:
    return [tuple(row) for row in await db.fetch(SUPPRESSED)]


async def status_of_post(site: Site, url: str, **options: object) -> int:
    async with site.client.post(url, allow_redirects=False, **options) as answer:
        await answer.read()
        return answer.status


# -- what RFC 8058 shows ------------------------------------------------------------------------------------------------------------


async def test_the_urlencoded_example_of_rfc_8058_unsubscribes(site, message, db):
    path = site.link(message).partition(str(site.port))[2].encode()
    sent = (
        b"POST " + path + b" HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 26\r\n\r\nList-Unsubscribe=One-Click"
    )  # fmt: skip
    answer = await raw(site.port, sent)

    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"set-cookie" not in head
    assert b"location" not in head
    assert await suppressed(db) == [("acme", "jane.doe@example.org", "unsubscribe", "one-click")]


async def test_the_multipart_example_of_rfc_8058_unsubscribes(site, message, db):
    path = site.link(message).partition(str(site.port))[2].encode()
    body = (
        b"---FormBoundaryjWmhtjORrn\r\n"
        b'Content-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n---FormBoundaryjWmhtjORrn--\r\n'
    )
    sent = (
        b"POST " + path + b" HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n"
        b"Content-Type: multipart/form-data; boundary=-FormBoundaryjWmhtjORrn\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )  # fmt: skip
    answer = await raw(site.port, sent)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert await suppressed(db) == [("acme", "jane.doe@example.org", "unsubscribe", "one-click")]


async def test_the_page_button_unsubscribes_and_says_so(site, message, db):
    async with site.client.post(site.link(message), data=FORM, allow_redirects=False) as answer:
        text = await answer.text()

    assert answer.status == 200
    assert "You are unsubscribed" in text
    assert await suppressed(db) == [("acme", "jane.doe@example.org", "unsubscribe", "page")]


async def test_a_second_post_is_answered_like_the_first(site, message, db):
    pages = []
    for form in (ONE_CLICK, FORM, ONE_CLICK):
        async with site.client.post(site.link(message), data=form) as answer:
            pages.append((answer.status, await answer.text()))

    assert pages[0][0] == 200
    assert len(set(pages)) == 1
    assert len(await suppressed(db)) == 1


@pytest.mark.parametrize(
    ("content_type", "head"),
    [
        ("multipart/form-data; boundary=b", "Content-Disposition: form-data; name=x\r\nContent-Type: text/plain; charset*=utf\0-8''a"),
        ("multipart/form-data; boundary=b", "Content-Disposition: form-data; name*=utf\0-8''List-Unsubscribe"),
        ("multipart/form-data; boundary*0*=utf%00-8''b", "Content-Disposition: form-data; name=\0"),
        ("multipart/form-data; boundary=b", "Content-Disposition: form-data; name=x\r\nContent-Transfer-Encoding: x-uuencode"),
    ],
)
async def test_a_form_that_says_nothing_is_refused_whatever_its_octets(site, message, db, content_type, head):
    body = f"--b\r\n{head}\r\n\r\nOne-Click \xff\r\n--b--\r\n".encode("latin-1")

    assert await status_of_post(site, site.link(message), data=body, headers={"Content-Type": content_type}) == 400
    assert await suppressed(db) == []


@pytest.mark.parametrize("method", ["get", "head"])
async def test_looking_changes_nothing(site, message, db, method):
    async with site.client.request(method, site.link(message) + "?List-Unsubscribe=One-Click", allow_redirects=False) as answer:
        body = await answer.read()

    assert answer.status == 200
    assert (body == b"") == (method == "head")
    assert int(answer.headers["Content-Length"]) > 1000
    assert await suppressed(db) == []


async def test_the_suppression_holds_for_the_next_begin(site, message, db, database_url):
    other = await db.fetchval(MESSAGE, "acme", "JANE.DOE@example.org")
    assert await status_of_post(site, site.link(message), data=ONE_CLICK) == 200
    async with await open_pool(database_url) as pool:
        term = await lease.win(pool, uuid4(), 60.0, "test")
        row = Begin(other, term.ids_from, "a@acme.example", "acme.example", "acme", "relay", 60.0, "<m@acme.example>", term.now)
        verdicts = await queue.begin(pool, term, [row])

    assert verdicts == {other: Verdict.SUPPRESSED}


async def test_another_client_of_the_same_person_is_not_touched(site, message, db):
    other = await db.fetchval(MESSAGE, "plain", "jane.doe@example.org")
    assert await status_of_post(site, site.link(other), data=ONE_CLICK) == 200

    assert await suppressed(db) == [("plain", "jane.doe@example.org", "unsubscribe", "one-click")]


# -- bodies -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b""),
        ("application/x-www-form-urlencoded", b"List-Unsubscribe"),
        ("application/x-www-form-urlencoded", b"List-Unsubscribe=Yes"),
        ("application/x-www-form-urlencoded", b"a=1&" * 40 + b"List-Unsubscribe=One-Click"),
        ("application/json", b'{"List-Unsubscribe": "One-Click"}'),
        ("multipart/form-data", b"List-Unsubscribe=One-Click"),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\nOne-Click\r\n--y--\r\n"),
        ("multipart/form-data; boundary*=utf-8''%ff", b"\xff\xfe\0"),
    ],
)
async def test_another_body_is_refused(site, message, db, content_type, body):
    assert await status_of_post(site, site.link(message), data=body, headers={"Content-Type": content_type}) == 400
    assert await suppressed(db) == []


async def test_bodies_are_bounded(site, message, db):
    chunks = (b"x" * 1000 for _ in range(9))

    async def chunked():
        for chunk in chunks:
            yield chunk

    link = site.link(message)

    assert await status_of_post(site, link, data=b"List-Unsubscribe=One-Click&x=" + b"x" * 8192) == 413
    assert await status_of_post(site, link, data=chunked()) == 413
    assert await status_of_post(site, link, data=b"List-Unsubscribe=One-Click&x=" + b"x" * 8000, headers=URLENCODED) == 200


URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}


async def test_a_compressed_body_is_refused_unread(site, message, db):
    bomb = gzip.compress(b"x" * 5_000_000)
    headers = {**URLENCODED, "Content-Encoding": "gzip"}

    assert len(bomb) < 8192
    assert await status_of_post(site, site.link(message), data=bomb, headers=headers) == 415
    assert await suppressed(db) == []


# -- forgery ------------------------------------------------------------------------------------------------------------------------


def forged(outbox_id: int) -> list[str]:
    good = token(KEY, outbox_id)
    raw_token = base64.urlsafe_b64decode(good)
    next_row = base64.urlsafe_b64encode((outbox_id + 1).to_bytes(8, "big") + raw_token[8:]).decode()
    return [token(b"another key, 16 octets or more", outbox_id), next_row, good[:-1], good + "A", good[:-1] + "!", "A" * 32, "x"]


async def test_a_forged_token_shows_a_polite_page_and_does_nothing(site, message, db):
    for bad in forged(message):
        status, text = await site.get(f"/u/{bad}")
        assert (status, "This link does not work" in text) == (404, True), bad
        assert await status_of_post(site, site.url(f"/u/{bad}"), data=ONE_CLICK) == 404, bad

    assert await suppressed(db) == []


async def test_a_true_token_of_a_message_that_is_not_there_looks_like_a_forged_one(site, message):
    forged_page = await site.get(f"/u/{'A' * 32}")

    assert await site.get(site.link(message + 1000).partition(str(site.port))[2]) == forged_page
    assert await status_of_post(site, site.link(message + 1000), data=ONE_CLICK) == 404


async def test_a_rehearsals_link_shows_what_the_tester_would_see_and_suppresses_nobody(site, message, db):
    link = site.url(f"/u/{token(rehearsal_key(KEY), message)}")
    status, asked = await site.get(link.partition(str(site.port))[2])
    in_earnest = await site.get(site.link(message).partition(str(site.port))[2])

    assert (status, asked) == in_earnest
    assert await status_of_post(site, link, data=ONE_CLICK) == 200
    assert await suppressed(db) == []


# -- when the database is away ------------------------------------------------------------------------------------------------------


async def test_without_a_database_nothing_is_claimed(db):
    async with running_site("postgresql://nobody@127.0.0.1:1/none") as site:
        for method in ("get", "post"):
            async with site.client.request(method, site.link(1), data=ONE_CLICK if method == "post" else None) as answer:
                text = await answer.text()
                assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
                assert "Nothing has been changed" in text
        status, text = await site.get("/readyz")
        assert (status, '"database":"unreachable"' in text) == (503, True)
        assert await site.get("/healthz") == (200, "ok\n")
        status, text = await site.get("/metrics")
        assert (status, "rotord_database_up 0.0" in text, "rotord_queue_messages" in text) == (200, True, False)


async def test_a_locked_table_is_waited_for_and_200_means_committed(site, message, db, database_url):
    blocker = await asyncpg.connect(database_url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("LOCK TABLE rotord.suppressions IN ACCESS EXCLUSIVE MODE")
    async with asyncio.TaskGroup() as group:
        post = group.create_task(status_of_post(site, site.link(message), data=ONE_CLICK))
        async with asyncio.timeout(5):
            while not await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0)
        assert not post.done()
        await transaction.rollback()
    await blocker.close()

    assert post.result() == 200
    assert len(await suppressed(db)) == 1


# -- many ---------------------------------------------------------------------------------------------------------------------------


async def test_a_thousand_at_once_are_all_stored(site, message, db):
    rows = await db.fetch(
        "INSERT INTO rotord.outbox (client, recipient, subject, body_text) "
        "SELECT 'acme', 'r' || i || '@example.org', 's', 'b' FROM generate_series(1, 1000) AS i RETURNING id"
    )
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client, asyncio.TaskGroup() as group:
        crowd = Site(site.port, client, site.counters)
        posts = [group.create_task(status_of_post(crowd, site.link(row["id"]), data=ONE_CLICK)) for row in rows]

    assert [post.result() for post in posts] == [200] * 1000
    assert await db.fetchval("SELECT count(DISTINCT recipient) FROM rotord.suppressions") == 1000
