"""Complaints: RFC 5965 reports (ARF), also those that are only almost such.

A complaint is what `Feedback-Type: abuse` or `fraud` says (some write spam or complaint); auth-failure, virus, not-spam, opt-out and
dmarc are none. The report's own fields are looked for in a `message/feedback-report` part, else in a text part that begins like one (some
senders use multipart/mixed or text/plain), and Hotmail's JMRP, which has no fields at all, is known by its sender. Whom it is about comes
from the message that came back: recipients are often redacted, our ids are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotord.core import notices, received

if TYPE_CHECKING:
    from rotord.core.received import Part

_COMPLAINTS: Final = frozenset({"abuse", "fraud", "complaint", "spam"})
_JMRP: Final = re.compile(r"^(staff@(?:hotmail|outlook|live)\.com|[a-z0-9._-]*@(?:jmrp|snds)\.[a-z0-9.-]*)$")
_FIELD: Final = re.compile(r"^feedback-type[ \t]*:", re.IGNORECASE | re.MULTILINE)
_FIELDS_LENGTH: Final = 8_000


@dataclass(frozen=True, slots=True)
class Complaint:
    """`recipient` "" where it is redacted; `attempt_id` and `message_id` are what came back of ours, unproven."""

    recipient: str
    feedback_type: str
    reporter: str
    attempt_id: int | None = None
    message_id: str = ""
    rehearsed: bool = False


def complaint(mail: Part) -> Complaint | None:
    """Read a complaint; None for a mail that is none, and for a report of another type."""
    fields = _fields(mail)
    sender = received.address(mail.header("from"))
    if fields is None and not _JMRP.match(sender):
        return None
    feedback_type = fields.header("feedback-type").lower() if fields is not None else "abuse"
    if feedback_type not in _COMPLAINTS:
        return None
    returned = notices.returned_message(mail)
    return Complaint(_whom(fields, returned), feedback_type, sender, *notices.identity(returned), notices.is_rehearsed(returned))


def is_feedback_report(mail: Part) -> bool:
    """Tell whether it is a report of any type, so that one that is no complaint is taken for nothing else."""
    return _fields(mail) is not None or "feedback-report" in mail.header("content-type").lower()


def _fields(mail: Part) -> Part | None:
    for part in mail.walk():
        if part.content_type in {"message/rfc822", "text/rfc822-headers"} and part is not mail:
            break
        if part.content_type == "message/feedback-report":
            return received.headers_only(part.text().lstrip()[:_FIELDS_LENGTH])
    for part in (mail, *mail.parts):
        if part.content_type == "text/plain" and not part.parts:
            text = part.text()[:_FIELDS_LENGTH]
            start = _FIELD.search(text)
            block = text[text.rfind("\n\n", 0, start.start()) + 1 :].lstrip() if start else ""
            fields = received.headers_only(block)
            if fields.has("feedback-type") and (fields.has("user-agent") or fields.has("version")):
                return fields
    return None


def _whom(fields: Part | None, returned: Part | None) -> str:
    """RFC 5965's own fields first, then whom the message was written to; a redacted one is nobody."""
    sources = [(fields, name) for name in ("original-rcpt-to", "removal-recipient")] + [
        (returned, name) for name in ("x-hmxmroriginalrecipient", "to")
    ]
    for part, name in sources:
        found = received.address(part.header(name)) if part is not None else ""
        if found and not re.match(r"(redacted|undisclosed|x+@|\*+@|user@redacted)", found):
            return found
    return ""
