"""The sender pool: the one door to limits, rotation, pacing and routing.

`choose` reserves: every cap of the assignment counts the message from then on, until `settle` says what became of it or `cancel` that it
did not begin. The pool is mutable but deterministic: it reads no clock and draws no lots, so that a pool rebuilt from the ledger
(`restore`) decides as if it had never stopped. One task owns it.

A (client, stream) has for each kind of mail and each route (list of providers) two rings of domains: one for domains below 90 % of their
limits, one for all; a domain has a ring of addresses. What is blocked is parked until its time, so a decision costs a few heap
operations however many addresses are blocked (a single ring of addresses stalled the loop for 35-195 ms when a domain was).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from rotord.core.model import Health, Kind, Outcome, Status
from rotord.core.rotation import StrideRing
from rotord.core.routing import ProviderGate, Route
from rotord.core.senders import NEAR_LIMIT, AddressState, ClientState, DomainState, Gate, Wait

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotord.core.model import Address, Client, Domain, ProviderLimits
    from rotord.core.rotation import Member

# The two rings of a pool's route, by the part of a domain's limits that may be used before it is passed over.
TIERS = (NEAR_LIMIT, 1.0)


class Lane(NamedTuple):
    """What the claim asks for: messages that meet the same gates. `pin_kind`: '' rotation, sender, thread or retry."""

    client: str
    stream: str
    kind: Kind
    campaign: str = ""
    pin: str = ""
    pin_kind: str = ""


@dataclass(frozen=True, slots=True)
class Open:
    """Up to `places` messages of a lane may begin now (`choose` may still find less: it looks at addresses)."""

    places: int


@dataclass(frozen=True, slots=True)
class Move:
    """A lane's pinned address is no more; its messages go on from `pin` ('' = rotation)."""

    pin: str


