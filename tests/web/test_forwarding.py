"""A person's reply is passed on once, to whom its address, domain or client says; nothing that could go round is passed on."""

import json
from base64 import b64decode
from uuid import uuid4

import pytest
from outbox_rows import add_fleet, begin, insert

from rotord.core import received
from rotord.core.forwarding import ORIGINAL_BYTES, forward
from rotord.core.incoming import Automatic, recognise
from rotord.core.model import Message, Sender
from rotord.core.records import Term
from rotord.core.rendering import Stamp, attachments, headers, message_id, render
from rotord.db import forwards, posts
from rotord.db.event_store import PostgresEvents
from rotord.db.posts import NewPost
from rotord.engine.ingester import Ingester
from rotord.posting import parsers
from tests.web.site import KEY

INBOX = "Inbox@acme.example"
FORWARDED = "SELECT * FROM rotord.outbox WHERE campaign = 'forwarded replies' ORDER BY id"


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)
    await db.execute("UPDATE rotord.clients SET forward_replies_to = $1 WHERE slug = 'acme'", INBOX)


async def sent(db, **columns):
    message = await insert(db, **columns)
    await begin(db, message)
    return message


def reply(to, sender="Jane Doe <jane@example.org>", text="Yes, call me.", identity="<r1@example.org>", extra=""):
    return (
        f"Message-ID: {identity}\nFrom: {sender}\nTo: a@acme.example\nSubject: Re: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n"
        f"Date: Mon, 2 Nov 2026 09:00:05 +0000\nIn-Reply-To: {message_id(to, 'acme.example')}\n{extra}\n{text}\n"
    ).encode()


async def arrive(db, *mails):
    await posts.store(db, [NewPost("relay", "inbound", uuid4().hex, uuid4().bytes, "message/rfc822", mail) for mail in mails])
    return await fold(db)


async def fold(db):
    holder = uuid4()
    await db.execute(
        "INSERT INTO rotord.lease (name, holder, epoch, elected_at, expires_at) VALUES ('main', $1, 1, now(), now() + interval '1 hour')"
        " ON CONFLICT (name) DO UPDATE SET holder = $1, epoch = 1, expires_at = now() + interval '1 hour'",
        holder,
    )
    ingester = Ingester(PostgresEvents(db), parsers({"relay": "smtp"}, KEY))
    while await ingester.fold_some(Term(holder, 1, 0.0, 0)):
        pass
    return await db.fetch(FORWARDED)


async def test_a_reply_becomes_a_message_to_whoever_answers_for_the_client(db):
    message = await sent(db, stream="main", campaign="spring")
    [row] = await arrive(db, reply(message))

    assert (row["client"], row["stream"], row["kind"], row["recipient"]) == ("acme", "main", "transactional", INBOX)
    assert (row["reply_to"], row["subject"]) == ("jane@example.org", "Re: Grüße")
    assert row["body_text"] == (
        "From: Jane Doe <jane@example.org>\nTo: a@acme.example\nDate: Mon, 2 Nov 2026 09:00:05 +0000\n"
        "The whole mail is attached.\n\nYes, call me."
    )
    [file] = json.loads(row["attachments"])
    assert b64decode(file["content_base64"]) == reply(message)
    assert json.loads(row["metadata"]) == {"reply_to_message": message}
    assert await db.fetchval("SELECT state FROM rotord.queue WHERE id = $1", row["id"]) == "queued"


async def test_it_is_rendered_and_is_no_reply_itself_when_it_comes_back(db):
    [row] = await arrive(db, reply(await sent(db)))
    own_id = message_id(row["id"], "acme.example")
    message = Message(
        row["id"],
        "acme",
        row["recipient"],
        row["subject"],
        own_id,
        body_text=row["body_text"],
        kind=row["kind"],
        reply_to=row["reply_to"],
        headers=headers(json.loads(row["headers"])),
        attachments=attachments(json.loads(row["attachments"])),
    )
    wire = render(message, Sender("a@acme.example", ""), Stamp(1, 0))

    mail = received.read(wire)
    assert (mail.header("auto-submitted"), mail.header("x-loop")) == ("auto-forwarded", "rotord")
    assert recognise(mail, wire) is Automatic.AUTO_REPLY
    unmarked = wire.replace(b"Auto-Submitted: auto-forwarded\r\n", b"")
    assert recognise(received.read(unmarked), unmarked) is Automatic.AUTO_REPLY


async def test_the_address_goes_before_its_domain_and_that_before_the_client(db):
    message = await sent(db)
    await db.execute("UPDATE rotord.domains SET forward_replies_to = 'team@acme.example' WHERE name = 'acme.example'")
    assert [row["recipient"] for row in await arrive(db, reply(message))] == ["team@acme.example"]

    await db.execute("UPDATE rotord.addresses SET forward_replies_to = 'ada@acme.example' WHERE email = 'a@acme.example'")
    rows = await arrive(db, reply(message, identity="<r2@example.org>"))
    assert [row["recipient"] for row in rows] == ["team@acme.example", "ada@acme.example"]


async def test_a_reply_to_what_has_no_attempts_any_more_goes_where_its_address_says(db):
    message, never_sent = await sent(db), await insert(db)
    await db.execute("INSERT INTO rotord.message_state (id, client, status, sender) VALUES ($1, 'acme', 'sent', 'a@acme.example')", message)
    await db.execute("DELETE FROM rotord.attempts")
    await db.execute("UPDATE rotord.addresses SET forward_replies_to = 'ada@acme.example' WHERE email = 'a@acme.example'")

    [row] = await arrive(db, reply(message), reply(never_sent, identity="<r2@example.org>"))
    assert (row["recipient"], row["body_text"].split("\n")[1]) == ("ada@acme.example", "To: a@acme.example")

    await db.execute("DELETE FROM rotord.addresses WHERE email = 'a@acme.example'")
    rows = await arrive(db, reply(message, identity="<r3@example.org>"))
    assert rows[-1]["recipient"] == INBOX


