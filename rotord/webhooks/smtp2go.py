"""SMTP2GO: one event a post, JSON or (its default) a form; no signature, but a bearer token that its webhook's settings hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from rotord.core.events import SUPPRESSES, Event, EventKind, Parsed, Reason, attempt, bare_id, mailbox, natural_key, words
from rotord.webhooks.base import UnreadableError, Webhook, verify_bearer

#: its pages spell them in several ways
KINDS: Final = {
    "processed": EventKind.ACCEPTED,
    "delivered": EventKind.DELIVERED,
    "bounce": EventKind.BOUNCED,
    "bounced": EventKind.BOUNCED,
    "hard-bounced": EventKind.BOUNCED,
    "soft-bounced": EventKind.DEFERRED,
    "spam": EventKind.COMPLAINED,
    "spam_complaint": EventKind.COMPLAINED,
    "unsubscribe": EventKind.UNSUBSCRIBED,
    "unsubscribed": EventKind.UNSUBSCRIBED,
    "reject": EventKind.DROPPED,
    "rejected": EventKind.DROPPED,
    "open": EventKind.OPENED,
    "opened": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "clicked": EventKind.CLICKED,
}
IGNORED: Final = frozenset({"resubscribe", "resubscribed"})
#: one mail has at most 300 recipients
MOST_RECIPIENTS: Final = 300
_FIELDS: Final = 500


def parse(body: bytes, content_type: str) -> Parsed:
    """Read the event; of a mail that was taken, one for each recipient."""
    data = _fields(body, content_type)
    name = str(data.get("event", "")).lower().replace(" ", "-")
    if name in IGNORED:
        return Parsed([], [])
    kind = KINDS.get(name)
    if kind is None:
        return Parsed([], [words(name or "(no event)", 60)])
    if kind is EventKind.BOUNCED and str(data.get("bounce", "")).lower() == "soft":
        kind = EventKind.DEFERRED  # for now, by its own word
    one = data.get("rcpt") or data.get("email")
    recipients = [one] if one else data.get("recipients") or []
    recipients = recipients if isinstance(recipients, list) else [recipients]
    header = {key.lower(): value for key, value in data.items()}
    text = " ".join(str(data[key]) for key in ("reason", "message", "context", "url", "link") if data.get(key))
    told_at = data.get("time") or data.get("timestamp")
    try:
        at = _seconds(told_at)
    except (KeyError, ValueError, TypeError, OverflowError):
        raise UnreadableError("no time in it") from None
    events = [
        Event(
            kind=kind,
            occurred_at=at,
            recipient=mailbox(recipient),
            key=natural_key(data.get("email_id", ""), name, mailbox(recipient), told_at, data.get("url") or data.get("link") or ""),
            reason=words(text),
            attempt_id=attempt(header.get("x-rotord-attempt")),
            message_id=bare_id(header.get("message-id")),
            provider_message_id=words(data.get("email_id", ""), 200),
            suppresses=_suppresses(kind, text.lower()),
        )
        for recipient in recipients[:MOST_RECIPIENTS]
    ]
    return Parsed(events, [])


def _suppresses(kind: EventKind, text: str) -> Reason | None:
    """A reject is about the recipient only when it stands on a list (others: our sender, a sandboxed key)."""
    if kind is not EventKind.DROPPED:
        return SUPPRESSES.get(kind)
    if "unsubscri" in text:
        return Reason.UNSUBSCRIBE
    listed = "suppress" in text
    if "complain" in text or (listed and "spam" in text):
        return Reason.COMPLAINT
    return Reason.HARD_BOUNCE if listed or "bounced" in text else None


def _fields(body: bytes, content_type: str) -> dict[str, Any]:
    try:
        if "json" in content_type.lower() or body.lstrip()[:1] == b"{":
            content = orjson.loads(body)
        else:
            content = {}
            for name, value in parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_FIELDS):
                key = name.removesuffix("[]")
                content[key] = [*content[key], value] if isinstance(content.get(key), list) else [value] if key == "recipients" else value
    except ValueError as error:
        raise UnreadableError(str(error)[:200]) from None
    if not isinstance(content, dict):
        raise UnreadableError("not an object")
    return content


def _seconds(text: object) -> float:
    line = str(text).strip()
    if line.isascii() and line.isdigit():
        return float(line)
    moment = datetime.fromisoformat(line)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


WEBHOOK: Final = Webhook(verify_bearer, parse, 401)