@dataclass(frozen=True, slots=True)
class Fail:
    """A lane's messages can never be sent, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """A reserved way out. Hand it back to `settle` or `cancel`, exactly once."""

    client: ClientState
    domain: DomainState
    address: AddressState
    provider: ProviderGate
    began_at: float

    @property
    def email(self) -> str:
        """The sender address."""
        return self.address.value.email


class LedgerRow(NamedTuple):
    """An attempt of the last 24 h as the ledger tells it; `counts_at` = its finish, at the latest (or if cut off) its deadline."""

    address: str
    domain: str
    client: str
    provider: str
    began_at: float
    counts_at: float
    outcome: Outcome | None


class SenderPool:
    """See the module. `thread_wait_s`: how long a thread waits for its cooling address before it moves."""

    def __init__(self, providers: Iterable[ProviderLimits], thread_wait_s: float = 86400.0) -> None:
        self.providers = {limits.name: ProviderGate(limits) for limits in providers}
        self.clients: dict[str, ClientState] = {}
        self.domains: dict[str, DomainState] = {}
        self.addresses: dict[str, AddressState] = {}
        self.paused: frozenset[tuple[str, str]] = frozenset()
        self._thread_wait_s = thread_wait_s
        self._routes: dict[tuple[str, ...], Route] = {}
        self._rings: dict[tuple[str, str, Kind], dict[Route, list[StrideRing[DomainState]]]] = {}

    # -- the fleet ---------------------------------------------------------------------------------------------------------------

    def set_paused(self, paused: frozenset[tuple[str, str]]) -> None:
        """What a person paused that is no row of the fleet: (kind, name) with kind all, stream, campaign or provider."""
        self.paused = paused
        for name, gate in self.providers.items():
            gate.paused = ("provider", name) in paused

    def put_client(self, value: Client) -> None:
        """Add or change a client; its domains follow its time zone, pacing and reserve."""
        state = self.clients.get(value.slug)
        if state is None:
            self.clients[value.slug] = ClientState(value)
            return
        state.put(value)
        for domain in [domain for domain in self.domains.values() if domain.client is state]:
            self.put_domain(domain.value)

    def remove_client(self, slug: str) -> None:
        """Forget a client and what it owns."""
        state = self.clients.pop(slug, None)
        for domain in [domain for domain in self.domains.values() if domain.client is state]:
            self.remove_domain(domain.value.name)

    def put_domain(self, value: Domain) -> None:
        """Add or change a domain; its addresses follow. Its client must be there."""
        client, route = self.clients[value.client], self._route(value.providers)
        state = self.domains.get(value.name)
        if state is None:
            state = self.domains[value.name] = DomainState(value, client, route)
        else:
            self._leave_rings(state)
            state.put(value, client, route)
        self._enter_rings(state)
        for address in list(state.addresses.values()):
            self.put_address(address.value)

    def remove_domain(self, name: str) -> None:
        """Forget a domain and its addresses."""
        state = self.domains.pop(name, None)
        if state is not None:
            self._leave_rings(state)
            for email in list(state.addresses):
                del self.addresses[email]

    def put_address(self, value: Address) -> None:
        """Add or change an address. Its domain must be there."""
        domain = self.domains[value.domain]
        state = self.addresses.get(value.email)
        if state is not None and state.domain is not domain:
            self.remove_address(value.email)
            state = None
        if state is None:
            state = self.addresses[value.email] = domain.addresses[value.email] = AddressState(value, domain)
            if value.used_day:
                self._count_elsewhere(state)
        else:
            domain.quota -= state.share
            state.put(value)
        domain.quota += state.share
        for kind in Kind:
            ring = domain.rings[kind]
            if kind in state.members:
                ring.reweigh(state.members[kind], state.weight)
                ring.free(state.members[kind])
            else:
                state.members[kind] = ring.add(state, state.weight, state.cap.used_day)
        self._domain_changed(domain)

    def remove_address(self, email: str) -> None:
        """Forget an address. What it sent stays counted for its domain and client."""
        state = self.addresses.pop(email, None)
        if state is not None:
            del state.domain.addresses[email]
            state.domain.quota -= state.share
            for kind, member in state.members.items():
                state.domain.rings[kind].remove(member)
            self._domain_changed(state.domain)

    def _count_elsewhere(self, state: AddressState) -> None:
        value = state.value
        for cap in (state.cap, state.domain.cap, state.domain.client.cap):
            cap.restore(value.used_day_at, value.used_day)

    def _route(self, names: tuple[str, ...]) -> Route:
        if names not in self._routes:
            self._routes[names] = Route([self.providers[name] for name in names if name in self.providers])
        return self._routes[names]

    def _ring_of(self, domain: DomainState, kind: Kind) -> list[StrideRing[DomainState]]:
        routes = self._rings.setdefault((domain.value.client, domain.value.stream, kind), {})
        return routes.setdefault(domain.route, [StrideRing() for _ in TIERS])

    def _enter_rings(self, domain: DomainState) -> None:
        for kind in Kind:
            domain.members[kind] = [ring.add(domain, domain.weight, domain.cap.used_day) for ring in self._ring_of(domain, kind)]

    def _leave_rings(self, domain: DomainState) -> None:
        for kind in Kind:
            for ring, member in zip(self._ring_of(domain, kind), domain.members[kind], strict=True):
                ring.remove(member)

    def _domain_changed(self, domain: DomainState) -> None:
        for kind in Kind:
            for ring, member in zip(self._ring_of(domain, kind), domain.members[kind], strict=True):
                ring.reweigh(member, domain.weight)
                ring.free(member)

    # -- the past ----------------------------------------------------------------------------------------------------------------

    def restore(self, rows: Iterable[LedgerRow]) -> None:
        """Count what the ledger holds, in the order of `counts_at`. Call it once, after the fleet and before the first `choose`."""
        for row in rows:
            if (gate := self.providers.get(row.provider)) is not None:
                gate.cap.restore(row.counts_at)
            if row.outcome is not None and row.outcome.proves_not_accepted:
                continue
            for state in (self.addresses.get(row.address), self.domains.get(row.domain), self.clients.get(row.client)):
                if state is not None:
                    state.cap.restore(row.counts_at)
                    if state.pace is not None:
                        state.pace.take(row.began_at)
            if (address := self.addresses.get(row.address)) is not None:
                self._charge(address)

    # -- decisions ---------------------------------------------------------------------------------------------------------------

    def lane(self, lane: Lane, now: float) -> Open | Wait | Move | Fail:
        """Say whether messages of a lane could begin now; cheap, so that blocked lanes are never claimed."""
        wait = self.client_gate(lane, now)
        if wait is not None:
            return wait
        if lane.pin:
            return self._pinned(lane, now)
        routes = self._rings.get((lane.client, lane.stream, lane.kind), {})
        if not any(len(tiers[-1]) for tiers in routes.values()):
            return Wait(Gate.NO_ADDRESS, inf, "stream", f"{lane.client}/{lane.stream}", "it has no address")
        until = inf
        slots = 0
        for route, tiers in routes.items():
            if not route.is_open(now):
                until = min(until, route.opens_at(now))
            elif self._first(tiers[-1], lane.kind, TIERS[-1], now) is None:
                until = min(until, tiers[-1].next_at())
            else:
                slots += sum(gate.slots for gate in route.gates if gate.is_open(now))
        if slots <= 0:
            return Wait(Gate.SLOTS, until, "stream", f"{lane.client}/{lane.stream}")
        return Open(int(min(slots, self.clients[lane.client].cap.room(now, lane.kind))))

    def choose(self, lane: Lane, now: float) -> Assignment | Wait | Move | Fail:
        """Choose address and provider for one message of a lane and reserve every limit."""
        wait = self.client_gate(lane, now)
        if wait is not None:
            return wait
        if lane.pin:
            verdict = self._pinned(lane, now)
            if not isinstance(verdict, Open):
                return verdict
            address = self.addresses[lane.pin]
        else:
            found = self._turn(lane, now)
            if isinstance(found, Wait):
                return found
            address = found
        gate = address.domain.route.pick(now)
        if gate is None:  # _pinned and _turn have just seen it open
            return Wait(Gate.SLOTS, now, "domain", address.domain.value.name)
        return self._reserve(address, gate, now)

    def providers_of(self, lane: Lane) -> set[str]:
        """The providers that could carry a lane's messages."""
        if lane.pin:
            address = self.addresses.get(lane.pin)
            return set() if address is None else {gate.limits.name for gate in address.domain.route.gates}
        routes = self._rings.get((lane.client, lane.stream, lane.kind), {})
        return {gate.limits.name for route in routes for gate in route.gates}

    def settle(self, assignment: Assignment, outcome: Outcome, at: float) -> None:
        """Book what an attempt ended with at `at`. Proven not accepted gives address, domain and client their place back."""
        assignment.provider.cap.book(at)
        states = (assignment.client, assignment.domain, assignment.address)
        for state in states:
            if outcome.proves_not_accepted:
                state.cap.release()
                if state.pace is not None:
                    state.pace.give_back()
            else:
                state.cap.book(at)
        self._free(assignment.address, given_back=outcome.proves_not_accepted)

    def cancel(self, assignment: Assignment) -> None:
        """Undo `choose`: the message did not begin."""
        assignment.provider.give_back()
        for state in (assignment.client, assignment.domain, assignment.address):
            state.cap.release()
            if state.pace is not None:
                state.pace.give_back()
        address = assignment.address
        for kind, member in address.members.items():
            address.domain.rings[kind].refund(member)
        self._free(address, given_back=True)

    def client_gate(self, lane: Lane, now: float) -> Wait | None:
        """The gate of everything, the client, its stream, its campaign, its window, its caps and its pace, in this order."""
        wait = self._paused_gate(lane)
        if wait is not None:
            return wait
        client = self.clients[lane.client]
        if lane.kind is Kind.BULK:
            if client.fault:
                return Wait(Gate.WINDOW, inf, "client", lane.client, client.fault)
            opens_at = client.clock.opens_at(now)
            if opens_at > now:
                return Wait(Gate.WINDOW, opens_at, "client", lane.client, f"sends {client.value.sending_window} {client.value.timezone}")
        free_at = client.cap.free_at(now, lane.kind)
        if free_at > now:
            return Wait(Gate.HOUR, free_at, "client", lane.client)
        if lane.kind is Kind.BULK and client.pace is not None:
            paced_at = client.pace.opens_at(now)
            if paced_at > now:
                return Wait(Gate.PACING, paced_at, "client", lane.client)
        return None

    def _paused_gate(self, lane: Lane) -> Wait | None:
        if ("all", "") in self.paused:
            return Wait(Gate.PAUSED, inf, "all", "all")
        client = self.clients.get(lane.client)
        if client is None:
            return Wait(Gate.NO_ADDRESS, inf, "client", lane.client, "it is not in the fleet")
        if client.value.status is not Status.ACTIVE:
            gate = Gate.PAUSED if client.value.status is Status.PAUSED else Gate.DISABLED
            return Wait(gate, inf, "client", lane.client)
        stream = f"{lane.client}/{lane.stream}"
        if ("stream", stream) in self.paused:
            return Wait(Gate.PAUSED, inf, "stream", stream)
        campaign = f"{lane.client}/{lane.campaign}"
        if lane.campaign and ("campaign", campaign) in self.paused:
            return Wait(Gate.PAUSED, inf, "campaign", campaign)
        return None

    # -- rotation ----------------------------------------------------------------------------------------------------------------

    def _turn(self, lane: Lane, now: float) -> AddressState | Wait:
        routes = self._rings.get((lane.client, lane.stream, lane.kind), {})
        until = inf
        for tier, share in enumerate(TIERS):
            best: Member[DomainState] | None = None
            for route, tiers in routes.items():
                if not route.is_open(now):
                    until = min(until, route.opens_at(now))
                    continue
                member = self._first(tiers[tier], lane.kind, share, now)
                if member is None:
                    until = min(until, tiers[tier].next_at())
                elif best is None or member.pass_ < best.pass_:
                    best = member
            if best is not None:
                address = best.item.rings[lane.kind].first(now)
                if address is not None:
                    return address.item
        return Wait(Gate.SLOTS, until, "stream", f"{lane.client}/{lane.stream}")

    def _first(self, ring: StrideRing[DomainState], kind: Kind, share: float, now: float) -> Member[DomainState] | None:
        """The domain whose turn it is, with an address whose turn it is; what is blocked is parked on the way."""
        while (member := ring.first(now)) is not None:
            domain = member.item
            until = domain.open_at(now, kind, share)
            if until <= now:
                until = self._first_address(domain.rings[kind], kind, now)
                if until <= now:
                    return member
            ring.park(member, until)
        return None

    @staticmethod
    def _first_address(ring: StrideRing[AddressState], kind: Kind, now: float) -> float:
        while (member := ring.first(now)) is not None:
            until = member.item.open_at(now, kind)
            if until <= now:
                return now
            ring.park(member, until)
        return ring.next_at()

    # -- pinned lanes ------------------------------------------------------------------------------------------------------------

    def _pinned(self, lane: Lane, now: float) -> Open | Wait | Move | Fail:
        address = self.addresses.get(lane.pin)
        if address is None or not self._owns(lane, address) or _is_disabled(address):
            return self._succession(lane, address)
        if self._rests_too_long(lane, address, now):
            return self._succession(lane, address)
        until = max(address.open_at(now, lane.kind), address.domain.open_at(now, lane.kind))
        if until > now:
            return Wait(Gate.STICKY, until, "address", lane.pin)
        route = address.domain.route
        if not route.is_open(now):
            return Wait(Gate.SLOTS, route.opens_at(now), "domain", address.domain.value.name)
        slots = sum(gate.slots for gate in route.gates if gate.is_open(now))
        room = min(state.cap.room(now, lane.kind) for state in (address, address.domain, address.domain.client))
        return Open(int(min(slots, room)))

    @staticmethod
    def _owns(lane: Lane, address: AddressState) -> bool:
        return address.domain.value.client == lane.client and address.domain.value.stream == lane.stream

    def _rests_too_long(self, lane: Lane, address: AddressState, now: float) -> bool:
        # A person's pin waits for its address however long; a thread at most thread_wait_s; a retry not at all.
        if lane.pin_kind == "sender":
            return False
        patience = self._thread_wait_s if lane.pin_kind == "thread" else 0.0
        return any(
            value.health is Health.COOLING and (inf if value.health_until is None else value.health_until) - now > patience
            for value in (address.value, address.domain.value)
        )

    def _succession(self, lane: Lane, address: AddressState | None) -> Move | Fail:
        if lane.pin_kind == "retry":
            return Move("")
        if lane.pin_kind == "sender":
            why = "is disabled" if address is not None and self._owns(lane, address) else "is not an address of"
            owner = "" if why == "is disabled" else f" {lane.client}/{lane.stream}"
            return Fail(f"sender {lane.pin} {why}{owner}")
        domain = self.domains.get(lane.pin.rpartition("@")[2])
        heirs = [] if domain is None else [heir for heir in domain.addresses.values() if self._owns(lane, heir) and _is_able(heir)]
        if not heirs:
            return Fail(f"the thread's address {lane.pin} is gone and no other address of its domain can take over")
        # The one with the most quota left keeps the pool even, and every message of the thread finds the same one.
        return Move(min(heirs, key=lambda heir: (heir.cap.used_day / heir.weight, heir.value.email)).value.email)

    # -- reservations ------------------------------------------------------------------------------------------------------------

    def _reserve(self, address: AddressState, gate: ProviderGate, now: float) -> Assignment:
        domain = address.domain
        gate.take(now)
        domain.route.charge(gate)
        for state in (domain.client, domain, address):
            state.cap.hold()
            if state.pace is not None:
                state.pace.take(now)
        self._charge(address)
        return Assignment(domain.client, domain, address, gate, now)

    def _charge(self, address: AddressState) -> None:
        domain = address.domain
        for kind in Kind:
            domain.rings[kind].charge(address.members[kind])
            for ring, member in zip(self._ring_of(domain, kind), domain.members[kind], strict=True):
                ring.charge(member)

    def _free(self, address: AddressState, *, given_back: bool) -> None:
        """Let what was parked be looked at again, if it may open earlier than was thought.

        A place that only turned from held to used opens nothing: whoever is parked until a time still opens then.
        """
        domain = address.domain
        for kind, member in address.members.items():
            if given_back or member.until == inf:
                domain.rings[kind].free(member)
            for ring, place in zip(self._ring_of(domain, kind), domain.members[kind], strict=True):
                if given_back or place.until == inf:
                    ring.free(place)


def _is_disabled(address: AddressState) -> bool:
    values = (address.value, address.domain.value)
    return any(value.status is Status.DISABLED or value.health is Health.DISABLED for value in values)


def _is_able(address: AddressState) -> bool:
    values = (address.value, address.domain.value)
    return all(value.status is Status.ACTIVE and value.health not in {Health.DISABLED, Health.COOLING} for value in values)
