"""Rendering by example: five messages to the byte, what is refused, what is disarmed, what is decoded from the outbox."""

from __future__ import annotations

import base64
from email import policy
from email.header import decode_header, make_header
from email.parser import BytesParser
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotord.core import mime
from rotord.core.model import Attachment, Kind, Message, Sender
from rotord.core.rendering import (
    ATTACHMENT_BYTES,
    ATTACHMENT_COUNT,
    HEADER_COUNT,
    RenderError,
    Stamp,
    attachments,
    head,
    headers,
    message_id,
    render,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SENDER = Sender("news@acme.example", "Acme GmbH")
AT = 1_795_000_000.9
URL = "https://rotor.example/u/t0ken"


def message(**changes: Any) -> Message:
    row = {
        "id": 7,
        "client": "acme",
        "recipient": "jane@example.com",
        "subject": "Hello",
        "message_id": "<7.x@acme.example>",
        "body_text": "Hi\n",
    }
    return Message(**{**row, **changes})


def rendered(changes: dict[str, Any], sender: Sender = SENDER, **options: Any) -> bytes:
    return render(message(**changes), sender, Stamp(255, AT, **options))


def decoded(value: str) -> str:
    return str(make_header(decode_header(value.replace("\r\n", ""))))


PLAIN = b"""\
Date: Wed, 18 Nov 2026 11:06:40 +0000
From: Acme GmbH <news@acme.example>
To: jane@example.com
Subject: Hello
Message-ID: <7.x@acme.example>
X-Rotord-Attempt: 255
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 7bit

Hi
"""

UMLAUTS = b"""\
Date: Wed, 18 Nov 2026 11:06:40 +0000
From: Acme GmbH <news@acme.example>
To: =?utf-8?q?J=C3=B6rg_Meier?= <jane@example.com>
Subject: =?utf-8?b?R3LDvMOfZQ==?=
Message-ID: <7.x@acme.example>
X-Rotord-Attempt: 255
MIME-Version: 1.0
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<p>Herzliche Gr=C3=BC=C3=9Fe aus der gro=C3=9Fen Stadt am Rhein, und bis ba=
ld in unserem Laden.</p>
"""

BULK = b"""\
Date: Wed, 18 Nov 2026 11:06:40 +0000
From: Acme GmbH <news@acme.example>
To: "Doe, Jane" <jane@example.com>
Reply-To: help@xn--bcher-kva.example
Subject: Hello
Message-ID: <7.x@acme.example>
In-Reply-To: <6.x@acme.example>
References: <5.x@acme.example>
 <6.x@acme.example>
List-Unsubscribe: <https://rotor.example/u/t0ken>,
 <mailto:out@acme.example?subject=7>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
X-Rotord-Attempt: 255
Feedback-ID: spring:acme
MIME-Version: 1.0
Content-Type: multipart/alternative;
 boundary="=_rotord.ff.a"

--=_rotord.ff.a
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 7bit

Hi
--=_rotord.ff.a
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: 7bit

<p>Hi</p>
--=_rotord.ff.a--
"""

FILES = b"""\
Date: Wed, 18 Nov 2026 11:06:40 +0000
From: Acme GmbH <news@acme.example>
To: jane@example.com
Subject: Hello
Message-ID: <7.x@acme.example>
X-Rotord-Attempt: 255
MIME-Version: 1.0
Content-Type: multipart/mixed;
 boundary="=_rotord.ff.m"

--=_rotord.ff.m
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 7bit

Hi

--=_rotord.ff.m
Content-Type: text/csv; charset=utf-8; name="a b.csv"
Content-Disposition: attachment; filename="a b.csv"
Content-Transfer-Encoding: base64

YTti
--=_rotord.ff.m
Content-Type: application/pdf;
 name="=?utf-8?b?TcOkcnoucGRm?="
Content-Disposition: attachment;
 filename*=utf-8''M%C3%A4rz.pdf
Content-Transfer-Encoding: base64

JVBERg==
--=_rotord.ff.m--
"""

REDIRECTED = b"""\
Date: Wed, 18 Nov 2026 11:06:40 +0000
From: Acme GmbH <news@acme.example>
To: rehearsal@acme.example
Subject: [to jane@example.com] Hello
Message-ID: <7.x@acme.example>
X-Rotord-Attempt: 255
X-Rotord-Rehearsal: yes
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 7bit

Hi
"""

GOLDEN = {
    "text": (PLAIN, {"kind": Kind.TRANSACTIONAL}, {"unsubscribe_url": URL}),
    "html beyond ASCII": (
        UMLAUTS,
        {
            "recipient_name": "Jörg Meier",
            "subject": "Grüße",
            "body_text": None,
            "body_html": "<p>Herzliche Grüße aus der großen Stadt am Rhein, und bis bald in unserem Laden.</p>",
        },
        {},
    ),
    "bulk, in a thread": (
        BULK,
        {
            "recipient_name": "Doe, Jane",
            "reply_to": "help@bücher.example",
            "body_text": "Hi",
            "body_html": "<p>Hi</p>",
            "headers": {"Feedback-ID": "spring:acme"},
            "references": ("<5.x@acme.example>",),
            "in_reply_to": "<6.x@acme.example>",
        },
        {"unsubscribe_url": URL, "unsubscribe_mailto": "out@acme.example?subject=7"},
    ),
    "attachments": (
        FILES,
        {"attachments": (Attachment("a b.csv", "text/csv; charset=utf-8", b"a;b"), Attachment("März.pdf", "application/pdf", b"%PDF"))},
        {},
    ),
    "redirected": (REDIRECTED, {"recipient_name": "Jane"}, {"redirect_to": "rehearsal@acme.example"}),
}


@pytest.mark.parametrize("shape", GOLDEN)
def test_five_messages_are_these_bytes(shape: str) -> None:
    golden, changes, options = GOLDEN[shape]

    assert rendered(changes, **options) == golden.replace(b"\n", b"\r\n")


REFUSED = {
    "subject with CRLF": {"subject": "Hi\r\nBcc: x@y.example"},
    "subject with a bare CR": {"subject": "Hi\rBcc: x@y.example"},
    "subject with NUL": {"subject": "Hi\0"},
    "subject with a tab": {"subject": "Hi\tthere"},
    "subject with U+2028": {"subject": "Hi\u2028Bcc: x@y.example"},
    "subject with NEL": {"subject": "Hi\x85Bcc: x@y.example"},
    "subject with half a surrogate pair": {"subject": "Hi \ud83d"},
    "body with half a surrogate pair": {"body_text": "Hi \ude00"},
    "html with half a surrogate pair": {"body_html": "\ud83d"},
    "name with CRLF": {"recipient_name": "Jane\r\nBcc: x@y.example"},
    "two recipients": {"recipient": "a@b.example, c@d.example"},
    "recipient with a name": {"recipient": "Jane <a@b.example>"},
    "recipient with CRLF": {"recipient": "a@b.example\r\nRCPT TO:<x@y.example>"},
    "recipient that ends in LF": {"recipient": "a@b.example\n"},
    "recipient with a comment": {"recipient": "a(x)@b.example"},
    "recipient that looks encoded": {"recipient": "=?utf-8?q?x?=@b.example"},
    "recipient without a domain": {"recipient": "jane"},
    "recipient with two at signs": {"recipient": "a@b@c.example"},
    "recipient with an address literal": {"recipient": "a@[127.0.0.1]"},
    "recipient with an empty label": {"recipient": "a@b..example"},
    "recipient with a label of 64": {"recipient": f"a@{'b' * 64}.example"},
    "recipient with a local part of 65": {"recipient": f"{'a' * 65}@b.example"},
    "recipient of 255": {"recipient": f"a@{'b.' * 125}cde"},
    "recipient beyond ASCII before the at sign": {"recipient": "jörg@b.example"},
    "recipient in a domain of no such letters": {"recipient": "a@☃\u2028.example"},
    "recipient in a long international domain": {"recipient": f"a@{'ü.' * 100}example"},
    "reply-to with two addresses": {"reply_to": "a@b.example,c@d.example"},
    "message id without brackets": {"message_id": "7@acme.example"},
    "message id with CRLF": {"message_id": "<7@acme.example>\r\nBcc: x@y.example"},
    "reference that looks encoded": {"references": ("<=?utf-8?q?x?=@b.example>",)},
    "parent with a space": {"in_reply_to": "<7 8@acme.example>"},
    "header name with CRLF": {"headers": {"X-A: b\r\nBcc": "x@y.example"}},
    "header name with a colon": {"headers": {"X-A:": "b"}},
    "header name that ends in LF": {"headers": {"X-A\n": "b"}},
    "header name of 77": {"headers": {"X" * 77: "b"}},
    "header with LF": {"headers": {"X-A": "b\nBcc: x@y.example"}},
    "header that looks encoded": {"headers": {"X-A": "=?utf-8?q?a=0D=0ABcc:x@y?="}},
    "header of ours": {"headers": {"bcc": "x@y.example"}},
    "header of MIME": {"headers": {"Content-Type": "text/x"}},
    "header that commands a provider": {"headers": {"X-SMTPAPI": '{"to": ["x@y.example"]}'}},
    "header of a kind that is no text": {"headers": {"X-A": 1}},
    "header twice": {"headers": {"X-A": "1", "x-a": "2"}},
    "no body": {"body_text": None},
    "headers of 70 kB": {"headers": {"X-A": "word " * 14_000 + "."}},
    "message of 26 MB": {"body_text": "a" * 99 + "\n", "body_html": ("a" * 99 + "\n") * 260_000},
    "file without a name": {"attachments": (Attachment("", "text/plain", b""),)},
    "file name of 256": {"attachments": (Attachment("a" * 256, "text/plain", b""),)},
    "file name with CRLF": {"attachments": (Attachment('a"\r\nX: y', "text/plain", b""),)},
    "file of type multipart": {"attachments": (Attachment("a", "multipart/mixed", b""),)},
    "file of type message": {"attachments": (Attachment("a", "Message/RFC822", b""),)},
    "file with its own name parameter": {"attachments": (Attachment("a", "text/plain; name=b", b""),)},
    "file type with CRLF": {"attachments": (Attachment("a", "text/plain\r\nX: y", b""),)},
    "file type with a Kelvin sign": {"attachments": (Attachment("a", "application/\u212ael", b""),)},
}


@pytest.mark.parametrize("shape", GOLDEN)
def test_without_its_body_a_message_has_the_same_headers_but_those_of_the_body(shape: str) -> None:
    _, changes, options = GOLDEN[shape]
    whole = rendered(changes, **options).partition(b"\r\nMIME-Version: 1.0")[0]

    top = head(message(**changes), SENDER, Stamp(255, AT, **options))
    assert "\r\n".join(header.line for header in top).encode() == whole


@pytest.mark.parametrize("written", [render, head])
@pytest.mark.parametrize("case", REFUSED)
def test_a_hostile_row_is_refused_in_one_sentence(case: str, written: Callable[[Message, Sender, Stamp], object]) -> None:
    with pytest.raises(RenderError) as caught:
        written(message(**REFUSED[case]), SENDER, Stamp(255, AT))

    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "example" not in sentence


@pytest.mark.parametrize(
    "options",
    [
        {"unsubscribe_url": "https://x.example/a b"},
        {"unsubscribe_url": "https://x.example/>,<https://y.example/"},
        {"unsubscribe_url": "ftp://x.example/"},
        {"unsubscribe_url": "https://x.example/\r\nBcc: x@y.example"},
        {"unsubscribe_url": "https://x.example/?a=?utf-8?q?x?="},
        {"unsubscribe_mailto": "a@b.example>\r\nBcc: x@y.example"},
        {"redirect_to": "a@b.example, c@d.example"},
    ],
)
def test_a_bad_link_or_redirection_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(RenderError):
        rendered({}, **options)


@pytest.mark.parametrize(
    "sender", [Sender("a@b.example\r\nBcc: x@y.example"), Sender("a@b.example", "Acme\nBcc: x"), Sender("ä@b.example")]
)
def test_a_bad_sender_is_refused(sender: Sender) -> None:
    with pytest.raises(RenderError):
        rendered({}, sender)


@pytest.mark.parametrize(
    "subject",
    [
        "=?utf-8?q?a=0D=0ABcc:x@y?=",
        "a" * 998,
        "word " * 199 + "end",
        "ä" * 998,
        "👩‍👩‍👧‍👦 family",
        "e\u0301" * 60,
        "שלום \u202b" + "مرحبا " * 30 + "x",
        " blanks at both ends ",
        "many     blanks     within" * 6,
        "",
    ],
)
def test_an_odd_subject_arrives_as_it_is(subject: str) -> None:
    wire = rendered({"subject": subject})

    parsed = BytesParser(policy=policy.compat32).parsebytes(wire)
    assert decoded(parsed["Subject"]) == subject
    assert parsed["Bcc"] is None
    lines = wire.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert all(len(line) <= 76 for line in lines if b"=?" in line)


def test_every_encoded_word_can_be_read_alone() -> None:
    for subject in ("Grüße 😀 aus Köln " * 20, "Привет мир " * 20):
        words = decode_words(rendered({"subject": subject}))

        assert "".join(words) == subject
        assert len(words) > 3


def decode_words(wire: bytes) -> list[str]:
    raw = BytesParser(policy=policy.compat32).parsebytes(wire)["Subject"]
    return [decoded(word) for word in raw.split()]


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        ("", "7bit"),
        (".\n..\n.\n", "7bit"),
        ("a" * 998, "7bit"),
        ("a" * 998 + "\n" + "b" * 998, "7bit"),
        ("a" * 999, "quoted-printable"),
        ("x" * 1_000_000, "quoted-printable"),
        ("From here\n", "quoted-printable"),
        ("dear,\nFrom here " + "on " * 40, "quoted-printable"),
        ("a" * 75 + "From me " + "b" * 999, "quoted-printable"),
        ("NUL \0 and bell \a in the text", "quoted-printable"),
        ("ü" + " a" * 36 + " \n", "quoted-printable"),
        ("日本語の本文です。\n" * 3, "base64"),
        ("old\rmac\r\nand dos\nlines", "7bit"),
    ],
)
def test_an_odd_body_arrives_as_it_is(body: str, encoding: str) -> None:
    wire = rendered({"body_text": "x", "body_html": body})

    part = BytesParser(policy=policy.default).parsebytes(wire).get_payload(1)
    assert part["Content-Transfer-Encoding"] == encoding
    assert part.get_payload(decode=True).decode().replace("\r\n", "\n") == body.replace("\r\n", "\n").replace("\r", "\n")
    assert b"\nFrom " not in wire
    assert max(map(len, wire.split(b"\r\n"))) <= 998