async def test_once_whatever_is_told_twice_or_folded_again(db):
    message = await sent(db)
    assert len(await arrive(db, reply(message), reply(message))) == 1
    await posts.replay(db, None)
    assert len(await fold(db)) == 1

    await db.execute("DELETE FROM rotord.events")  # as if the folder had been killed between the message and the event
    await posts.replay(db, None)
    assert len(await fold(db)) == 1
    assert await db.fetchval("SELECT count(*) FROM rotord.events") == 1


async def test_a_replay_passes_nothing_on_that_nobody_wanted_then(db):
    await db.execute("UPDATE rotord.clients SET forward_replies_to = NULL")
    assert await arrive(db, reply(await sent(db))) == []
    await db.execute("UPDATE rotord.clients SET forward_replies_to = $1", INBOX)
    await posts.replay(db, None)

    assert await fold(db) == []


async def test_what_could_go_round_is_not_passed_on(db):
    message = await sent(db)
    bounce = b"From: MAILER-DAEMON@mx.example\nSubject: Undelivered\n\nSorry.\n"
    automatic = reply(message, identity="<r2@example.org>", extra="Auto-Submitted: auto-replied\n")
    from_there = reply(message, sender="inbox@ACME.example", identity="<r3@example.org>")
    assert await arrive(db, bounce, automatic, from_there) == []

    [passed_on] = await arrive(db, reply(message))
    await begin(db, passed_on["id"])
    again = reply(passed_on["id"], sender="ticket@desk.example", identity="<r4@desk.example>")
    assert len(await arrive(db, again)) == 1


async def test_a_program_that_answers_without_end_is_stopped(db):
    message, other = await sent(db), await sent(db)
    mails = [reply(message, identity=f"<r{number}@example.org>") for number in range(forwards.OF_A_MESSAGE + 5)]
    assert len(await arrive(db, *mails)) == forwards.OF_A_MESSAGE
    many = (
        "INSERT INTO rotord.outbox (client, recipient, subject, body_text, campaign) "
        "SELECT 'acme', 'x@example.org', 's', 'b', $2 FROM generate_series(1, $1::int)"
    )
    await db.execute(many, forwards.AN_HOUR, "autumn")
    assert len(await arrive(db, reply(other, identity="<other@example.org>"))) == forwards.OF_A_MESSAGE + 1

    await db.execute(many, forwards.AN_HOUR, "forwarded replies")
    rows = await arrive(db, reply(other, identity="<last@example.org>"))
    assert len(rows) == forwards.OF_A_MESSAGE + 1 + forwards.AN_HOUR
    assert await db.fetchval("SELECT count(*) FROM rotord.events WHERE kind = 'replied'") == len(mails) + 2


async def test_another_clients_word_on_a_domain_that_moved_is_not_asked(db):
    message = await sent(db)
    await db.execute("UPDATE rotord.domains SET client = 'other', forward_replies_to = 'o@other.example' WHERE name = 'acme.example'")
    await db.execute("UPDATE rotord.addresses SET forward_replies_to = 'o@other.example' WHERE email = 'a@acme.example'")

    assert [row["recipient"] for row in await arrive(db, reply(message))] == [INBOX]


async def test_what_no_row_may_hold_is_left_out_and_the_event_kept(db):
    message = await sent(db)
    await arrive(db, reply(message, sender="jörg@example.org", text="a\0b\x1b[31m", identity="<r2@example.org>"))
    odd = b"Subject: =?=?utf-8?q?x?=\n" + reply(message, identity="<r3@example.org>").replace(b"Subject: Re", b"X-Old: Re")
    rows = await arrive(db, odd)

    assert [row["reply_to"] for row in rows] == [None, "jane@example.org"]
    assert rows[0]["body_text"].endswith("\n\na b [31m")
    assert await db.fetchval("SELECT count(*) FROM rotord.events WHERE kind = 'replied'") == 2


def test_a_mail_that_is_too_large_is_not_attached_and_its_text_is_bounded():
    raw = b"From: x@example.org\n\n" + b"word " * (ORIGINAL_BYTES // 5)
    found = forward(raw, "x@example.org", "a@acme.example")

    assert found.original == ""
    assert "too large to be attached" in found.body
    assert len(found.body) < 300_000


def multipart(*parts):
    inner = "".join(f"--b\nContent-Type: {part}\n" for part in parts)
    return f"Content-Type: multipart/mixed; boundary=b\n\n{inner}--b--\n"


@pytest.mark.parametrize(
    ("mail", "text"),
    [
        ("Content-Type: text/html\n\n<style>p{}</style><p>Yes</p><p>please &amp; soon</p>", "Yes\n\nplease & soon"),
        (
            multipart(
                "message/rfc822\n\nSubject: x\n\ninner", "text/plain\nContent-Disposition: attachment\n\nfile", "text/html\n\n<b>outer</b>"
            ),
            "outer",
        ),
        (
            multipart("text/html\n\n<b>rich</b>", "text/plain\n\nplain"),
            "plain",
        ),
        ("Content-Type: image/png\n\nx", "(no text)"),
        ("Content-Type: text/plain\n\n \n", "(no text)"),
    ],
)
def test_the_text_is_what_the_person_wrote(mail, text):
    found = forward(mail.encode(), "x@example.org", "a@acme.example")

    assert found.body.partition("\n\n")[2] == text
    assert found.subject == "(no subject)"
