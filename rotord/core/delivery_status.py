"""RFC 3464: what a `message/delivery-status` says of each recipient, and RFC 3462's frame around it.

Strict about where a fact may stand, lenient about how it is written: groups of fields between empty lines, a recipient's address only from
Original-Recipient and Final-Recipient (and the X- fields that some servers write instead), a failure only from Action or, without one,
from a Status or a Diagnostic-Code of class 5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from rotord.core import received
from rotord.core.bounce_class import BounceClass, classify, status_of
from rotord.core.received import Part

#: more recipients than this are a mailing list's report, and none of ours: we send to one
RECIPIENTS: Final = 20
_BLOCKS: Final = 200
_FAILED: Final = re.compile(r"fail|error|undeliver|bounce|expired", re.IGNORECASE)
_GOOD: Final = re.compile(r"deliver(ed|y)?\b|relay|expand|success", re.IGNORECASE)
_DELAYED: Final = re.compile(r"delay|defer", re.IGNORECASE)
_TYPES: Final = frozenset({"message/delivery-status", "message/global-delivery-status"})
_EMPTY_LINE: Final = re.compile(r"\n[ \t]*\n")
_BEGIN_A_GROUP: Final = frozenset({"final-recipient", "original-recipient"})
_FIRST_FIELD: Final = re.compile(
    r"^(?:reporting-mta|original-recipient|final-recipient|action)[ \t]*:[ \t]*[a-z0-9]", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """One recipient's group. `original` and `final` are addresses or ""; `verdict` None: it was delivered, or nothing is said."""

    original: str
    final: str
    status: str
    diagnostic: str
    verdict: BounceClass | None


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """The whole report. `envelope_id` is what we gave as ENVID, if it came back."""

    envelope_id: str
    recipients: tuple[RecipientStatus, ...]


def find(mail: Part) -> DeliveryStatus | None:
    """The mail's first delivery-status; None if it has none. One inside a returned message is not looked at."""
    part = next((part for part in _own_parts(mail) if part.content_type in _TYPES), None)
    if part is None:
        return None
    return _read(part.text())


def find_in_words(words: str) -> DeliveryStatus | None:
    """The fields of a report whose parts came apart on the way, so that they stand in the text; None for a text without."""
    start = _FIRST_FIELD.search(words)
    if start is None:
        return None
    found = _read(words[start.start() :])
    return found if found.recipients else None


def _read(text: str) -> DeliveryStatus:
    blocks = [group for block in _EMPTY_LINE.split(text)[:_BLOCKS] if block.strip() for group in _groups(block.strip("\n"))]
    envelope_id = next((block.header("original-envelope-id") for block in blocks if block.has("original-envelope-id")), "")
    recipients = [_recipient(block) for block in blocks if _names_somebody(block)]
    if not recipients:  # without the empty line between the two kinds of group
        recipients = [_recipient(block) for block in blocks if block.has("action") or block.has("status")]
    return DeliveryStatus(envelope_id, tuple(recipients[:RECIPIENTS]))


def _groups(block: str) -> list[Part]:
    """A block's groups: some servers leave out the empty line between two recipients, so that a field comes again."""
    whole = received.headers_only(block)
    groups: list[list[tuple[str, str]]] = [[]]
    for name, value in whole.headers:
        if name in _BEGIN_A_GROUP and any(name == seen for seen, _ in groups[-1]):
            groups.append([])
        groups[-1].append((name, value))
    return [Part(tuple(group), b"") for group in groups]


def _own_parts(mail: Part) -> list[Part]:
    """The mail's parts, without what is inside a message it returns."""
    if mail.content_type.startswith("message/"):
        return [mail]
    return [mail, *(found for part in mail.parts for found in _own_parts(part))]


def _names_somebody(block: Part) -> bool:
    return any(block.has(name) for name in ("final-recipient", "original-recipient", "x-actual-recipient"))


def _recipient(block: Part) -> RecipientStatus:
    status, diagnostic = status_of(block.header("status")) or block.header("status"), _typed(block.header("diagnostic-code"))
    return RecipientStatus(
        original=_address(block.header("original-recipient")),
        final=_address(block.header("final-recipient")) or _address(block.header("x-actual-recipient")),
        status=status if re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", status) else "",
        diagnostic=diagnostic,
        verdict=_verdict(block.header("action"), status, diagnostic),
    )


def _verdict(action: str, status: str, diagnostic: str) -> BounceClass | None:
    if _DELAYED.search(action):
        return BounceClass.DELAYED
    if _FAILED.search(action):
        return classify(status if status[:1] in {"4", "5"} else "", diagnostic)
    if _GOOD.search(action) or status.startswith("2"):
        return None
    told = status or status_of(diagnostic) or diagnostic.strip()[:3]
    if told.startswith("5"):
        return classify(status, diagnostic)
    return BounceClass.DELAYED if told.startswith("4") else None


def _typed(field: str) -> str:
    """A field's value without its type: `smtp; 550 ...`."""
    kind, semicolon, value = field.partition(";")
    return value.strip() if semicolon and re.fullmatch(r"\s*[A-Za-z0-9-]{1,40}\s*(\([^()]*\))?\s*", kind) else field.strip()


def _address(field: str) -> str:
    value = _typed(field)
    if re.match(r"\s*x\.?400", field, re.IGNORECASE):
        return ""
    found = received.address(value)
    if not found and value.lower().startswith("rfc822"):
        found = received.address(value[6:].lstrip(";: "))
    return found