@pytest.mark.parametrize("length", range(66, 74))
@pytest.mark.parametrize("blank", " \t")
def test_a_blank_at_the_end_of_a_full_line_stays_within_76_columns(length: int, blank: str) -> None:
    body = f"é{'x' * length}{blank}\nend"

    parsed = BytesParser(policy=policy.compat32).parsebytes(rendered({"body_text": body}))

    assert max(map(len, parsed.get_payload().split("\r\n"))) <= 76
    assert parsed.get_payload(decode=True).decode() == body.replace("\n", "\r\n") + "\r\n"


def test_a_name_in_quotes_is_escaped() -> None:
    wire = rendered({"recipient_name": 'Jane "JD" \\ Doe <x@y.example>,'})

    assert b'\r\nTo: "Jane \\"JD\\" \\\\ Doe <x@y.example>," <jane@example.com>\r\n' in wire


def test_a_long_header_name_has_its_encoded_value_on_the_next_line() -> None:
    name = "X" * 76

    wire = rendered({"headers": {name: "Grüße"}})

    assert f"\r\n{name}:\r\n =?utf-8?b?R3LDvMOfZQ==?=\r\n".encode() in wire


def test_a_body_that_holds_the_boundary_gets_another() -> None:
    forged = "--=_rotord.ff.a\r\nContent-Type: text/html\r\n\r\nforged\r\n--=_rotord.ff.a.1--\r\n--=_rotord.ff.m\r\n"

    parsed = BytesParser(policy=policy.default).parsebytes(
        rendered({"body_text": forged, "body_html": "<p>", "attachments": (Attachment("a", "text/plain", b"a"),)}),
    )

    assert [part.get_content_type() for part in parsed.walk()] == [
        *("multipart/mixed", "multipart/alternative", "text/plain", "text/html", "text/plain"),
    ]


