"""Forgetting a person: no word of them is left anywhere in the database, and nothing that comes later brings them back."""

import hashlib
import hmac
import json
import subprocess
from uuid import uuid4

import pytest
from outbox_rows import add_fleet, begin, fail, insert, make_uncertain, queue_row, status

from rotord.core.events import Event, EventKind, Reason, natural_key
from rotord.core.records import Begin, Term, Verdict
from rotord.db import events, forget, forwards, keys, posts, queue, suppressions
from rotord.db.events import Folded, Told
from rotord.db.posts import NewPost
from rotord.db.suppressions import Suppression
from rotord.embedded import binaries

ANN = "Ann.Secret@Example.org"
# What must be gone, as any of these columns held it.
WORDS = ("ann.secret@example.org", "ann.secret%40example.org", "Annabel", "Topic-of-ann", "Body-of-ann", "File-of-ann", "Header-of-ann",
         "Meta-of-ann", "Subject-of-her-reply", "boss-of-ann")  # fmt: skip
AT = 1_790_000_000.0


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)


@pytest.fixture
async def term(db):
    holder = uuid4()
    await db.execute(
        "INSERT INTO rotord.lease (name, holder, epoch, elected_at, expires_at) VALUES ('main', $1, 1, now(), now() + interval '1 hour')",
        holder,
    )
    return Term(holder, 1, 0.0, 0)


async def to_ann(db, **columns):
    everything = {
        "recipient": ANN,
        "recipient_name": "Annabel Secret",
        "subject": "Topic-of-ann",
        "body_text": "Body-of-ann",
        "body_html": "<p>Body-of-ann</p>",
        "reply_to": "boss-of-ann@acme.example",
        "headers": json.dumps({"X-Thing": "Header-of-ann"}),
        "attachments": json.dumps([{"filename": "File-of-ann.txt", "content_type": "text/plain", "content_base64": "QQ=="}]),
        "metadata": json.dumps({"who": "Meta-of-ann"}),
    }
    return await insert(db, **everything | columns)


async def passed_on(db, to, key):
    """A reply of hers, as db.forwards makes a message of it."""
    words = {"subject": "Re: Subject-of-her-reply", "body_text": f"Body-of-ann {ANN}", "reply_to": ANN, "campaign": forwards.CAMPAIGN}
    return await insert(db, recipient="staff@acme.example", idempotency_key=f"{forwards.KEY}{to} {key}", **words)


async def post(db, body, route="webhooks", provider="relay"):
    token = uuid4().hex
    await posts.store(db, [NewPost(provider, route, token, b"d", "application/json", body)])
    return await db.fetchval("SELECT id FROM rotord.provider_posts WHERE token = $1", token)


async def fold(db, term, raw, *told, claimed=None):
    count = await events.fold(db, term, [Told(raw, "relay", one, claimed) for one in told], [Folded(raw)])
    await events.apply(db, term)
    return count


def bounced(attempt, **fields):
    fields = {"recipient": ANN.lower(), "reason": f"550 no {ANN}", "suppresses": Reason.HARD_BOUNCE, **fields}
    return Event(EventKind.BOUNCED, AT, key=natural_key(attempt, fields["recipient"]), attempt_id=attempt, **fields)


def dump(url):
    """Every row of every table, as a backup has them."""
    everything = [binaries().tool("pg_dump"), "--data-only", "--inserts", f"--dbname={url}"]
    return subprocess.run(everything, check=True, capture_output=True, text=True, timeout=30).stdout


async def rows(db):
    """Every row of every table, by table; bytes are read as text."""
    tables = await db.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'rotord'::regnamespace AND relkind IN ('r', 'p') ORDER BY relname"
    )
    found = {table: [row[0] for row in await db.fetch(f"SELECT t::text FROM rotord.{table} AS t")] for (table,) in tables}
    found["bodies"] = [bytes(row[0]).decode() for row in await db.fetch("SELECT body FROM rotord.provider_posts")]
    return found


