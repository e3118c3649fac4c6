"""The words rotord thinks in: fleet, message, attempt and reply, as values that cannot change.

Owns no behaviour beyond what a value knows about itself. Everything here has been checked at the edge it came
through (a constraint, the fleet file, the settings), so code that holds one of these never checks it again.
What is made for each message is a tuple: making a frozen dataclass takes three times as long.
Times named `*_at` and every `now: float` in core are seconds since 1970-01-01 UTC on the database's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date


class Kind(StrEnum):
    """What a message is: bulk obeys windows, pacing and every suppression; transactional only what law demands."""

    BULK = "bulk"
    TRANSACTIONAL = "transactional"


class Status(StrEnum):
    """A person's word on a client, domain or address."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class Health(StrEnum):
    """What rotord itself concluded about an address or a domain (contract.md 5.3)."""

    HEALTHY = "healthy"
    SUSPICIOUS = "suspicious"
    COOLING = "cooling"
    PROBATION = "probation"
    DISABLED = "disabled"


class Pacing(StrEnum):
    """How a client's bulk mail is spread: over its window with jitter, or as fast as the caps allow."""

    EVEN = "even"
    NONE = "none"


class Outcome(StrEnum):
    """What became of one attempt. Only the three in the middle prove that the provider does not have the message."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"
    UNCERTAIN = "uncertain"

    @property
    def proves_not_accepted(self) -> bool:
        """True when a resend cannot make a second copy."""
        return self in {Outcome.DEFERRED, Outcome.REJECTED, Outcome.NOT_SENT}


class Blame(StrEnum):
    """Whose fault a refusal is; an address is never blamed for its provider or the network."""

    RECIPIENT = "recipient"
    SENDER = "sender"
    CONTENT = "content"
    ACCOUNT = "account"
    RATE = "rate"
    PROVIDER = "provider"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Client:
    """One customer of the agency. `None` as a limit means none."""

    slug: str
    name: str = ""
    timezone: str = "UTC"
    per_hour: int | None = None
    per_day: int | None = None
    weight: float = 1.0
    transactional_reserve: float = 0.0
    sending_window: str | None = None
    pacing: Pacing = Pacing.NONE
    status: Status = Status.ACTIVE
    unsubscribe_host: str = ""


@dataclass(frozen=True, slots=True)
class Domain:
    """A sending domain: it belongs to one client and one of that client's streams."""

    name: str
    client: str
    stream: str = "main"
    providers: tuple[str, ...] = ()
    per_hour: int | None = None
    per_day: int | None = None
    warmup: str = "none"
    warmup_started_on: date | None = None
    status: Status = Status.ACTIVE
    health: Health = Health.HEALTHY
    health_until: float | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """A sender address. `used_day` messages were sent elsewhere before moving in, counted at `used_day_at`."""

    email: str
    domain: str
    display_name: str = ""
    per_hour: int | None = None
    per_day: int | None = None
    status: Status = Status.ACTIVE
    health: Health = Health.HEALTHY
    health_until: float | None = None
    used_day: int = 0
    used_day_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Campaign:
    """What a person said of a campaign that its messages must wait for, beside its pause."""

    client: str
    name: str
    sending_window: str | None = None
    per_hour: int | None = None
    per_day: int | None = None


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """What a configured provider may be asked for. The month is the calendar month, UTC."""

    name: str
    per_second: float | None = None
    per_hour: int | None = None
    per_day: int | None = None
    per_month: int | None = None
    max_in_flight: int = 100
    weight: float = 1.0
    is_month_spread: bool = False
    #: of what is open the lowest is taken first, turns by weight among equals
    preference: float = 0.0


@dataclass(frozen=True, slots=True)
class Attachment:
    """One file of a message, decoded."""

    filename: str
    content_type: str
    content: bytes


class Sender(NamedTuple):
    """The address a message leaves from, as rendering needs it."""

    email: str
    display_name: str = ""


class Message(NamedTuple):
    """An outbox row with everything rendering needs. `message_id` has its angle brackets."""

    id: int
    client: str
    recipient: str
    subject: str
    message_id: str
    recipient_name: str = ""
    body_text: str | None = None
    body_html: str | None = None
    stream: str = "main"
    campaign: str = ""
    kind: Kind = Kind.BULK
    reply_to: str = ""
    headers: Mapping[str, str] = MappingProxyType({})
    attachments: tuple[Attachment, ...] = ()
    metadata: Mapping[str, object] = MappingProxyType({})
    in_reply_to: str = ""
    references: tuple[str, ...] = ()


class Reply(NamedTuple):
    """What one attempt ended with: a value, never an exception.

    `code` is the provider's own (an SMTP reply code with its enhanced code, an HTTP status), `text` its words, cleaned and cut.
    """

    outcome: Outcome
    blame: Blame | None = None
    code: str = ""
    text: str = ""
    provider_message_id: str = ""
    retry_after_s: float | None = None