def test_an_address_beyond_ascii_needs_smtputf8_only_for_its_local_part() -> None:
    wire = rendered({"recipient": "jane@bücher.example"}, smtputf8=True)
    assert b"\r\nTo: jane@xn--bcher-kva.example\r\n" in wire

    wire = rendered({"recipient": "jörg@BÜCHER.example", "recipient_name": "Jörg"}, smtputf8=True)
    assert "\r\nTo: =?utf-8?b?SsO2cmc=?= <jörg@bücher.example>\r\n".encode() in wire


@pytest.mark.parametrize(
    "recipient", ["jö rg@b.example", "jö,rg@b.example", "jö\u2028rg@b.example", "ö" * 33 + "@b.example", "ö..a@b.example"]
)
def test_smtputf8_does_not_open_the_door(recipient: str) -> None:
    with pytest.raises(RenderError):
        rendered({"recipient": recipient}, smtputf8=True)


def test_german_sharp_s_stays_in_its_own_domain() -> None:
    assert b"\r\nTo: a@xn--strae-oqa.example\r\n" in rendered({"recipient": "a@straße.example"})


def test_a_rehearsal_names_a_recipient_the_provider_could_not_carry() -> None:
    wire = rendered({"recipient": "jörg@b.example"}, redirect_to="me@acme.example")

    assert decoded(BytesParser(policy=policy.compat32).parsebytes(wire)["Subject"]) == "[to jörg@b.example] Hello"