async def found(db, *more):
    """The words of hers that are left anywhere, in the planner's samples of it, too."""
    samples = await db.fetchval("SELECT string_agg(s::text, ' ') FROM pg_stats AS s WHERE schemaname = 'rotord'")
    text = " ".join([str(await rows(db)), samples or "", *more]).lower()
    return [word for word in WORDS if word.lower() in text]


async def a_life(db, term):
    """Messages to her in every state, what was told of them, and what came from her; gives them by name."""
    sent, failed, on_wire, uncertain, queued, head = [await to_ann(db) for _ in range(6)]
    threaded = await to_ann(db, thread_key=f"thread-{ANN}", idempotency_key=f"welcome {ANN}", client="other")
    waiting = await to_ann(db, thread_key="t", idempotency_key="plain")
    behind = await insert(db, thread_key="t")
    attempt = await begin(db, sent)
    await db.execute("UPDATE rotord.attempts SET outcome = 'accepted', reply = $2 WHERE id = $1", attempt, f"250 {ANN} ok")
    await db.execute("DELETE FROM rotord.queue WHERE id = $1", sent)
    await db.execute("INSERT INTO rotord.message_state (id, client, status, attempts) VALUES ($1, 'acme', 'sent', 1)", sent)
    await fail(db, failed)
    await db.execute("UPDATE rotord.message_state SET last_error = $2 WHERE id = $1", failed, f"550 no {ANN} here")
    await begin(db, on_wire)
    await make_uncertain(db, uncertain)
    await db.execute("UPDATE rotord.queue SET last_error = $2 WHERE id = $1", uncertain, f"cut after {ANN}")
    await db.execute("INSERT INTO rotord.threads VALUES ('other', $1, 'o@other.example', '<x>')", f"thread-{ANN}")
    await suppressions.add(db, [Suppression(ANN, "acme", "unsubscribe", f"said {ANN}"), Suppression("else@example.org")])
    await fold(db, term, await post(db, f'{{"to": "{ANN}"}}'.encode()), bounced(attempt))
    reply = Event(EventKind.REPLIED, AT, ANN.lower(), natural_key("reply"), "Subject-of-her-reply")
    await fold(
        db, term, await post(db, f"from={ANN.replace('@', '%40')}&text=Subject-of-her-reply".encode(), "inbound"), reply, claimed=sent
    )
    await passed_on(db, sent, "hers")
    await passed_on(db, behind, "of another message")
    nobodys = Event(EventKind.OPENED, AT + 1, ANN.lower(), natural_key("nobody"))
    await fold(db, term, await post(db, ANN.encode()), nobodys)
    await fold(db, term, await post(db, f"Automatic answer of {ANN}".encode(), "inbound"))
    await db.execute("ANALYZE")
    return {"sent": sent, "failed": failed, "on_wire": on_wire, "uncertain": uncertain, "queued": queued, "head": head,
            "threaded": threaded, "waiting": waiting, "behind": behind}  # fmt: skip


async def test_no_word_of_a_forgotten_person_is_left_anywhere(db, database_url, term):
    await a_life(db, term)
    assert await found(db) == list(WORDS)
    backup = dump(database_url)
    assert [word for word in WORDS if word.lower() in backup.lower()] == [word for word in WORDS if "%" not in word]

    done = await forget.forget(db, ANN.upper())

    assert await found(db, dump(database_url)) == []
    assert (done.messages, done.ended, done.replies, done.events, done.posts, done.suppressions, done.left) == (8, 4, 2, 3, 4, 2, 2)


