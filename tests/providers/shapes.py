"""Thirty shapes of mail, each as an envelope, and what a reader sees of a mail: the measure by which two routes are alike."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.utils import parseaddr

from rotord.core.model import Attachment, Kind, Message, Sender
from rotord.core.rendering import Stamp, head, render
from rotord.providers.base import Envelope

LINK = "https://rotor.example.com/u/abcDEF123"
PARENT = "<41.aaaaaaaaaaaaaaaaaaaaaaaa@acme-mail.example>"
WORDS = "wörds and more wörds "
PNG = bytes(range(256)) * 40
CHAIN = tuple(f"<{number}.{'f' * 24}@acme-mail.example>" for number in range(30))

#: what each shape has beyond the plain one; `sender` and what a Stamp has stand beside the message's own fields
SHAPES = {
    "plain": {},
    "html_only": {"body_text": None, "body_html": "<p>Hello</p>"},
    "both_bodies": {"body_html": "<p>Hello</p>"},
    "empty_html": {"body_html": ""},
    "empty_text": {"body_text": "", "body_html": "<p>Hello</p>"},
    "transactional": {"kind": Kind.TRANSACTIONAL},
    "unsubscribe_by_mail_too": {"unsubscribe_mailto": "leave@acme-mail.example"},
    "unicode_everywhere": {
        "subject": "Grüße aus Köln — 你好 🎉",
        "body_text": "Grüße, 你好, שלום, 🎉\n",
        "body_html": "<p>Grüße, 你好 🎉</p>",
        "recipient_name": "Jürgen Müller 你好",
        "sender": Sender("news@acme-mail.example", "Ärzte & Söhne GmbH"),
        "campaign": "frühling",
        "headers": {"X-Greeting": "Grüße 🎉"},
    },
    "subject_of_998": {"subject": "s" * 998},
    "unicode_subject_of_998": {"subject": "ü" * 998},
    "subject_with_words_of_998": {"subject": (WORDS * 60)[:997] + "."},
    "subject_that_looks_encoded": {"subject": "what is =?utf-8?q?this?= then"},
    "subject_with_blanks_at_its_ends": {"subject": "  padded  "},
    "empty_subject": {"subject": ""},
    "names_that_need_quotes": {
        "recipient_name": 'Smith, "Bob" <boss>; R\\D',
        "sender": Sender("news@acme-mail.example", "Acme, Inc. (sales)"),
    },
    "long_names": {"recipient_name": "Anna Maria " * 20, "sender": Sender("news@acme-mail.example", "Übersee " * 20)},
    "international_domain": {"recipient": "anna@bücher.example", "reply_to": "kontakt@müller.example"},
    "international_local_part": {"recipient": "jörg@example.net", "smtputf8": True},
    "pinned_reply_to": {"reply_to": "answers@acme-mail.example"},
    "reply_in_a_thread": {"in_reply_to": PARENT, "references": (PARENT,), "subject": "Re: hello"},
    "reply_in_a_long_thread": {"in_reply_to": CHAIN[-1], "references": CHAIN},
    "long_header": {"headers": {"X-Long": "word " * 180 + "end", "X-Unbroken": "u" * 900}},
    "long_unicode_header": {"headers": {"X-Long": WORDS * 30 + "end"}},
    "many_headers": {"headers": {f"X-App-{number}": f"value {number}" for number in range(40)}},
    "header_with_json": {"headers": {"X-Data": '{"a": ["b, c; d", "é"]}', "Feedback-ID": "1:2:3:acme"}},
    "one_attachment": {"attachments": (Attachment("invoice.pdf", "application/pdf", b"%PDF-1.7\n" + PNG),)},
    "attachments_with_names_of_all_kinds": {
        "body_html": "<p>See below</p>",
        "attachments": (
            Attachment("Übersicht 你好.png", "image/png", PNG),
            Attachment('a "quoted" <name>.txt', "text/plain", b"text\r\nand more\n"),
            Attachment("data.csv", "text/csv; charset=utf-8", "a;ü\r\n".encode()),
            Attachment("n" * 200 + ".bin", "application/octet-stream", b"\0"),
        ),
    },
    "lines_of_all_kinds": {"body_text": ".dot\r\n..two\rFrom here\n\n\ttab \nend", "body_html": "<p>\r\n.\r\n</p>"},
    "long_lines": {"body_text": "x" * 5000 + "\n" + "ü" * 5000, "body_html": "<p>" + "y" * 5000 + "</p>"},
    "large": {"body_text": WORDS * 20_000, "attachments": (Attachment("large.bin", "application/octet-stream", PNG * 100),)},
    "rehearsal": {"redirect_to": "rehearsal@agency.example", "subject": "Grüße", "recipient_name": "Anna"},
}
_FIELDS = set(Message._fields)


def envelope_of(name, attempt_id=7, *, headers_only=False):
    """The shape as the engine would hand it to a provider; `headers_only` to one that writes the mail itself."""
    shape = SHAPES[name]
    fields = {
        "id": 42,
        "client": "acme",
        "recipient": "anna@example.net",
        "subject": "hello",
        "body_text": "Hello.\n",
        "campaign": "spring",
    }
    fields |= {"message_id": f"<42.{'a' * 24}@acme-mail.example>"} | {key: value for key, value in shape.items() if key in _FIELDS}
    message = Message(**fields)
    sender = shape.get("sender", Sender("news@acme-mail.example", "Acme News"))
    options = {key: value for key, value in shape.items() if key not in _FIELDS and key != "sender"}
    stamp = Stamp(attempt_id, 1_800_000_000, **({"unsubscribe_url": LINK} | options))
    mime = b"" if headers_only else render(message, sender, stamp)
    if redirect_to := shape.get("redirect_to"):
        fields |= {"recipient": redirect_to, "recipient_name": ""}
    return Envelope(attempt_id, sender, Message(**fields), mime, head(message, sender, stamp))


def facts(wire):
    """What a reader finds in a mail's bytes."""
    message = message_from_bytes(wire, policy=policy.default)
    return {
        "from": _party(wire, "From"),
        "to": _party(wire, "To"),
        "reply_to": _party(wire, "Reply-To")[1],
        "subject": str(message["Subject"]),
        "text": as_body(_content(message, "plain")),
        "html": as_body(_content(message, "html")),
        "headers": {
            name.lower(): str(value)
            for name, value in message.items()
            if not name.lower().startswith("content-") and name.lower() not in {"from", "to", "reply-to", "subject", "date", "mime-version"}
        },
        "attachments": [
            (part.get_filename(), part.get_content_type(), part.get_payload(decode=True)) for part in message.iter_attachments()
        ],
    }


def decoded(name, value):
    """A header's value as a reader sees it."""
    return str(policy.default.header_factory(name, value))


def split_mailbox(value):
    return parseaddr(value)


def as_body(text):
    """A body as it is read: whatever its line ends, and however many stand at its end; an empty one is none."""
    return (text or "").replace("\r\n", "\n").replace("\r", "\n").rstrip("\n") or None


def _party(wire, name):
    # Not by policy.default: it puts a blank between the encoded-words of a name.
    block = wire.partition(b"\r\n\r\n")[0].decode().replace("\r\n ", " ")
    value = next((line.partition(": ")[2] for line in block.split("\r\n") if line.startswith(f"{name}: ")), "")
    display_name, address = parseaddr(value)
    return str(make_header(decode_header(display_name))).strip(), address


def _content(message, subtype):
    part = message.get_body((subtype,))
    return part.get_content() if part is not None else None