def test_a_long_thread_keeps_its_root_and_its_newest() -> None:
    chain = tuple(f"<{number}@acme.example>" for number in range(100))

    parsed = BytesParser(policy=policy.compat32).parsebytes(rendered({"references": chain, "in_reply_to": chain[-1]}))

    assert parsed["References"].split() == [chain[0], *chain[80:]]


def test_a_long_name_folds_before_its_address() -> None:
    wire = rendered({"recipient_name": "Jane " * 10 + "Doe", "recipient": f"{'j' * 60}@example.com"})

    assert b"\r\nTo: Jane Jane" in wire
    assert b"Doe\r\n <jjj" in wire


def test_only_a_web_link_makes_one_click() -> None:
    wire = rendered({}, unsubscribe_mailto="mailto:out@acme.example")

    assert b"List-Unsubscribe: <mailto:out@acme.example>\r\n" in wire
    assert b"List-Unsubscribe-Post" not in wire


def test_a_file_name_of_many_lines_is_read_back_whole() -> None:
    name = "Überweisung 😀 " * 15 + ".pdf"

    wire = rendered({"attachments": (Attachment(name, "application/pdf", b"x"),)})

    [file] = BytesParser(policy=policy.compat32).parsebytes(wire).get_payload()[1:]
    assert file.get_filename() == name
    assert decoded(file.get_param("name")) == name


