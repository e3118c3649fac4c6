"""The fleet as the pool keeps it: each client, domain and address with its caps, its pace and its places in the rings.

Owned by `SenderPool`, which is the only door; nothing here is shared with anybody else. What a decision asks of a value again and
again (is it active, until when does it rest, what does it weigh) is worked out when the value is put.
"""

from __future__ import annotations

from bisect import bisect_left
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, NamedTuple, assert_never
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rotord.core.model import Health, Kind, Pacing, Status
from rotord.core.pacing import Pacer
from rotord.core.rotation import Member, StrideRing
from rotord.core.window import ALWAYS, WindowClock, parse_window

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotord.core.limits import RollingCap
    from rotord.core.model import Address, Client, Domain
    from rotord.core.routing import Route

_BULK = Kind.BULK
# The quota an address without limits weighs in the rotation: a usual day of a warm address.
USUAL_DAY = 40.0
# How many blocked ones a decision passes over in one ring; the rest waits for the next, so that none stalls the loop.
LOOKS = 32
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
    BREAKER = "breaker"
    SLOTS = "slots"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"
    SENDING = "sending"
    UNCERTAIN = "uncertain"
    SETTLED = "settled"
    READY = "ready"


class Wait(NamedTuple):
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

    def restore(self, times: Iterable[float]) -> None:
        """`take` many, in any order."""
        ordered = sorted(times)
        for at in ordered[-1:]:
            self.take(at)
            self._sent += max(0, len(ordered) - bisect_left(ordered, self._since) - 1)

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

    __slots__ = ("alike", "cap", "clock", "domains", "fault", "is_active", "pace", "paced", "timed", "value")

    def __init__(self, value: Client, cap: RollingCap) -> None:
        self.cap = cap
        self.domains: dict[str, DomainState] = {}
        self.put(value)

    def put(self, value: Client) -> None:
        """Take a changed value; what is counted stays counted."""
        self.value = value
        self.cap.set_limits(value.per_hour, value.per_day, value.transactional_reserve)
        self.clock, self.fault = window_clock(value.slug, value.timezone, value.sending_window)
        self.paced = value.pacing is Pacing.EVEN
        self.pace = make_pace("client", value.slug, value.per_hour, value.per_day, self)
        self.is_active = value.status is Status.ACTIVE
        self.timed = value.sending_window is not None or self.fault != ""
        # Below the client, bulk and transactional mail meet the same gates, so one set of rings serves both.
        self.alike = not self.paced and value.transactional_reserve == 0


class AddressState:
    """A sender address: cap, pace, and its member of the ring in each of its domain's places (none: it is gone)."""

    __slots__ = ("cap", "domain", "members", "pace", "rests_until", "value", "weight")

    def __init__(self, value: Address, domain: DomainState, cap: RollingCap) -> None:
        self.cap = cap
        self.domain = domain
        self.members: tuple[tuple[Place, Member[AddressState]], ...] = ()
        self.put(value)

    def put(self, value: Address) -> None:
        """Take a changed value; what is counted stays counted."""
        self.value = value
        client = self.domain.client
        self.cap.set_limits(value.per_hour, value.per_day, client.value.transactional_reserve)
        self.pace = make_pace("address", value.email, value.per_hour, value.per_day, client)
        self.rests_until = _stopped_until(value)
        # Today's quota times health.
        self.weight = _quota(value.per_hour, value.per_day, USUAL_DAY) * HEALTH_WEIGHT[value.health]

    def enter(self) -> None:
        """Take a turn in each place of its domain."""
        used = self.cap.used_day
        self.members = tuple([(place, place.addresses.add(self, self.weight, used)) for place in self.domain.places])

    def charge(self, turns: int = 1) -> None:
        """Let it and its domain pay for a turn, whether rotation gave it or a pin did."""
        for place, member in self.members:
            member.pass_ += turns * member.stride
            if (fresh := place.fresh) is not None:
                fresh.pass_ += turns * fresh.stride
            if (late := place.late) is not None:
                late.pass_ += turns * late.stride

    def open_at(self, now: float, kind: Kind) -> float:
        """When this address itself may begin a message of `kind`."""
        at = self.cap.free_at(now, kind)
        if self.rests_until > at:
            at = self.rests_until
        if self.pace is not None and kind is _BULK:
            at = max(at, self.pace.opens_at(now))
        return at


