"""The fleet as the pool keeps it: each client, domain and address with its caps, its pace and its places in the rings.

Owned by `SenderPool`, which is the only door; nothing here is shared with anybody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rotord.core.limits import RollingCap
from rotord.core.model import Health, Kind, Pacing, Status
from rotord.core.pacing import Pacer
from rotord.core.rotation import Member, StrideRing
from rotord.core.window import ALWAYS, WindowClock, parse_window

if TYPE_CHECKING:
    from rotord.core.model import Address, Client, Domain
    from rotord.core.routing import Route

# A domain whose hour or day is this full hands its turns over to the others, while they have room (deliverability: 90 %).
NEAR_LIMIT = 0.9
# The quota an address without limits weighs in the rotation: a usual day of a warm address.
USUAL_DAY = 40.0
HEALTH_WEIGHT = {Health.HEALTHY: 1.0, Health.SUSPICIOUS: 1.0, Health.PROBATION: 0.25, Health.COOLING: 1.0, Health.DISABLED: 1.0}


class Gate(StrEnum):
    """What a message can wait for; `rotord why` says it with its numbers."""

    LEASE = "lease"
    PAUSED = "paused"
    DISABLED = "disabled"
    SCHEDULED = "scheduled"
    THREAD = "thread"
    WINDOW = "window"
    HOUR = "hour"
    DAY = "day"
    PACING = "pacing"
    COOLING = "cooling"
    STICKY = "sticky"
    NO_ADDRESS = "no_address"
    PROVIDER_LIMIT = "provider_limit"
    PROVIDER_DOWN = "provider_down"
    SLOTS = "slots"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"
    SENDING = "sending"
    UNCERTAIN = "uncertain"
    SETTLED = "settled"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may begin: for what, on whose account, until when (`inf`: until something happens that no clock knows)."""

    gate: Gate
    until: float
    scope: str
    name: str
    detail: str = ""


class Pace:
    """How far an entity has come today on its even spread. Counts every message, also the transactional ones it does not delay."""

    __slots__ = ("_last_at", "_next_at", "_pacer", "_sent", "_since")

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._sent = 0
        self._since = -inf
        self._last_at: float | None = None
        self._next_at: float | None = None

    def opens_at(self, now: float) -> float:
        """When the next bulk message may begin."""
        self._turn(now)
        if self._next_at is None:
            self._next_at = self._pacer.next_at(self._sent, self._last_at, now)
        return max(now, self._next_at)

    def take(self, at: float) -> None:
        """Count a message that began at `at`."""
        self._turn(at)
        if at >= self._since:
            self._sent += 1
        self._last_at = at if self._last_at is None else max(at, self._last_at)
        self._next_at = None

    def give_back(self) -> None:
        """A message counted today was proven not accepted."""
        self._sent = max(0, self._sent - 1)
        self._next_at = None

    def _turn(self, now: float) -> None:
        since = self._pacer.counting_since(now)
        if since > self._since:
            self._since, self._sent, self._next_at = since, 0, None


class ClientState:
    """A client with its cap, its window and its pace. `fault` says why its bulk mail cannot be timed, if so; then it waits."""

    __slots__ = ("cap", "clock", "fault", "pace", "paced", "value")

    def __init__(self, value: Client) -> None:
        self.cap = RollingCap()
        self.put(value)

    def put(self, value: Client) -> None:
        """Take a changed value; what is counted stays counted."""
        self.value = value
        self.cap.set_limits(value.per_hour, value.per_day, value.transactional_reserve)
        self.clock, self.fault = _clock(value)
        self.paced = value.pacing is Pacing.EVEN
        self.pace = make_pace(f"client/{value.slug}", value.per_hour, value.per_day, self)