def test_the_block_is_read_back_before_it_leaves() -> None:
    for forged in ("A: b\r\nBcc: c", "A: b\r\n\r\nbody", "A: b\nBcc: c", "Bcc: b", " A: b", "A"):
        with pytest.raises(RenderError):
            mime.seal((mime.Header("A", forged), mime.Header("B", "B: c")))


@pytest.mark.parametrize("stray", [b"\r", b"\n", b"\0", b"\n\r", b"\r\r\n", b"\r \n"])
def test_the_wire_is_read_once_more_before_it_leaves(stray: bytes) -> None:
    mime.check_wire(b"A: b\r\n\r\nbody\r\n")
    with pytest.raises(RenderError):
        mime.check_wire(b"A: b\r\n\r\nbo" + stray + b"dy\r\n")


def test_a_message_id_is_one_for_a_row_and_differs_between_rows_and_domains() -> None:
    assert message_id(7, "acme.example") == "<7.6dbbdbdf438ea52593ce7b2a@acme.example>"
    assert message_id(7, "ACME.example") == message_id(7, "acme.example")
    assert message_id(7, "bücher.example").endswith("@xn--bcher-kva.example>")
    assert len({message_id(row, domain) for row in range(1, 50) for domain in ("a.example", "b.example")}) == 98
    with pytest.raises(RenderError):
        message_id(7, "acme.example>\r\nBcc: x")