async def test_what_is_no_word_of_theirs_stays(db, term):
    life = await a_life(db, term)
    await insert(db, recipient="bob@example.org", subject="For Bob", idempotency_key="bob")
    before = await db.fetch("SELECT kind, occurred_at, provider, key, outbox_id FROM rotord.events ORDER BY id")
    told = {name: await status(db, message) for name, message in life.items()}

    await forget.forget(db, ANN)

    assert await db.fetch("SELECT kind, occurred_at, provider, key, outbox_id FROM rotord.events ORDER BY id") == before
    now = {name: await status(db, message) for name, message in life.items()}
    ended = dict.fromkeys(("queued", "head", "threaded", "waiting"), "suppressed")
    assert now == told | ended
    assert (await queue_row(db, life["behind"]))["state"] == "queued"  # nobody stands before it any more
    assert await db.fetchval("SELECT count(*) FROM rotord.outbox WHERE subject IN ('For Bob', 's') AND body_text = 'b'") == 2
    assert await db.fetchval("SELECT count(*) FROM rotord.suppressions WHERE recipient = 'else@example.org'") == 1
    assert {
        row[0] for row in await db.fetch("SELECT idempotency_key FROM rotord.outbox WHERE idempotency_key !~ '^(forgotten:|rotord reply )'")
    } == {
        "plain",
        "bob",
    }


async def test_the_name_is_the_hmac_of_the_address_in_lower_case(db):
    pads = await keys.forget_key(db)
    key = bytes(byte ^ 0x36 for byte in pads[:64])
    assert await keys.forget_key(db) == pads

    for address in (ANN, "jos\u00e9@example.org"):
        name = hmac.new(key, address.lower().encode(), hashlib.sha256).hexdigest() + "@forgotten.invalid"
        assert await db.fetchval("SELECT rotord.forgotten_name($1, $2)", address, pads) == name


@pytest.mark.parametrize("kind", ["bulk", "transactional"])
async def test_nothing_that_is_inserted_later_begins(db, term, kind):
    await forget.forget(db, ANN)
    to_her = [await to_ann(db, kind=kind, client=client) for client in ("acme", "other")]
    to_bob = await insert(db, recipient="bob@example.org", kind=kind)

    begins = [
        Begin(message, n, "a@acme.example", "acme.example", client, "relay", 60.0, "<m@x>", AT)
        for n, (message, client) in enumerate([(to_her[0], "acme"), (to_her[1], "other"), (to_bob, "acme")])
    ]
    assert await queue.begin(db, term, begins) == {
        to_her[0]: Verdict.SUPPRESSED,
        to_her[1]: Verdict.SUPPRESSED,
        to_bob: Verdict.SENDING,
    }
    assert await forget.erase_noted(db, 0, age_s=0.0) == 0
    assert await found(db) == []
    assert await db.fetchval("SELECT count(*) FROM rotord.erasures") == 0


async def test_what_waits_in_the_queue_is_ended_by_the_leader_though_it_never_begins(db):
    await forget.forget(db, ANN)
    message = await to_ann(db, send_after=await db.fetchval("SELECT now() + interval '1 year'"))

    await forget.erase_noted(db, 0)
    assert await status(db, message) == "queued"  # noted just now
    await forget.erase_noted(db, 0, age_s=0.0)

    assert await status(db, message) == "suppressed"


async def test_what_comes_back_from_the_wire_is_erased_when_it_is_settled(db, term):
    message = await to_ann(db)
    attempt = await begin(db, message)
    assert (await forget.forget(db, ANN)).left == 1
    await forget.erase_noted(db, 0, age_s=0.0)
    assert await status(db, message) == "sending"

    await db.execute("UPDATE rotord.attempts SET outcome = 'rejected', reply = $2 WHERE id = $1", attempt, f"550 no {ANN}")
    await db.execute("DELETE FROM rotord.queue WHERE id = $1", message)
    await db.execute(
        "INSERT INTO rotord.message_state (id, client, status, last_error) VALUES ($1, 'acme', 'failed', $2)", message, f"550 no {ANN}"
    )
    await forget.erase_noted(db, 0, age_s=0.0)

    assert await found(db) == []
    assert await db.fetchval("SELECT count(*) FROM rotord.erasures") == 0


