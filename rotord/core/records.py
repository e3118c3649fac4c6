"""What the engine and its store hand each other: rows on their way in, verdicts on their way out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from rotord.core.model import Address, Campaign, Client, Domain, Outcome, Reply
    from rotord.core.pool import Lane


@dataclass(frozen=True, slots=True)
class Term:
    """One won lease. `now` is the database's clock when it was won; `ids_from` is above every attempt id ever written.

    `previous`: who had the epoch right before it; None if that is not known.
    """

    holder: UUID
    epoch: int
    now: float
    ids_from: int
    previous: UUID | None = None


class Cursor(NamedTuple):
    """A place in a lane's order; the claim asks for what comes after it."""

    rank: int = -(2**31)
    due_at: float = 0.0
    id: int = 0

    @property
    def before(self) -> Cursor:
        """The place right before this one."""
        return self._replace(id=self.id - 1)


class LaneRequest(NamedTuple):
    """Ask a lane for up to `limit` rows after `after`."""

    key: int
    limit: int
    after: Cursor


class Candidate(NamedTuple):
    """A queued row that may be begun. `first_at` is None before its first attempt. `avoid`: the provider that failed its last one."""

    id: int
    lane_key: int
    rank: int
    due_at: float
    bytes: int
    attempts: int
    first_at: float | None
    message_id: str | None
    thread_key: str | None
    avoid: str = ""


class Payload(NamedTuple):
    """The outbox row behind a candidate, as stored: jsonb parsed, nothing checked. With its thread's chain of Message-IDs."""

    id: int
    client: str
    recipient: str
    recipient_name: str | None
    subject: str
    body_text: str | None
    body_html: str | None
    stream: str
    campaign: str | None
    kind: str
    reply_to: str | None
    headers: object
    attachments: object
    metadata: object
    last_message_id: str = ""
    references: Sequence[str] = ()


class Begin(NamedTuple):
    """A reserved attempt that wants to begin. `began_at` is when it was reserved: limits count it from then on."""

    outbox_id: int
    attempt_id: int
    address: str
    domain: str
    client: str
    provider: str
    timeout_s: float
    message_id: str
    began_at: float


class Verdict(StrEnum):
    """What the begin statement found: begun, ended there and then, or behind another message of its thread."""

    SENDING = "sending"
    CANCELLED = "cancelled"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"
    WAITING = "waiting"


class Next(StrEnum):
    """Where a message goes after an attempt."""

    SENT = "sent"
    FAILED = "failed"
    RETRY = "retry"
    UNCERTAIN = "uncertain"


class Step(NamedTuple):
    """What follows from a reply: where to; for a retry when, pinned to which address ('' = as it was), avoiding which provider."""

    next: Next
    due_at: float = 0.0
    pin: str = ""
    avoid: str = ""


class Settlement(NamedTuple):
    """The end of one attempt. `finished_at` on the database's clock as the node carries it; None counts it until its deadline."""

    attempt_id: int
    outbox_id: int
    reply: Reply
    finished_at: float | None
    step: Step
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class LaneRow:
    """A lane that has queued rows. `first`: where the first of them is."""

    key: int
    lane: Lane
    first: Cursor


@dataclass(frozen=True, slots=True)
class Ripened:
    """What the ripener did, and when the next scheduled row is due (None: none is)."""

    count: int
    next_due_at: float | None


@dataclass(frozen=True, slots=True)
class Fleet:
    """All of it, or what changed of it. `mark` asks for what comes after. Order of use: clients, domains, addresses."""

    mark: str
    clients: Sequence[Client] = ()
    domains: Sequence[Domain] = ()
    addresses: Sequence[Address] = ()
    gone_clients: Sequence[str] = ()
    gone_domains: Sequence[str] = ()
    gone_addresses: Sequence[str] = ()
    paused: frozenset[tuple[str, str]] | None = None
    campaigns: Sequence[Campaign] | None = None  # all that have a rule of their own; None with `paused`


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An attempt of the ledger that nobody answered for."""

    attempt_id: int
    outbox_id: int
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """How a provider is doing, as the leader publishes it."""

    provider: str
    kind: str
    up: bool | None
    ready: int
    in_flight: int
    capacity: int
    reason: str
    next_try_in_s: float | None
    limits: Mapping[str, object] = field(default_factory=dict)
