"""From an outbox row to the bytes that leave: one complete message, deterministic, or one RenderError for that row alone.

Owns which headers a message carries and how its bodies and files are nested. The same arguments give the same bytes: the
time, the attempt and the links are passed in, boundaries come from the attempt. Every value from the row is checked on its
way in (mime.py), and the finished bytes are checked once more, because one stray line end is somebody else's Bcc.

    text | html | alternative(text, html)        without attachments
    mixed(one of these, attachment, ...)         with them

The envelope, the signature (dkim.py) and the choice of the sender are made elsewhere.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from rotord.core import mime
from rotord.core.mime import Entity, Header, RenderError
from rotord.core.model import Attachment, Kind

if TYPE_CHECKING:
    from rotord.core.model import Message, Sender

__all__ = ["RenderError", "Stamp", "attachments", "head", "headers", "message_id", "outbox_id_of", "render"]

#: contract.md 5.1: 10 MB of files a message, decoded.
ATTACHMENT_BYTES: Final = 10 * 1024 * 1024
ATTACHMENT_COUNT: Final = 50
FILENAME_LENGTH: Final = 255
#: What the large mailbox providers take, encoded.
MESSAGE_BYTES: Final = 25 * 1000 * 1000
HEADER_COUNT: Final = 50
HEADER_BLOCK_BYTES: Final = 64 * 1024
HEADER_NAME_LENGTH: Final = 76  # with its colon it still fits a line
#: A thread keeps its root and its newest: what readers need to sort it, whatever its length.
REFERENCES: Final = 21

#: Names that rotord writes itself, or that would change who gets the message or what it seems to be.
OWNED_HEADERS: Final = frozenset(
    {
        *("apparently-to", "authentication-results", "bcc", "cc", "date", "delivered-to", "dkim-signature", "domainkey-signature"),
        *("from", "in-reply-to", "list-unsubscribe", "list-unsubscribe-post", "message-id", "mime-version", "received"),
        *("received-spf", "references", "reply-to", "return-path", "sender", "subject", "to"),
    },
)
#: The last three are commands to a provider (more recipients, other limits, other tracking), read out of a message's headers.
OWNED_PREFIXES: Final = ("arc-", "content-", "resent-", "x-rotord-", "x-mailgun-", "x-smtp2go-", "x-smtpapi")

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]+")
_MESSAGE_ID: Final = re.compile(r"<[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,128}@[A-Za-z0-9._-]{1,253}>")
_OWN_ID: Final = re.compile(r"<?([1-9][0-9]{0,18})\.[0-9a-f]{24}@([^<>]{1,255})>?")
_FLEET_DOMAIN: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_WEB_LINK: Final = re.compile(r"https?://[!#-;=?-Z_a-z~%\[\]]{1,900}")
_MAIL_LINK: Final = re.compile(r"mailto:[!#-;=?-Z_a-z~%]{1,900}")
_CONTENT_TYPE: Final = re.compile(
    r"(?!multipart/|message/)[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"
    r"(?:; ?(?!name=|boundary=)[a-z0-9-]{1,32}=(?:[A-Za-z0-9!#$&^_.+-]{1,64}|\"[A-Za-z0-9 !#$&^_.+:/-]{1,64}\"))*",
    re.ASCII | re.IGNORECASE,  # without ASCII, ignoring case lets the Kelvin sign pass for a k
)
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MIME_VERSION: Final = Header("MIME-Version", "MIME-Version: 1.0")
#: what comes back of such a message says nothing about its recipient (webhooks/inbound.py)
_REHEARSAL: Final = Header("X-Rotord-Rehearsal", "X-Rotord-Rehearsal: yes")
_ONE_CLICK: Final = Header("List-Unsubscribe-Post", "List-Unsubscribe-Post: List-Unsubscribe=One-Click")
_TEXT_TYPES: Final = {subtype: Header("Content-Type", f"Content-Type: text/{subtype}; charset=utf-8") for subtype in ("plain", "html")}
_ENCODINGS: Final = {
    encoding: Header("Content-Transfer-Encoding", f"Content-Transfer-Encoding: {encoding}")
    for encoding in ("7bit", "quoted-printable", "base64")
}
_LONG_HEAD: Final = f"The headers are larger than {HEADER_BLOCK_BYTES} bytes."
_TOO_LARGE: Final = f"The message is larger than {MESSAGE_BYTES} bytes."
_BODILESS: Final = "The message has neither a text nor an HTML body."
_BLANKS: Final = str.maketrans("", "", "\r\n\t ")


def message_id(outbox_id: int, domain: str) -> str:
    """Return the one Message-ID of an outbox row, the same for every attempt; `domain` is the sender's.

    Never raises for a domain that rotord.domains may hold, host name or not: the dispatcher has no row to blame for it.
    """
    name = _name_of(domain)
    digest = hashlib.sha256(f"{outbox_id}@{name}".encode("ascii")).hexdigest()[:24]
    return f"<{outbox_id}.{digest}@{name}>"


@lru_cache(maxsize=4096)
def _name_of(domain: str) -> str:
    return (domain if _FLEET_DOMAIN.fullmatch(domain) else mime.ascii_domain(domain, "sender")).lower()


def outbox_id_of(message_id_: str) -> int | None:
    """Read back whose Message-ID this is (with or without its brackets); None for one that is not ours."""
    found = _OWN_ID.fullmatch(message_id_)
    if found is None or int(found[1]) >= 2**63:
        return None
    try:
        own = message_id(int(found[1]), found[2])
    except (RenderError, UnicodeError):
        return None
    return int(found[1]) if own.strip("<>") == message_id_.strip("<>") else None


def headers(value: object) -> dict[str, str]:
    """Decode the outbox's `headers`: an object of strings, no name that rotord owns, none twice."""
    if not isinstance(value, dict):
        raise RenderError("The column headers is not a JSON object.")
    if len(value) > HEADER_COUNT:
        raise RenderError(f"The message has more than {HEADER_COUNT} headers of its own.")
    for name, content in value.items():
        _check_header(name, content)
    if len({name.lower() for name in value}) != len(value):
        raise RenderError("A header is given twice.")
    return dict(value)


