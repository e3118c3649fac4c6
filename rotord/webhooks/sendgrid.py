"""SendGrid: batches of events as a JSON array; ECDSA over the timestamp's header and the raw body."""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from rotord.core.events import SUPPRESSES, Event, EventKind, Parsed, Reason, attempt, bare_id, mailbox, natural_key, words
from rotord.webhooks.base import Refused, UnreadableError, Verified, Webhook, digest, in_time
from rotord.webhooks.bounce_scope import blames_recipient

if TYPE_CHECKING:
    from collections.abc import Mapping

#: an event's retries go on for 24 h, and whether they are signed anew is not published
WINDOW_S: Final = 26 * 3600.0
SIGNATURE: Final = "x-twilio-email-event-webhook-signature"
TIMESTAMP: Final = "x-twilio-email-event-webhook-timestamp"
#: a number of seconds from here on is one of milliseconds: the year 5138, or 1973
_MILLISECONDS: Final = 1e11
#: what 768 kB can hold
MOST_EVENTS: Final = 10_000

KINDS: Final = {
    "processed": EventKind.ACCEPTED,
    "delivered": EventKind.DELIVERED,
    "deferred": EventKind.DEFERRED,
    "bounce": EventKind.BOUNCED,
    "dropped": EventKind.DROPPED,
    "spamreport": EventKind.COMPLAINED,
    "unsubscribe": EventKind.UNSUBSCRIBED,
    "group_unsubscribe": EventKind.UNSUBSCRIBED,
    "open": EventKind.OPENED,
    "click": EventKind.CLICKED,
}
#: a suppression is lifted by a person (`rotord suppress remove`), whatever a provider's own list says
IGNORED: Final = frozenset({"group_resubscribe"})
#: by the beginning of a dropped event's reason, lower case
DROPPED: Final = {
    "bounced address": Reason.HARD_BOUNCE,
    "invalid": Reason.HARD_BOUNCE,
    "unsubscribed address": Reason.UNSUBSCRIBE,
    "spam reporting address": Reason.COMPLAINT,
}
#: bounce_classification: not the recipient's doing
OURS: Final = frozenset({"content", "frequency or volume too high", "reputation", "technical"})


def verify(keys: tuple[str, ...], headers: Mapping[str, str], body: bytes, now: float) -> Verified | Refused:
    """Check the signature on the bytes as they came, then the time."""
    timestamp = headers.get(TIMESTAMP, "")
    try:
        signature = base64.b64decode(headers.get(SIGNATURE, ""), validate=True)
    except (binascii.Error, ValueError):
        return Refused("no signature")
    signed = timestamp.encode("utf-8", "replace") + body
    if not any(_is_signed(key, signature, signed) for key in keys):
        return Refused("wrong signature")
    return Verified(digest(signed)) if in_time(timestamp, now, WINDOW_S) else Refused("stale", signed=True)


def parse(body: bytes, _content_type: str) -> Parsed:
    """Read the batch; one event that cannot be read is counted and does not hide the others."""
    try:
        items = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UnreadableError("not JSON") from None
    if not isinstance(items, list) or len(items) > MOST_EVENTS:
        raise UnreadableError("not a batch of events")
    events: list[Event] = []
    unknown: list[str] = []
    for item in items:
        name = item.get("event") if isinstance(item, dict) else None
        if isinstance(name, str) and (name in IGNORED or item.get("sg_machine_open") is True):
            continue
        try:
            events.append(_event(item))
        except (KeyError, TypeError, ValueError, OverflowError):
            unknown.append(words(name if isinstance(name, str) else "(no event)", 60))
    return Parsed(events, unknown)


def _event(item: dict[str, Any]) -> Event:
    kind = KINDS[str(item["event"]).lower()]
    email, at = mailbox(item["email"]), item["timestamp"]
    text = " ".join(str(item[name]) for name in ("reason", "response", "url") if item.get(name))
    sg_message_id = words(item.get("sg_message_id", ""), 200)
    return Event(
        kind=kind,
        occurred_at=_seconds(float(at)),
        recipient=email,
        # sg_event_id is not in it: retries are said to carry new ones
        key=natural_key(sg_message_id or item.get("smtp-id", ""), str(item["event"]).lower(), email, at, text),
        reason=words(text),
        attempt_id=attempt(item.get("rotord_attempt")),
        message_id=bare_id(item.get("smtp-id")),
        provider_message_id=sg_message_id,
        suppresses=_suppresses(kind, item),
    )


def _seconds(at: float) -> float:
    """Opens of AMP mails are shown with milliseconds."""
    return at / 1000 if at >= _MILLISECONDS else at


def _suppresses(kind: EventKind, item: dict[str, Any]) -> Reason | None:
    reason = str(item.get("reason") or "").lower()
    if kind is EventKind.DROPPED:
        return next((why for start, why in DROPPED.items() if _begins(reason, start)), None)
    if kind is not EventKind.BOUNCED:
        return SUPPRESSES.get(kind)
    sorted_as = str(item.get("bounce_classification") or "").lower()
    if item.get("type", "bounce") != "bounce" or sorted_as in OURS:
        return None
    hard = sorted_as == "invalid address" or blames_recipient(str(item.get("status") or ""), reason)
    return Reason.HARD_BOUNCE if hard else None


def _begins(reason: str, start: str) -> bool:
    """`Invalid` is about the recipient, `Invalid SMTPAPI header` about us."""
    return reason.startswith(start) and not reason.startswith("invalid smtpapi")


def _is_signed(key: str, signature: bytes, signed: bytes) -> bool:
    public_key = _public_key(key)
    if public_key is None:
        return False
    try:
        public_key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=64)
def _public_key(key: str) -> ec.EllipticCurvePublicKey | None:
    """Base64 of DER, as its settings show it; None for what is no such key."""
    try:
        loaded = load_der_public_key(base64.b64decode(key))
    except (ValueError, binascii.Error):
        return None
    return loaded if isinstance(loaded, ec.EllipticCurvePublicKey) else None


WEBHOOK: Final = Webhook(verify, parse, 403)
