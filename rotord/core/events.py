"""What happened to a message after it was taken: the one shape that every provider's posts, bounces and replies are brought to.

Events come late, twice and in any order. So an event carries a natural key by which the same one is known again, and a message's
`delivery` moves by rank (db.events), never by arrival.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import Final, NamedTuple


class EventKind(StrEnum):
    """What happened. `bounced`, `dropped` (its provider did not even try) and `complained` are the end of a message."""

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    DROPPED = "dropped"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    OPENED = "opened"
    CLICKED = "clicked"
    REPLIED = "replied"


class Reason(StrEnum):
    """Why a recipient gets no more mail (the reasons of rotord.suppressions that an event can bring)."""

    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"


#: a provider's words are kept up to so many characters
REASON_LENGTH: Final = 500
_ADDRESS_LENGTH: Final = 320
_ID_LENGTH: Final = 998
_ATTEMPT_DIGITS: Final = 19  # a bigint's


@dataclass(frozen=True, slots=True)
class Event:
    """One happening. `recipient` lower case; `occurred_at` on the provider's clock, seconds since 1970.

    An `occurred_at` of 0 says nothing: it is then when its post came.
    `key` tells events of one provider and time apart and is the same whenever this one is told again. What it is about: `attempt_id`
    (what we sent along), else `message_id` (the header, without angle brackets). `suppresses`: why its recipient gets no more of this
    client's mail; the parser decides, since the same kind may be for now (a full mailbox) or for good.
    """

    kind: EventKind
    occurred_at: float
    recipient: str
    key: bytes
    reason: str = ""
    attempt_id: int | None = None
    message_id: str = ""
    provider_message_id: str = ""
    suppresses: Reason | None = None
    outbox_id: int | None = None  # where it is proven, as by the token of an unsubscribe link
    mail: bytes = field(default=b"", compare=False, repr=False)  # of a reply: all of it, as it came
    rehearsed: bool = False  # it is about the tester whom a rehearsal's message reached, not about its recipient


class Parsed(NamedTuple):
    """What a post held: events, and the names of those that no table knows (they stay in the stored post)."""

    events: list[Event]
    unknown: list[str]


class RefusedDataError(Exception):
    """The database does not take what a post says."""


#: a provider that took so many messages, half an hour to two hours ago, and told of less than this share, does not reach us
SILENT_FROM: Final = 20
SILENT_SHARE: Final = 0.2
SILENT_SINCE_S: Final = 7200.0
SILENT_UNTIL_S: Final = 1800.0


def is_silent(taken: int, told_of: int) -> bool | None:
    """Say whether a provider that should report does not; None when it took too few to tell."""
    if taken and told_of >= SILENT_SHARE * taken:
        return False
    return True if taken >= SILENT_FROM else None


def natural_key(*parts: object) -> bytes:
    """16 bytes from what makes an event this one and no other; the parts cannot run into each other."""
    return blake2b("\x1f".join(str(part).replace("\x1f", " ") for part in parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def words(text: object, longest: int = REASON_LENGTH) -> str:
    """Text as it may be stored and shown in a line: no NUL, no control character, no half of a pair, cut."""
    line = "".join(c if c.isprintable() else " " for c in str(text)[: 2 * longest])
    return " ".join(line.encode("utf-8", "replace").decode().split())[:longest]


def mailbox(text: object) -> str:
    """Lower-case an address as it came, `Name <a@b>` too; "" for what is none, or is longer than one may be."""
    line = words(text, _ADDRESS_LENGTH) if isinstance(text, str) else ""
    if line.endswith(">"):
        line = line.rpartition("<")[2][:-1]
    line = line.lower()  # which makes some longer
    local, at, domain = line.rpartition("@")
    return line if at and local and domain and " " not in line and len(line) <= _ADDRESS_LENGTH else ""


def bare_id(text: object) -> str:
    """Take a Message-ID's angle brackets off."""
    return words(text, _ID_LENGTH).strip("<> ") if isinstance(text, str) else ""


def attempt(text: object) -> int | None:
    """Read back the attempt's id that went along; None for anything else."""
    line = str(text) if isinstance(text, str | int) else ""
    found = int(line) if line.isascii() and line.isdigit() and len(line) <= _ATTEMPT_DIGITS else 0
    return found if 0 < found < 2**63 else None


#: what a kind suppresses unless its provider says that it is for now
SUPPRESSES: Final = {
    EventKind.BOUNCED: Reason.HARD_BOUNCE,
    EventKind.COMPLAINED: Reason.COMPLAINT,
    EventKind.UNSUBSCRIBED: Reason.UNSUBSCRIBE,
}
