"""`POST /inbound/{provider}`: mail that came to us, handed over by a provider or by a mail server's pipe. Is it theirs, and what is it?

    mailgun     a route's form: HMAC over timestamp and token; `body-mime`, or headers and text in fields
    sendgrid    Inbound Parse: ECDSA over the raw form; `email`, or headers and text in fields
    smtp        one mail as it is; Authorization: Bearer <webhook_key>

Anybody can write a mail. What a bounce or complaint says is therefore taken for a message of ours only by an id that came back with it:
the return path's, which cannot be forged, else the attempt's or the Message-ID; and its recipient is then that message's, whatever it says.
What a rehearsal's message brought back is about its tester: its return path is made with another key, its headers say so, the
subject of a reply shows it. It suppresses nobody and stops nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, unquote_to_bytes

import orjson

from rotord.core import received, return_path, unsubscribe
from rotord.core.bounces import BounceClass
from rotord.core.complaints import Complaint
from rotord.core.events import Event, EventKind, Parsed, Reason, bare_id, natural_key, words
from rotord.core.incoming import Automatic, Bounced, PersonsReply, recognise
from rotord.core.rendering import outbox_id_of
from rotord.webhooks import mailgun, sendgrid
from rotord.webhooks.base import UnreadableError, Webhook, digest, verify_bearer

if TYPE_CHECKING:
    from rotord.core.bounces import Bounce
    from rotord.webhooks.base import Parse, Refused, Verified, Verify

_FIELDS: Final = 1000
#: of the fields that a signature is made of; whoever posts may be anybody, so no more than these is unpacked before it is checked
_SIGNED_BYTES: Final = 1000
_ARRIVED_FOR: Final = ("delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "to")


class Arrived(NamedTuple):
    """A mail and its envelope, as far as it is known."""

    raw: bytes
    sender: str | None
    recipients: tuple[str, ...]


#: a post's body and content type; the mail is empty where it holds none
Unwrap: TypeAlias = Callable[[bytes, str], Arrived]


def verify_mailgun(keys: tuple[str, ...], headers: Mapping[str, str], body: bytes, now: float) -> Verified | Refused:
    """Check the three fields, of which the last of a name is Mailgun's own."""
    fields = _short_fields(body, headers.get("content-type", ""))
    triple: dict[str, str] = {
        name: fields[name].decode("utf-8", "replace").strip() for name in ("timestamp", "token", "signature") if name in fields
    }
    return mailgun.verify_triple(keys, triple, now)


def unwrap_raw(body: bytes, _content_type: str) -> Arrived:
    """Take a post that is the mail."""
    return Arrived(body, None, ())


def unwrap_mailgun(body: bytes, content_type: str) -> Arrived:
    """Take a mail out of a route's form."""
    fields = form(body, content_type)
    raw = fields.get("body-mime") or _put_together(_mailgun_headers(fields), fields.get("body-plain", b""))
    return Arrived(raw, _text(fields, "sender"), (_text(fields, "recipient") or "",))


def unwrap_sendgrid(body: bytes, content_type: str) -> Arrived:
    """Take a mail out of Inbound Parse's form."""
    fields = form(body, content_type)
    try:
        envelope = orjson.loads(fields.get("envelope", b"{}"))
        recipients = tuple(one for one in envelope.get("to", ()) if isinstance(one, str))
        sender = envelope.get("from")
    except (orjson.JSONDecodeError, AttributeError, TypeError):
        recipients, sender = (), None
    raw = fields.get("email") or _put_together(fields.get("headers", b""), fields.get("text", b""))
    return Arrived(raw, sender if isinstance(sender, str) else None, recipients)


def form(body: bytes, content_type: str) -> dict[str, bytes]:
    """Read a form's fields, urlencoded or multipart; the last of a name counts."""
    if content_type.strip().lower().startswith("multipart/"):
        raw = b"Content-Type: " + content_type.encode("utf-8", "replace") + b"\r\n\r\n" + body
        post = received.read(raw, len(raw))  # the route has bounded it
        named = [(received.parameters(part.header("content-disposition")).get("name", ""), part.body) for part in post.parts]
        return {name: value.removesuffix(b"\n").removesuffix(b"\r") for name, value in named if name}
    try:
        return {name.decode("utf-8", "replace"): value for name, value in parse_qsl(body, keep_blank_values=True, max_num_fields=_FIELDS)}
    except ValueError:
        return {}


def _short_fields(body: bytes, content_type: str) -> dict[str, bytes]:
    """Read a form as `form` does, but of an urlencoded one only what is short: to unpack 32 MB takes 4 s and 2 GB."""
    if content_type.strip().lower().startswith("multipart/"):
        return form(body, content_type)
    pairs = (field.partition(b"=") for field in body.split(b"&", _FIELDS) if len(field) <= _SIGNED_BYTES)
    return {name.decode("utf-8", "replace"): unquote_to_bytes(value.replace(b"+", b" ")) for name, _, value in pairs}


def parser(unwrap: Unwrap, key: bytes) -> Parse:
    """Make what reads a stored post; `key` verifies return paths."""

    def parse(body: bytes, content_type: str) -> Parsed:
        arrived = unwrap(body, content_type)
        if not arrived.raw.strip():
            raise UnreadableError("there is no mail in it")
        return Parsed(events_of(arrived, key), [])

    return parse


