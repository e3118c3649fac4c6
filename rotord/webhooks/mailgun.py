"""Mailgun: one event a post, as JSON; HMAC-SHA256 over timestamp and token, which both stand in the body.

The signature does not cover the event: a triple that was seen once would sign anything. So a token is taken once.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any, Final

import orjson

from rotord.core.events import SUPPRESSES, Event, EventKind, Parsed, Reason, attempt, bare_id, mailbox, natural_key, words
from rotord.webhooks.base import Refused, UnreadableError, Verified, Webhook, in_time
from rotord.webhooks.bounce_scope import blames_recipient

if TYPE_CHECKING:
    from collections.abc import Mapping

#: retries go on for 8 h, and whether they bring a fresh timestamp is not published
WINDOW_S: Final = 10 * 3600.0
_TOKEN_LENGTH: Final = 200

KINDS: Final = {
    "accepted": EventKind.ACCEPTED,
    "delivered": EventKind.DELIVERED,
    "complained": EventKind.COMPLAINED,
    "unsubscribed": EventKind.UNSUBSCRIBED,
    "opened": EventKind.OPENED,
    "clicked": EventKind.CLICKED,
    "rejected": EventKind.DROPPED,
}
#: `stored`: an inbound message was kept; nothing of ours
IGNORED: Final = frozenset({"stored"})
#: not tried, because of its own list
SUPPRESSED: Final = {
    "suppress-bounce": Reason.HARD_BOUNCE,
    "suppress-unsubscribe": Reason.UNSUBSCRIBE,
    "suppress-complaint": Reason.COMPLAINT,
}
_PREVIOUSLY_BOUNCED: Final = 605


def verify(keys: tuple[str, ...], _headers: Mapping[str, str], body: bytes, now: float) -> Verified | Refused:
    """Check the signature, or the main account's on a sub-account's post; then the time."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Refused("not JSON")
    given = content.get("signature") if isinstance(content, dict) else None
    return verify_triple(keys, given, now) if isinstance(given, dict) else Refused("no signature")


def verify_triple(keys: tuple[str, ...], given: Mapping[str, Any], now: float) -> Verified | Refused:
    """Check `timestamp`, `token`, `signature` and `parent-signature`, from JSON or a form."""
    timestamp, token = given.get("timestamp", ""), given.get("token")
    if not isinstance(timestamp, str | int):
        return Refused("no timestamp")
    if not isinstance(token, str) or not 0 < len(token) <= _TOKEN_LENGTH or not token.isascii() or not token.isprintable():
        return Refused("no token")
    signatures = [given[name] for name in ("signature", "parent-signature") if isinstance(given.get(name), str)]
    signed = f"{timestamp}{token}".encode("utf-8", "replace")
    rights = [hmac.new(key.encode(), signed, hashlib.sha256).hexdigest().encode() for key in keys]
    if not any(hmac.compare_digest(right, one.strip().lower().encode("utf-8", "replace")) for right in rights for one in signatures):
        return Refused("wrong signature")
    return Verified(token) if in_time(str(timestamp), now, WINDOW_S) else Refused("stale", signed=True)


def parse(body: bytes, _content_type: str) -> Parsed:
    """Read the one event."""
    try:
        content = orjson.loads(body)
        data = content["event-data"]
        name, at = str(data["event"]), float(data["timestamp"])
        recipient = mailbox(data.get("recipient")) or _only_recipient(_object(data.get("message")))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise UnreadableError(f"not an event of Mailgun's: {error!r}"[:200]) from None
    if name in IGNORED:
        return Parsed([], [])
    if name == "failed":
        kind, suppresses = _failed(data)
    elif name in KINDS:
        kind = KINDS[name]
        suppresses = SUPPRESSES.get(kind)
    else:
        return Parsed([], [words(name, 60)])
    variables, headers = _object(data.get("user-variables")), _object(_object(data.get("message")).get("headers"))
    message_id = bare_id(headers.get("message-id"))
    identity = (data["id"], data["timestamp"]) if data.get("id") else (_object(content.get("signature")).get("token", ""),)
    event = Event(
        kind=kind,
        occurred_at=at,
        recipient=recipient,
        key=natural_key(*identity),
        reason=_reason(data),
        attempt_id=attempt(variables.get("rotord-attempt")),
        message_id=message_id,
        provider_message_id=message_id,
        suppresses=suppresses,
    )
    return Parsed([event], [])


def _failed(data: dict[str, Any]) -> tuple[EventKind, Reason | None]:
    if data.get("severity") == "temporary":
        return EventKind.DEFERRED, None
    status, reason = _object(data.get("delivery-status")), data.get("reason")
    if isinstance(reason, str) and reason in SUPPRESSED:
        return EventKind.DROPPED, SUPPRESSED[reason]
    if status.get("code") == _PREVIOUSLY_BOUNCED:
        return EventKind.DROPPED, Reason.HARD_BOUNCE
    codes = f"{status.get('code') or ''} {status.get('enhanced-code') or ''}"
    # `old`: given up after trying for long; it was never refused for good
    hard = reason != "old" and blames_recipient(codes, f"{status.get('message') or ''} {status.get('description') or ''}")
    return EventKind.BOUNCED, Reason.HARD_BOUNCE if hard else None


def _only_recipient(message: dict[str, Any]) -> str:
    """Whom a message was to, where the event does not say it (`rejected`)."""
    recipients = message.get("recipients")
    if isinstance(recipients, list) and len(recipients) == 1:
        return mailbox(recipients[0])
    return mailbox(_object(message.get("headers")).get("to"))


def _reason(data: dict[str, Any]) -> str:
    status, rejected = _object(data.get("delivery-status")), _object(data.get("reject"))
    parts = (
        data.get("reason") or rejected.get("reason"),
        status.get("code"),
        status.get("message") or status.get("description") or rejected.get("description"),
        data.get("url"),
    )
    return words(" ".join(str(part) for part in parts if part))


def _object(value: object) -> dict[str, Any]:
    """Take what should be an object and may be a sentence that says why it is not."""
    return value if isinstance(value, dict) else {}


WEBHOOK: Final = Webhook(verify, parse, 406)  # the one answer besides 200 that ends its retries