@given(st.from_regex(r"[a-z0-9_-]{1,60}(\.[a-z0-9_-]{1,60}){0,2}", fullmatch=True))
def test_every_domain_the_fleet_may_hold_gives_a_message_id_that_can_be_rendered(domain: str) -> None:
    made = message_id(7, domain)

    assert f"\r\nMessage-ID: {made}\r\n".encode() in rendered({"message_id": made})


FILE = {"filename": "a.txt", "content_type": "text/plain", "content_base64": "aGk="}


def test_attachments_are_decoded() -> None:
    empty = {**FILE, "content_base64": ""}
    wrapped = {**FILE, "content_base64": base64.encodebytes(bytes(100)).decode()}

    assert attachments([FILE, empty, wrapped]) == (
        *(Attachment("a.txt", "text/plain", b"hi"), Attachment("a.txt", "text/plain", b"")),
        Attachment("a.txt", "text/plain", bytes(100)),
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        "[]",
        ["a.txt"],
        [{}],
        [{**FILE, "cid": "x"}],
        [{**FILE, "filename": None}],
        [{**FILE, "content_type": "text"}],
        [{**FILE, "filename": "a\nb"}],
        [{**FILE, "content_base64": "aGk"}],
        [{**FILE, "content_base64": "a-_="}],
        [{**FILE, "content_base64": "aGk=aGk="}],
        [{**FILE, "content_base64": "äöü="}],
        [FILE] * (ATTACHMENT_COUNT + 1),
    ],
)
def test_attachments_that_are_not_what_the_contract_says_are_refused(value: object) -> None:
    with pytest.raises(RenderError):
        attachments(value)


def test_attachments_may_fill_their_limit_and_not_pass_it() -> None:
    half = {**FILE, "content_base64": base64.b64encode(bytes(ATTACHMENT_BYTES // 2)).decode()}
    over = {**FILE, "content_base64": base64.b64encode(bytes(ATTACHMENT_BYTES // 2 + 1)).decode()}

    assert sum(len(file.content) for file in attachments([half, half])) == ATTACHMENT_BYTES
    for value in ([half, over], [half, half, FILE]):
        with pytest.raises(RenderError, match="larger"):
            attachments(value)


def test_headers_are_decoded() -> None:
    assert headers({"X-A": "b", "Precedence": "bulk"}) == {"X-A": "b", "Precedence": "bulk"}
    for value in (None, [], {"X-A": None}, {f"X-{number}": "" for number in range(HEADER_COUNT + 1)}):
        with pytest.raises(RenderError):
            headers(value)
