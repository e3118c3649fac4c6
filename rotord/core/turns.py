"""The pool of a (client, stream): whose turn it is among domains that go by different routes.

The domains of one route have two rings. In the first a domain is met while below 90 % of its limits; met above, it gets a place in the
second, which has its turn when the first has nobody. What is blocked is parked until its time, so a decision costs a few heap operations
however many addresses are blocked (a single ring of addresses stalled the loop for 35-195 ms when a domain was).
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from rotord.core.limits import NEAR_LIMIT
from rotord.core.model import Kind
from rotord.core.rotation import StrideRing
from rotord.core.senders import LOOKS, Place

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rotord.core.rotation import Member
    from rotord.core.routing import ProviderGate, Route
    from rotord.core.senders import AddressState

_BULK = Kind.BULK


class Turns:
    """The domains of a pool that share a route. `shift` is added to their virtual time to compare it with other routes'."""

    __slots__ = ("_rest_until", "fresh", "is_behind", "late", "route", "shift")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.fresh: StrideRing[Place] = StrideRing()
        self.late: StrideRing[Place] = StrideRing()
        self.shift = 0
        self.is_behind = False
        self._rest_until = -inf

    def rests_until(self, now: float) -> float:
        """Until when all are known to be blocked, `now` when that has to be looked up: what comes back early is ready in a ring."""
        if now < self._rest_until and not self.fresh.ready and not self.late.ready:
            return self._rest_until
        return now

    def first(self, kind: Kind, now: float, *, late: bool) -> tuple[Member[Place], AddressState] | None:
        """The domain whose turn it is and its address whose turn it is; what is blocked is parked on the way."""
        ring, share = (self.late, 1.0) if late else (self.fresh, NEAR_LIMIT)
        for _ in range(LOOKS):
            member = ring.first(now)
            if member is None:
                break
            place = member.item
            until = place.domain.open_at(now, kind, share)
            if until <= now:
                address = place.first_address(kind, now)
                if address is not None:
                    if late:
                        # Who comes back among the fresh stands where the late ones are by then.
                        self.fresh.virtual = max(self.fresh.virtual, member.pass_)
                    else:
                        place.be_fresh()
                    return member, address
                # Its addresses are blocked; or there were too many to look at in one go, then it is looked at again.
                until = max(now, place.addresses.next_at())
            elif not late:
                place.be_late()
            ring.park(member, until)
        return None

    def next_at(self) -> float:
        """When a domain may have its turn again: -inf at once, a time, or `inf` when only a settled attempt or a person can bring one."""
        self._rest_until = min(self.fresh.next_at(), self.late.next_at())
        return self._rest_until


class Stream:
    """A pool: for each kind of mail its turns by route. Kinds that meet the same gates share them."""

    __slots__ = ("_bulk", "_transactional", "_virtual", "name")

    def __init__(self, name: str, *, alike: bool) -> None:
        self.name = name
        self._bulk: list[Turns] = []
        self._transactional: list[Turns] = self._bulk if alike else []
        self._virtual = 0

    def clear(self) -> None:
        """Forget all domains."""
        for turns in (*self._bulk, *self._transactional):
            turns.fresh.clear()
            turns.late.clear()

    def lines(self) -> list[list[Turns]]:
        """One list of turns for each set of gates."""
        return [self._bulk] if self._bulk is self._transactional else [self._bulk, self._transactional]

    def turns_of(self, route: Route) -> list[Turns]:
        """The turns of a route, one for each set of gates."""
        found = []
        for line in self.lines():
            turns = next((turns for turns in line if turns.route is route), None)
            if turns is None:
                turns = Turns(route)
                line.append(turns)
            found.append(turns)
        return found

    def routes(self) -> list[Route]:
        """The routes that some domain with an address goes by."""
        return [turns.route for turns in self._bulk if len(turns.fresh)]

    def open_gates(self, kind: Kind, now: float) -> Collection[ProviderGate] | float:
        """The providers that could take a message now from an address that could send it, or when there may be one."""
        found: Collection[ProviderGate] = ()
        until = inf
        for turns in self._bulk if kind is _BULK else self._transactional:
            gates = turns.route.open_gates(now)
            if not gates:
                until = min(until, turns.route.opens_at(now))
            elif turns.first(kind, now, late=False) is None and turns.first(kind, now, late=True) is None:
                until = min(until, turns.next_at())
            else:
                found = {*found, *gates} if found else gates
        return found or max(now, until)

    def turn(self, kind: Kind, now: float, avoid: str = "") -> tuple[AddressState, ProviderGate] | float:
        """The address whose turn it is and the provider whose turn it is, or when there may be one."""
        line = self._bulk if kind is _BULK else self._transactional
        if len(line) != 1:
            return self._turn_among(line, kind, now, avoid)
        turns = line[0]
        if (until := turns.rests_until(now)) > now:
            return until
        found = turns.first(kind, now, late=False) or turns.first(kind, now, late=True)
        if found is None:
            return max(now, turns.next_at())
        gate = turns.route.pick(now, avoid)
        return turns.route.opens_at(now) if gate is None else (found[1], gate)

    def _turn_among(self, line: Sequence[Turns], kind: Kind, now: float, avoid: str) -> tuple[AddressState, ProviderGate] | float:
        """The same with several routes. Who misses a turn, for want of a provider or of room, stands at the present when it comes back."""
        gates = [turns.route.pick(now, avoid) for turns in line]
        for late in (False, True):
            best: tuple[AddressState, ProviderGate] | None = None
            lowest = 0
            for turns, gate in zip(line, gates, strict=True):
                found = None if gate is None else turns.first(kind, now, late=late)
                if gate is None or found is None:
                    turns.is_behind = True
                    continue
                pass_ = found[0].pass_
                if turns.is_behind:
                    turns.shift = max(turns.shift, self._virtual - pass_)
                    turns.is_behind = False
                if best is None or pass_ + turns.shift < lowest:
                    lowest, best = pass_ + turns.shift, (found[1], gate)
            if best is not None:
                self._virtual = lowest
                return best
        waits = [turns.route.opens_at(now) if gate is None else turns.next_at() for turns, gate in zip(line, gates, strict=True)]
        return max(now, min(waits, default=inf))