def _check_header(name: object, content: object) -> None:
    if not isinstance(name, str) or len(name) > HEADER_NAME_LENGTH or not _HEADER_NAME.fullmatch(name):
        raise RenderError("A header's name is not letters, digits and hyphens.")
    if (lower := name.lower()) in OWNED_HEADERS or lower.startswith(OWNED_PREFIXES):
        raise RenderError(f"The header {name} is rotord's own.")
    if not isinstance(content, str):
        raise RenderError(f"The header {name} is not a string.")
    mime.check_text(content, f"header {name}")
    if "=?" in content:
        raise RenderError(f"The header {name} looks encoded already; give it as plain text.")


def attachments(value: object) -> tuple[Attachment, ...]:
    """Decode the outbox's `attachments`. Line breaks in the base64 are allowed: PostgreSQL's encode() makes them."""
    if not isinstance(value, list):
        raise RenderError("The column attachments is not a JSON array.")
    if len(value) > ATTACHMENT_COUNT:
        raise RenderError(f"The message has more than {ATTACHMENT_COUNT} attachments.")
    files = []
    left = ATTACHMENT_BYTES
    for item in value:
        files.append(_attachment(item, left))
        left -= len(files[-1].content)
    return tuple(files)


def _attachment(item: object, left: int) -> Attachment:
    if not isinstance(item, dict) or item.keys() != {"filename", "content_type", "content_base64"}:
        raise RenderError("An attachment is not an object of filename, content_type and content_base64.")
    filename, content_type, encoded = item["filename"], item["content_type"], item["content_base64"]
    if not (isinstance(filename, str) and isinstance(content_type, str) and isinstance(encoded, str)):
        raise RenderError("An attachment's filename, content_type or content_base64 is not a string.")
    encoded = encoded.translate(_BLANKS)
    if len(encoded) // 4 * 3 > left + 2:
        raise RenderError(f"The attachments are larger than {ATTACHMENT_BYTES} bytes.")
    try:
        content = binascii.a2b_base64(encoded, strict_mode=True) if encoded else b""
    except ValueError:  # binascii.Error is one; so is the refusal of a string beyond ASCII
        raise RenderError("An attachment's content_base64 is not base64.") from None
    if len(content) > left:
        raise RenderError(f"The attachments are larger than {ATTACHMENT_BYTES} bytes.")
    file = Attachment(filename, content_type, content)
    _check_attachment(file)
    return file


