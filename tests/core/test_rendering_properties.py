"""What rendering writes, the standard library's parser reads back: for every message that the outbox may hold."""

from __future__ import annotations

import re
from email import policy
from email.header import decode_header, make_header
from email.parser import BytesParser
from email.utils import parseaddr
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rotord.core.mime import LINE_MAX
from rotord.core.model import Attachment, Kind, Message, Sender
from rotord.core.rendering import RenderError, Stamp, message_id, render

if TYPE_CHECKING:
    from email.message import Message as Parsed

ONE_LINE = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
#: Every kind of value that once broke a mail program, beside any text at all.
LINE = st.one_of(
    st.text(ONE_LINE, max_size=100),
    st.lists(st.sampled_from(["word", "Grüße", "=?utf-8?q?x?=", "😀", "  ", '"', "\\", "a" * 90, "ÄÖ" * 30, "<a@b>", ","])).map(" ".join),
)
BODY = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    st.lists(
        st.sampled_from(
            ["plain", ".", "..", "From me", "From ä", "--=_rotord.2a.a", "--", "", " ", "\t", "a" * 75 + " ", "ü" * 80, "x" * 1200, "=20"]
        ),
    ).map("\n".join),
)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
LABEL = st.sampled_from(["a", "x1", "acme-mail", "b" * 63]) | st.text(LETTERS, min_size=1, max_size=9)
DOMAIN = st.lists(LABEL, min_size=1, max_size=3).map(".".join)
LOCAL = st.sampled_from(["jane.doe", "o'hara", "a+b=c", "x" * 64, "!#$%&*/?^_`{|}~-"]) | st.text(LETTERS, min_size=1, max_size=9)
ADDRESS = st.builds("{}@{}".format, LOCAL, DOMAIN).filter(lambda address: len(address) <= 254)  # RFC 5321 4.5.3.1.3
REFERENCE = st.builds("<{}@{}>".format, LOCAL, DOMAIN)
HEADER_NAME = st.sampled_from(["X-Campaign", "Precedence", "Feedback-ID", "X-" + "a" * 48, "X-" + "a" * 49, "X" * 76]) | st.text(
    LETTERS, min_size=1, max_size=9
).map("X-{}".format)
HEADERS = st.dictionaries(HEADER_NAME, LINE.filter(lambda value: "=?" not in value), max_size=2)
ATTACHMENT = st.builds(
    Attachment,
    filename=LINE.filter(lambda name: 0 < len(name) <= 255),
    content_type=st.sampled_from(["application/pdf", "text/csv; charset=utf-8", "image/svg+xml", "application/vnd.ms-excel"]),
    content=st.binary(max_size=100),
)
BODIES = st.tuples(st.none() | BODY, st.none() | BODY).filter(lambda pair: pair != (None, None))


@st.composite
def messages(draw: st.DrawFn) -> Message:
    text, html = draw(BODIES)
    number = draw(st.integers(1, 2**63 - 1))
    return Message(
        id=number,
        client="acme",
        recipient=draw(ADDRESS),
        subject=draw(LINE),
        message_id=message_id(number, draw(DOMAIN)),
        recipient_name=draw(LINE),
        body_text=text,
        body_html=html,
        kind=draw(st.sampled_from(Kind)),
        reply_to=draw(st.just("") | ADDRESS),
        headers=draw(HEADERS),
        attachments=tuple(draw(st.lists(ATTACHMENT, max_size=2))),
        in_reply_to=draw(st.just("") | REFERENCE),
        references=tuple(draw(st.lists(REFERENCE, max_size=4, unique=True))),
    )


#: No deadline: the machine that tests is shared. Drawing a whole message is slow, rendering it is not.
PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SENDERS = st.builds(Sender, ADDRESS, LINE)


def parse(wire: bytes) -> Parsed:
    return BytesParser(policy=policy.compat32).parsebytes(wire)


def decoded(raw: str) -> str:
    return str(make_header(decode_header(raw.replace("\r\n", ""))))


def mailbox(raw: str) -> tuple[str, str]:
    name, address = parseaddr(raw.replace("\r\n", ""))
    return decoded(name), address


def normalised(body: str) -> str:
    return body.replace("\r\n", "\n").replace("\r", "\n")


def content(part: Parsed) -> str:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode().replace("\r\n", "\n")


def leaves(parsed: Parsed) -> list[Parsed]:
    return [part for part in parsed.walk() if not part.is_multipart()]