class AddressState:
    """A sender address: cap, pace, and one place in its domain's ring for each kind of mail."""

    __slots__ = ("cap", "domain", "members", "pace", "value")

    def __init__(self, value: Address, domain: DomainState) -> None:
        self.cap = RollingCap()
        self.members: dict[Kind, Member[AddressState]] = {}
        self.domain = domain
        self.put(value)

    def put(self, value: Address) -> None:
        """Take a changed value; what is counted stays counted."""
        self.value = value
        client = self.domain.client
        self.cap.set_limits(value.per_hour, value.per_day, client.value.transactional_reserve)
        self.pace = make_pace(f"address/{value.email}", value.per_hour, value.per_day, client)

    @property
    def weight(self) -> float:
        """Today's quota times health."""
        return _quota(self.value.per_hour, self.value.per_day, USUAL_DAY) * HEALTH_WEIGHT[self.value.health]

    @property
    def share(self) -> float:
        """What it adds to its domain's quota."""
        return self.weight if self.value.status is Status.ACTIVE else 0.0

    def open_at(self, now: float, kind: Kind) -> float:
        """When this address itself may begin a message of `kind`."""
        if self.value.status is not Status.ACTIVE:
            return inf
        at = max(resting_until(self.value.health, self.value.health_until), self.cap.free_at(now, kind))
        if kind is Kind.BULK and self.pace is not None:
            at = max(at, self.pace.opens_at(now))
        return max(at, now)


class DomainState:
    """A sending domain: cap, pace, route, and the rings of its addresses.

    It has two places a kind in its pool's rings: in the first it is met while below 90 % of its limits, in the second until they are used.
    """

    __slots__ = ("addresses", "cap", "client", "members", "pace", "quota", "rings", "route", "value")

    def __init__(self, value: Domain, client: ClientState, route: Route) -> None:
        self.cap = RollingCap()
        self.addresses: dict[str, AddressState] = {}
        self.quota = 0.0  # the sum of its addresses' shares
        self.rings: dict[Kind, StrideRing[AddressState]] = {kind: StrideRing() for kind in Kind}
        self.members: dict[Kind, list[Member[DomainState]]] = {kind: [] for kind in Kind}
        self.put(value, client, route)

    def put(self, value: Domain, client: ClientState, route: Route) -> None:
        """Take a changed value; what is counted stays counted."""
        self.value, self.client, self.route = value, client, route
        self.cap.set_limits(value.per_hour, value.per_day, client.value.transactional_reserve)
        self.pace = make_pace(f"domain/{value.name}", value.per_hour, value.per_day, client)

    @property
    def weight(self) -> float:
        """What its addresses may send a day together, at most what it may itself."""
        return max(1e-6, min(self.quota, _quota(self.value.per_hour, self.value.per_day, inf)))

    def open_at(self, now: float, kind: Kind, share: float = 1.0) -> float:
        """When the domain itself (its addresses aside) may begin a message of `kind`, with `share` of its limits."""
        if self.value.status is not Status.ACTIVE:
            return inf
        at = max(resting_until(self.value.health, self.value.health_until), self.cap.free_at(now, kind, share))
        if kind is Kind.BULK and self.pace is not None:
            at = max(at, self.pace.opens_at(now))
        return max(at, now)


def resting_until(health: Health, until: float | None) -> float:
    """Until when health keeps it from sending; `-inf` when it does not."""
    match health:
        case Health.DISABLED:
            return inf
        case Health.COOLING:
            return inf if until is None else until
        case Health.HEALTHY | Health.SUSPICIOUS | Health.PROBATION:
            return -inf


def make_pace(key: str, per_hour: int | None, per_day: int | None, client: ClientState) -> Pace | None:
    """An even spread for an entity with limits whose client wants one."""
    if not client.paced or (per_hour is None and per_day is None):
        return None
    return Pace(Pacer(key, per_hour, per_day, client.clock))


def _clock(client: Client) -> tuple[WindowClock, str]:
    # The tables refuse unknown zones and malformed windows; if one is there all the same, only this client's bulk mail may wait for it.
    try:
        zone = ZoneInfo(client.timezone)
        window = parse_window(client.sending_window) if client.sending_window else ALWAYS
    except (ZoneInfoNotFoundError, ValueError) as error:
        return WindowClock(ALWAYS, ZoneInfo("UTC")), f"time zone or sending window of {client.slug} cannot be read: {error}"
    return WindowClock(window, zone), ""


def _quota(per_hour: int | None, per_day: int | None, default: float) -> float:
    hours = inf if per_hour is None else per_hour * 24.0
    quota = min(hours, inf if per_day is None else float(per_day))
    return max(1e-6, default if quota == inf else quota)