def _check_attachment(file: Attachment) -> None:
    if not 0 < len(file.filename) <= FILENAME_LENGTH:
        raise RenderError(f"An attachment's file name is empty or longer than {FILENAME_LENGTH} characters.")
    mime.check_text(file.filename, "attachment's file name")
    if not _CONTENT_TYPE.fullmatch(file.content_type):
        raise RenderError("An attachment's content type is not a type that a file can have.")


class Stamp(NamedTuple):
    """What an attempt adds to its message. `date` is Unix time; `redirect_to` is the rehearsal's recipient, '' outside of one.

    `unsubscribe_mailto` is an address or a mailto: link; both links are for bulk mail and ignored for transactional.
    """

    attempt_id: int
    date: float
    unsubscribe_url: str = ""
    unsubscribe_mailto: str = ""
    redirect_to: str = ""
    smtputf8: bool = False


def head(message: Message, sender: Sender, stamp: Stamp) -> list[Header]:
    """Return the headers without those of MIME, for a provider that writes the mail itself. Refuses what `render` refuses."""
    _check_parts(message)
    top = _top(message, sender, stamp)
    if sum([len(header.line) for header in top]) > HEADER_BLOCK_BYTES:
        raise RenderError(_LONG_HEAD)
    return top


def render(message: Message, sender: Sender, stamp: Stamp) -> bytes:
    """Return the complete message. In a rehearsal To is the rehearsal's recipient, and the subject names the real one."""
    entity = _content(message, f"=_rotord.{stamp.attempt_id:x}")
    block = mime.seal([*_top(message, sender, stamp), _MIME_VERSION, *entity.headers])
    if len(block) > HEADER_BLOCK_BYTES:
        raise RenderError(_LONG_HEAD)
    last = b"\r\n" if entity.content and not entity.content.endswith(b"\r\n") else b""
    wire = b"".join((block, b"\r\n\r\n", entity.content, last))
    if len(wire) > MESSAGE_BYTES:
        raise RenderError(_TOO_LARGE)
    mime.check_wire(wire)
    return wire


def _top(message: Message, sender: Sender, stamp: Stamp) -> list[Header]:
    return [
        Header("Date", f"Date: {_date(stamp.date)}"),
        *_addressed(message, sender, stamp),
        *_threading(message),
        *_unsubscribe(message, stamp),
        Header("X-Rotord-Attempt", f"X-Rotord-Attempt: {stamp.attempt_id:d}"),
        *((_REHEARSAL,) if stamp.redirect_to else ()),
        *_custom(message),
    ]


def _date(at: float) -> str:
    return _date_of(int(at))


@lru_cache(maxsize=4)  # a turn's messages share it
def _date_of(at: int) -> str:
    # Not strftime: its names of days and months are the locale's.
    moment = datetime.fromtimestamp(at, UTC)
    return (
        f"{_DAYS[moment.weekday()]}, {moment.day:02d} {_MONTHS[moment.month - 1]} {moment.year:04d} "
        f"{moment.hour:02d}:{moment.minute:02d}:{moment.second:02d} +0000"
    )


def _addressed(message: Message, sender: Sender, stamp: Stamp) -> list[Header]:
    redirect_to, smtputf8 = stamp.redirect_to, stamp.smtputf8
    recipient = mime.address(message.recipient, "recipient", smtputf8=smtputf8 or bool(redirect_to))
    found = [mime.mailbox("From", sender.display_name, mime.address(sender.email, "sender", smtputf8=smtputf8), "sender's name")]
    if redirect_to:
        target = mime.address(redirect_to, "recipient of redirected mail", smtputf8=smtputf8)
        found.append(Header("To", f"To: {target}"))
        subject = f"[to {message.recipient}] {message.subject}"
    else:
        found.append(mime.mailbox("To", message.recipient_name, recipient, "recipient's name"))
        subject = message.subject
    if message.reply_to:
        found.append(Header("Reply-To", f"Reply-To: {mime.address(message.reply_to, 'reply-to address', smtputf8=smtputf8)}"))
    found.append(mime.text("Subject", subject, "subject"))
    return found