async def test_events_that_come_later_bring_nobody_back(db, term):
    message = await to_ann(db)
    attempt = await begin(db, message)
    await forget.forget(db, ANN)
    raw = await post(db, f"{ANN} and bob@example.org".encode())
    other = Event(EventKind.OPENED, AT, "bob@example.org", natural_key("bob"), "a reason")
    nobodys = Event(EventKind.COMPLAINED, AT, ANN.lower(), natural_key("x"), f"said {ANN}", suppresses=Reason.COMPLAINT)

    assert await fold(db, term, raw, bounced(attempt), nobodys, other) == 3
    await forget.erase_noted(db, 0, age_s=0.0)

    assert await found(db) == []
    assert await db.fetchval("SELECT count(*) FROM rotord.events WHERE recipient = 'bob@example.org' AND reason = 'a reason'") == 1
    assert await db.fetchval("SELECT count(*) FROM rotord.suppressions WHERE recipient !~ '@forgotten.invalid$'") == 0


async def test_what_was_told_of_her_by_somebody_elses_message_is_erased(db, term):
    to_bob = await insert(db, recipient="bob@example.org")
    attempt = await begin(db, to_bob)
    hers = await post(db, f"From: {ANN}".encode(), "inbound")
    reply = Event(EventKind.REPLIED, AT, ANN.lower(), natural_key("reply"), "Subject-of-her-reply")
    away = Event(EventKind.BOUNCED, AT, ANN.lower(), natural_key("away"), "hard: Annabel has left", attempt_id=attempt)
    encoded = Event(EventKind.BOUNCED, AT, ANN.lower(), natural_key("b64"), f"hard: 550 {ANN}", attempt_id=attempt)
    tester = Event(EventKind.BOUNCED, AT, ANN.lower(), natural_key("t"), "rehearsal: Annabel", attempt_id=attempt, rehearsed=True)
    alias = Event(EventKind.BOUNCED, AT, "bob@example.org", natural_key("alias"), f"550 no {ANN}", attempt_id=attempt)
    full = Event(EventKind.DEFERRED, AT, "bob@example.org", natural_key("full"), "452 full", attempt_id=attempt)
    await fold(db, term, hers, reply, claimed=to_bob)
    await fold(db, term, hers, away)
    await fold(db, term, await post(db, b"base64", "inbound"), encoded, tester)
    await fold(db, term, await post(db, f'[{{"to": "{ANN}"}}, "and Bob\'s"]'.encode()), alias, full)

    assert (await forget.forget(db, ANN)).events == 4  # the reply kept no word of hers

    assert await found(db) == []
    assert await db.fetchval("SELECT string_agg(reason, '') FROM rotord.events") == "452 full"
    assert await db.fetchval("SELECT count(*) FROM rotord.events WHERE recipient = 'bob@example.org'") == 5
    assert await db.fetchval("SELECT count(*) FROM rotord.provider_posts WHERE body <> ''") == 0


async def test_what_somebody_else_than_the_recipient_answers_keeps_no_words(db, term):
    message = await insert(db, recipient="Bob@example.org")
    await begin(db, message)
    raw = await post(db, b"the mail", "inbound")
    for sender in ("bob@example.org", ANN.lower()):
        await fold(db, term, raw, Event(EventKind.REPLIED, AT, sender, natural_key(sender), f"Re: by {sender[:3]}"), claimed=message)

    rows = await db.fetch("SELECT recipient, reason FROM rotord.events ORDER BY id")
    assert [tuple(row) for row in rows] == [("Bob@example.org", "Re: by bob"), ("Bob@example.org", "")]


async def test_what_she_writes_later_is_passed_on_and_then_erased(db):
    message = await insert(db)
    await forget.forget(db, ANN)
    reply = await passed_on(db, message, "later")

    await forget.erase_noted(db, 0, age_s=0.0)
    assert await db.fetchval("SELECT reply_to FROM rotord.outbox WHERE id = $1", reply) == ANN
    await db.execute("DELETE FROM rotord.queue WHERE id = $1", reply)
    await forget.erase_noted(db, 0, age_s=0.0)

    assert await found(db) == []
    assert await db.fetchval("SELECT recipient FROM rotord.outbox WHERE id = $1", reply) == "staff@acme.example"