class Place:
    """A domain's place in the turns of its pool, for all kinds of mail that meet the same gates, and the turns of its addresses.

    `late` is there once the domain was met near its limits: its place among those whose turn comes when nobody else can.
    """

    __slots__ = ("_fresh_ring", "_late_ring", "addresses", "domain", "fresh", "late")

    def __init__(self, domain: DomainState, fresh_ring: StrideRing[Place], late_ring: StrideRing[Place]) -> None:
        self.domain = domain
        self.addresses: StrideRing[AddressState] = StrideRing()
        self._fresh_ring = fresh_ring
        self._late_ring = late_ring
        self.fresh: Member[Place] | None = None
        self.late: Member[Place] | None = None

    def weigh(self, weight: float) -> None:
        """Come into the turns, change the share of them, or leave when there is no address; and be looked at again."""
        if not self.domain.addresses:
            self.leave()
        elif self.fresh is None:
            self.fresh = self._fresh_ring.add(self, weight, self.domain.cap.used_day)
        else:
            self._fresh_ring.reweigh(self.fresh, weight)
            if self.late is not None:
                self._late_ring.reweigh(self.late, weight)
            self.free()

    def leave(self) -> None:
        """Have no more turns."""
        self.be_fresh()
        if self.fresh is not None:
            self._fresh_ring.remove(self.fresh)
            self.fresh = None

    def be_late(self) -> None:
        """Take a place among the late ones, at the same point of the turns."""
        if self.late is None and self.fresh is not None:
            self.late = self._late_ring.add_at(self, self.fresh.stride, self.fresh.pass_)

    def be_fresh(self) -> None:
        """Leave the late ones."""
        if self.late is not None:
            self._late_ring.remove(self.late)
            self.late = None

    def refund(self) -> None:
        """Take a turn back that came to nothing."""
        if self.fresh is not None:
            self._fresh_ring.refund(self.fresh)
        if self.late is not None:
            self._late_ring.refund(self.late)

    def free(self) -> None:
        """Be looked at before the time."""
        if self.fresh is not None:
            self._fresh_ring.free(self.fresh)
        if self.late is not None:
            self._late_ring.free(self.late)

    def free_if_no_time_is_known(self) -> None:
        """Be looked at because something was settled, if only that could open it."""
        if self.fresh is not None and self.fresh.until == inf:
            self._fresh_ring.free(self.fresh)
        if self.late is not None and self.late.until == inf:
            self._late_ring.free(self.late)

    def first_address(self, kind: Kind, now: float) -> AddressState | None:
        """The address whose turn it is; what is blocked is parked on the way, at most LOOKS of them in one go."""
        ring = self.addresses
        for _ in range(LOOKS):
            member = ring.first(now)
            if member is None:
                break
            until = member.item.open_at(now, kind)
            if until <= now:
                return member.item
            ring.park(member, until)
        return None


class DomainState:
    """A sending domain: cap, pace, route, addresses, and one place for each set of gates (none: it has no address, or is gone)."""

    __slots__ = ("addresses", "cap", "client", "pace", "places", "rests_until", "route", "value")

    def __init__(self, value: Domain, client: ClientState, route: Route, cap: RollingCap) -> None:
        self.cap = cap
        self.addresses: dict[str, AddressState] = {}
        self.places: tuple[Place, ...] = ()
        self.put(value, client, route)

    def put(self, value: Domain, client: ClientState, route: Route) -> None:
        """Take a changed value; what is counted stays counted."""
        self.value, self.client, self.route = value, client, route
        self.cap.set_limits(value.per_hour, value.per_day, client.value.transactional_reserve)
        self.pace = make_pace("domain", value.name, value.per_hour, value.per_day, client)
        self.rests_until = _stopped_until(value)

    def weigh(self) -> float:
        """What its addresses may send a day together, at most what it may itself."""
        quota = sum(address.weight for address in self.addresses.values() if address.value.status is Status.ACTIVE)
        return max(1e-6, min(quota, _quota(self.value.per_hour, self.value.per_day, inf)))

    def open_at(self, now: float, kind: Kind, share: float = 1.0) -> float:
        """When the domain itself (its addresses aside) may begin a message of `kind`, with `share` of its limits."""
        at = self.cap.free_at(now, kind, share)
        if self.rests_until > at:
            at = self.rests_until
        if self.pace is not None and kind is _BULK:
            at = max(at, self.pace.opens_at(now))
        return at


def known_after(at: float, now: float) -> float:
    """Keep a time that is still to come; of one that has come nothing is missing but a slot, which an event brings: `inf`."""
    return at if at > now else inf


def resting_until(health: Health, until: float | None) -> float:
    """Until when health keeps it from sending; `-inf` when it does not."""
    match health:
        case Health.DISABLED:
            return inf
        case Health.COOLING:
            return inf if until is None else until
        case Health.HEALTHY | Health.SUSPICIOUS | Health.PROBATION:
            return -inf
        case _:
            assert_never(health)


def make_pace(scope: str, name: str, per_hour: int | None, per_day: int | None, client: ClientState) -> Pace | None:
    """An even spread for an entity with limits whose client wants one."""
    if not client.paced or (per_hour is None and per_day is None):
        return None
    return Pace(Pacer(f"{scope}/{name}", per_hour, per_day, client.clock))


def _stopped_until(value: Address | Domain) -> float:
    return resting_until(value.health, value.health_until) if value.status is Status.ACTIVE else inf


def window_clock(of: str, timezone: str, sending_window: str | None) -> tuple[WindowClock, str]:
    """Read a sending window; the second is what is wrong with it.

    The tables refuse unknown zones and malformed windows; if one is there all the same, only this one's bulk mail may wait for it.
    """
    try:
        zone = ZoneInfo(timezone)
        window = parse_window(sending_window) if sending_window else ALWAYS
    except (ZoneInfoNotFoundError, ValueError) as error:
        return WindowClock(ALWAYS, ZoneInfo("UTC")), f"time zone or sending window of {of} cannot be read: {error}"
    return WindowClock(window, zone), ""


def _quota(per_hour: int | None, per_day: int | None, default: float) -> float:
    hours = inf if per_hour is None else per_hour * 24.0
    quota = min(hours, inf if per_day is None else float(per_day))
    return max(1e-6, default if quota == inf else quota)