def _threading(message: Message) -> list[Header]:
    found = [Header("Message-ID", f"Message-ID: {_checked_id(message.message_id)}")]
    if message.in_reply_to:
        found.append(Header("In-Reply-To", f"In-Reply-To: {_checked_id(message.in_reply_to)}"))
    chain = [_checked_id(reference) for reference in message.references]
    if message.in_reply_to and message.in_reply_to not in chain:
        chain.append(message.in_reply_to)  # RFC 5322 3.6.4: the parent's chain and the parent
    if len(chain) > REFERENCES:
        chain[1 : 1 - REFERENCES] = []
    if chain:
        found.append(Header("References", "References: " + "\r\n ".join(chain)))
    return found


def _checked_id(value: str) -> str:
    if not _MESSAGE_ID.fullmatch(value) or "=?" in value:
        raise RenderError("A Message-ID of the message or its thread is malformed.")
    return value


def _unsubscribe(message: Message, stamp: Stamp) -> list[Header]:
    """Write RFC 8058's two headers: the web link first, because some readers take the first and no other."""
    url, mailto = stamp.unsubscribe_url, stamp.unsubscribe_mailto
    if message.kind is not Kind.BULK or not (url or mailto):
        return []
    links = []
    if url:
        links.append(_link(url, _WEB_LINK))
    if mailto:
        links.append(_link(mailto if mailto.startswith("mailto:") else f"mailto:{mailto}", _MAIL_LINK))
    found = Header("List-Unsubscribe", "List-Unsubscribe: " + ",\r\n ".join(links))
    return [found, _ONE_CLICK] if url else [found]


def _link(value: str, form: re.Pattern[str]) -> str:
    if not form.fullmatch(value) or "=?" in value:
        raise RenderError("An unsubscribe link is not a link.")
    return f"<{value}>"


def _custom(message: Message) -> list[Header]:
    if not message.headers:
        return []
    return [mime.text(name, value, f"header {name}") for name, value in headers(dict(message.headers)).items()]


def _check_parts(message: Message) -> None:
    """Refuse what `_content` refuses, and write nothing."""
    if message.body_text is None and message.body_html is None:
        raise RenderError(_BODILESS)
    size = 0
    for body, what in ((message.body_text or "", "text body"), (message.body_html or "", "HTML body")):
        size += len(body) if body.isascii() else len(mime.octets(body, what))
    for file in message.attachments:
        _check_attachment(file)
        size += len(file.content) * 4 // 3
    if size > MESSAGE_BYTES:
        raise RenderError(_TOO_LARGE)


def _content(message: Message, boundary: str) -> Entity:
    bodies = []
    if message.body_text is not None:
        bodies.append(_body("plain", message.body_text))
    if message.body_html is not None:
        bodies.append(_body("html", message.body_html))
    if not bodies:
        raise RenderError(_BODILESS)
    entity = bodies[0] if len(bodies) == 1 else mime.multipart("alternative", f"{boundary}.a", bodies)
    if not message.attachments:
        return entity
    return mime.multipart("mixed", f"{boundary}.m", [entity, *map(_file, message.attachments)])


def _body(subtype: str, content: str) -> Entity:
    encoding, encoded = mime.encode_body(content, "text body" if subtype == "plain" else "HTML body")
    return Entity((_TEXT_TYPES[subtype], _ENCODINGS[encoding]), encoded)


def _file(file: Attachment) -> Entity:
    _check_attachment(file)
    content_type, disposition = mime.file_name(file.content_type, file.filename)
    return Entity((content_type, disposition, _ENCODINGS["base64"]), mime.encode_base64(file.content))