async def test_a_replay_brings_nobody_back(db, term):
    await a_life(db, term)
    raw = await post(db, b"of bob")
    await fold(db, term, raw)

    await forget.forget(db, ANN)

    assert await posts.replay(db, None) == 1
    assert [row["id"] for row in await posts.unfolded(db, 10, 1000)] == [raw]


async def test_a_post_that_is_read_again_meanwhile_is_erased_after_that(db, term):
    raw = await post(db, ANN.encode())
    assert (await forget.forget(db, ANN)).left == 1  # not read yet

    await fold(db, term, raw, bounced(None))
    await forget.erase_noted(db, 0, age_s=0.0)

    assert await found(db) == []


async def test_whoever_suppresses_them_again_writes_the_name_alone(db):
    await forget.forget(db, ANN)

    assert await suppressions.add(db, [Suppression(ANN, "acme", "complaint", "import"), Suppression(ANN)]) == 1

    assert await found(db) == []
    rows = await suppressions.find(db, recipient=ANN, limit=10)
    assert [(row["client"], row["reason"]) for row in rows] == [("acme", "complaint"), (None, "manual")]
    assert await suppressions.count(db, recipient=ANN) == 2


async def test_a_second_time_finds_nothing_new_and_a_lifted_suppression_is_made_again(db, term):
    await a_life(db, term)
    first = await forget.forget(db, ANN)
    before = await rows(db)

    again = await forget.forget(db, ANN)

    assert (again.name, again.messages, again.events, again.posts, again.suppressions) == (first.name, 0, 0, 0, 0)
    after = await rows(db)
    assert [table for table in before if before[table] != after[table]] == ["forgotten"]
    assert await suppressions.remove(db, ANN, None) == 1
    assert await suppressions.find(db, recipient=ANN, limit=10)  # her own word, for acme, stands
    await forget.forget(db, ANN)
    assert len(await suppressions.find(db, recipient=ANN, limit=10)) == 3


async def test_an_app_that_holds_a_row_holds_up_nobody(db, database_url, term):
    import asyncpg  # noqa: PLC0415

    held, free = await to_ann(db), await to_ann(db)
    app = await asyncpg.connect(database_url)
    async with app.transaction():
        await app.execute("SELECT FROM rotord.outbox WHERE id = $1 FOR UPDATE", held)

        done = await forget.forget(db, ANN)

        assert (done.messages, done.left) == (1, 1)
        assert [await status(db, message) for message in (held, free)] == ["suppressed", "suppressed"]
    await app.close()
    await forget.erase_noted(db, 0, age_s=0.0)
    await db.execute(forget.SAMPLE_ANEW)
    assert await found(db) == []


async def test_who_forgot_whom_and_when_is_written_down(db, term):
    await a_life(db, term)

    done = await forget.forget(db, ANN)

    row = await db.fetchrow("SELECT * FROM rotord.forgotten")
    assert (row["name"], row["by"], row["messages"], row["events"]) == (done.name, await db.fetchval("SELECT session_user"), 8, 3)


async def test_a_page_of_a_providers_list_names_nobody_who_was_forgotten_whatever_is_escaped(db):
    await db.execute(
        "INSERT INTO rotord.list_pulls (provider, list, domain, cursor) VALUES ('mg', 'bounces', 'd', 'address=ann%2Bx%40example.org')"
    )

    await forget.forget(db, "ann+x@example.org")

    assert await db.fetchval("SELECT cursor FROM rotord.list_pulls") == ""


async def test_who_may_get_mail_again_gets_it_from_those_whom_she_did_not_refuse(db):
    await suppressions.add(db, [Suppression(ANN, "acme", "unsubscribe", "said so")])
    await forget.forget(db, ANN)
    await suppressions.remove(db, ANN, None)
    message = await to_ann(db, client="other")

    await forget.erase_noted(db, 0, age_s=0.0)

    assert await status(db, message) == "queued"
    assert await db.fetchval("SELECT body_text FROM rotord.outbox WHERE id = $1", message) == "Body-of-ann"