@PATIENT
@given(messages(), SENDERS)
def test_the_standard_parser_reads_back_every_header(message: Message, sender: Sender) -> None:
    parsed = parse(render(message, sender, Stamp(42, 1_795_000_000.5)))

    assert parsed.defects == []
    assert decoded(parsed["Subject"]) == message.subject
    assert mailbox(parsed["From"]) == (shown(sender.display_name), sender.email)
    assert mailbox(parsed["To"]) == (shown(message.recipient_name), message.recipient)
    assert parsed["Reply-To"] == (message.reply_to or None)
    assert parsed["Message-ID"] == message.message_id
    assert parsed["In-Reply-To"] == (message.in_reply_to or None)
    assert parsed["X-Rotord-Attempt"] == "42"
    for name, value in message.headers.items():
        assert decoded(parsed[name]) == value


def shown(name: str) -> str:
    return name if name.strip(" ") else ""


@PATIENT
@given(messages(), SENDERS)
def test_the_modern_parser_reads_the_same_subject_and_addresses(message: Message, sender: Sender) -> None:
    parsed = BytesParser(policy=policy.default).parsebytes(render(message, sender, Stamp(42, 0)))

    assert parsed["Subject"] == message.subject
    assert [address.addr_spec for address in parsed["From"].addresses] == [sender.email]
    assert [address.addr_spec for address in parsed["To"].addresses] == [message.recipient]


@PATIENT
@given(messages())
def test_the_standard_parser_reads_back_every_body_and_file(message: Message) -> None:
    parsed = parse(render(message, Sender("a@b.example"), Stamp(42, 0)))

    given_bodies = [body for body in (message.body_text, message.body_html) if body is not None]
    parts = leaves(parsed)
    bodies, files = parts[: len(given_bodies)], parts[len(given_bodies) :]
    if parsed.is_multipart():
        assert [content(part) for part in bodies] == [normalised(body) for body in given_bodies]
    else:
        # The end of the message is the end of a line: SMTP has no other.
        assert content(parsed).removesuffix("\n") == normalised(given_bodies[0]).removesuffix("\n")
    # get_filename() strips blanks at either end, whatever stands there.
    assert [(part.get_filename(), part.get_payload(decode=True)) for part in files] == [
        (file.filename.strip(), file.content) for file in message.attachments
    ]
    assert [part.get_content_type() for part in files] == [file.content_type.partition(";")[0] for file in message.attachments]
    assert not any(part.defects for part in parsed.walk())


@PATIENT
@given(messages(), SENDERS)
def test_the_wire_holds_short_lines_and_only_the_headers_that_were_meant(message: Message, sender: Sender) -> None:
    wire, again = (render(message, sender, Stamp(42, 0, "https://rotor.example/u/t0ken")) for _ in range(2))

    assert wire == again
    assert wire.isascii()
    assert b"\0" not in wire
    assert re.search(rb"\r(?!\n)|(?<!\r)\n", wire) is None
    assert max(map(len, wire.split(b"\r\n"))) <= LINE_MAX
    head = wire.partition(b"\r\n\r\n")[0].decode("ascii")
    names = [line.partition(":")[0] for line in head.split("\r\n") if line[0] != " "]
    optional = {
        "Reply-To": message.reply_to,
        "In-Reply-To": message.in_reply_to,
        "References": message.in_reply_to or message.references,
        "List-Unsubscribe": message.kind is Kind.BULK,
        "List-Unsubscribe-Post": message.kind is Kind.BULK,
        "Content-Transfer-Encoding": not parse(wire).is_multipart(),
    }
    expected = ["Date", "From", "To", "Subject", "Message-ID", "X-Rotord-Attempt", "MIME-Version", "Content-Type"]
    expected += [name for name, present in optional.items() if present]
    assert sorted(names) == sorted([*expected, *message.headers])
    assert not any(line.strip() == "" for line in head.split("\r\n"))


@PATIENT
@given(messages())
def test_quoted_printable_lines_fit_76_columns(message: Message) -> None:
    for part in leaves(parse(render(message, Sender("a@b.example"), Stamp(42, 0)))):
        if part["Content-Transfer-Encoding"] != "7bit":
            payload = part.get_payload()
            assert isinstance(payload, str)
            assert max(map(len, payload.split("\r\n"))) <= 76


@PATIENT
@given(
    field=st.sampled_from(["subject", "recipient", "recipient_name", "reply_to", "message_id", "in_reply_to"]),
    before=st.text(max_size=5),
    stray=st.sampled_from("\r\n\0\x0b\x1b\x7f\x85\x9f\u2028\u2029\ud800\udfff"),
    after=st.text(max_size=5),
)
def test_a_control_character_in_any_header_value_is_refused(field: str, before: str, stray: str, after: str) -> None:
    values = {"id": 1, "client": "acme", "recipient": "a@b.example", "subject": "s", "message_id": "<1@b.example>", "body_text": ""}

    with pytest.raises(RenderError):
        render(Message(**{**values, field: before + stray + after}), Sender("a@b.example"), Stamp(1, 0))