def events_of(arrived: Arrived, key: bytes) -> list[Event]:
    """Say what a mail tells of our messages; nothing for an automatic answer."""
    mail = received.read(arrived.raw)
    at = _arrived_at(mail)
    recipients = (*arrived.recipients, *(one for name in _ARRIVED_FOR for field in mail.all(name) for one in received.addresses(field)))
    attempt_id = return_path.attempt_among(key, recipients)
    rehearsed = None if attempt_id is not None else return_path.attempt_among(unsubscribe.rehearsal_key(key), recipients)
    identity = mail.header("message-id") or digest(arrived.raw)
    unsubscribed = _unsubscribed(mail, key, identity, at)
    if unsubscribed is not None:
        return [unsubscribed]
    match recognise(mail, arrived.raw, arrived.sender):
        case Bounced(found):
            events = [_bounced(one, attempt_id or rehearsed, identity, at) for one in _of_one_message(found, attempt_id or rehearsed)]
            return [_of_rehearsal(event) for event in events] if rehearsed or (not attempt_id and found[0].rehearsed) else events
        case Complaint() as told:
            event = Event(
                kind=EventKind.COMPLAINED,
                occurred_at=at,
                recipient=told.recipient,
                key=natural_key("mail", identity, "complaint"),
                reason=words(f"{told.feedback_type} reported by {told.reporter}"),
                attempt_id=attempt_id or rehearsed or told.attempt_id,
                message_id=bare_id(told.message_id),
                suppresses=Reason.COMPLAINT,
            )
            return [_of_rehearsal(event) if rehearsed or (not attempt_id and told.rehearsed) else event]
        case PersonsReply() as reply:
            references = [bare_id(one) for one in reply.references]
            event = Event(
                kind=EventKind.REPLIED,
                occurred_at=at,
                recipient=reply.sender,
                key=natural_key("mail", identity, "reply"),
                reason=words(reply.subject),
                message_id=next((one for one in references if outbox_id_of(one) is not None), references[0] if references else ""),
                mail=arrived.raw,
            )
            return [_of_rehearsal(event) if reply.rehearsed else event]
        case Automatic():
            return []


def _unsubscribed(mail: received.Part, key: bytes, identity: str, at: float) -> Event | None:
    """What an unsubscribe link by mail says; a bounce that quotes such a subject is none, since its own subject is another."""
    token = unsubscribe.token_in(mail.header("subject"))
    row = unsubscribe.verify(key, token) if token else None
    if row is None:
        return None
    sender = received.address(mail.header("from"))
    name = natural_key("mail", identity, "unsubscribe")
    return Event(EventKind.UNSUBSCRIBED, at, sender, name, "by mail", suppresses=Reason.UNSUBSCRIBE, outbox_id=row)


def _of_one_message(found: tuple[Bounce, ...], attempt_id: int | None) -> tuple[Bounce, ...]:
    """A message of ours has one recipient: where several failed behind it (an alias), the mildest word counts."""
    if len(found) == 1 or not (attempt_id or found[0].attempt_id or found[0].message_id):
        return found
    return (next((one for one in found if one.bounce_class is not BounceClass.HARD), found[0]),)


def _bounced(one: Bounce, attempt_id: int | None, identity: str, at: float) -> Event:
    return Event(
        kind=EventKind.DEFERRED if one.bounce_class is BounceClass.DELAYED else EventKind.BOUNCED,
        occurred_at=at,
        recipient=one.recipient,
        key=natural_key("mail", identity, one.recipient, "bounce"),
        reason=words(f"{one.bounce_class.value}: {one.reason}"),
        attempt_id=attempt_id or one.attempt_id,
        message_id=bare_id(one.message_id),
        suppresses=Reason.HARD_BOUNCE if one.bounce_class is BounceClass.HARD else None,
    )


def _of_rehearsal(event: Event) -> Event:
    return replace(event, reason=words(f"rehearsal: {event.reason}"), suppresses=None, rehearsed=True)


def _arrived_at(mail: received.Part) -> float:
    """When it came: by the newest Received line, else by its own Date; 0 (not told) for a mail that says neither."""
    for text in (next(mail.all("received"), "").rpartition(";")[2], mail.header("date")):
        try:
            moment = parsedate_to_datetime(text.strip()[:100])
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return 0.0


def _mailgun_headers(fields: Mapping[str, bytes]) -> bytes:
    try:
        pairs = orjson.loads(fields.get("message-headers", b"[]"))
        lines = [f"{name}: {value}" for name, value in pairs]
    except (orjson.JSONDecodeError, TypeError, ValueError):
        return b""
    return "\n".join(" ".join(line.splitlines()) for line in lines).encode("utf-8", "replace")


def _put_together(headers: bytes, text: bytes) -> bytes:
    """Write a mail of a form's parts: its own Content-Type would speak of parts that are not there."""
    kept = [line for line in headers.splitlines() if line[:1] not in b" \t" and not line.lower().startswith((b"content-", b"mime-version"))]
    return b"\n".join((*kept, b"Content-Type: text/plain; charset=utf-8", b"", text)) if kept else b""


def _text(fields: Mapping[str, bytes], name: str) -> str | None:
    return fields[name].decode("utf-8", "replace").strip() if name in fields else None


class Inbound(NamedTuple):
    """One provider kind: how its posts are verified and unwrapped, and the answer that ends a forged one."""

    verify: Verify
    unwrap: Unwrap
    refusal: int

    def webhook(self, key: bytes) -> Webhook:
        """As the route and the folder want it."""
        return Webhook(self.verify, parser(self.unwrap, key), self.refusal)


INBOUND: Final[Mapping[str, Inbound]] = {
    "mailgun": Inbound(verify_mailgun, unwrap_mailgun, mailgun.WEBHOOK.refusal),
    "sendgrid": Inbound(sendgrid.verify, unwrap_sendgrid, sendgrid.WEBHOOK.refusal),
    "smtp": Inbound(verify_bearer, unwrap_raw, 401),
}
