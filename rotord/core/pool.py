"""The sender pool: the one door to limits, rotation, pacing and routing.

`choose` reserves: every cap of the assignment counts the message from then on, until `settle` says what became of it or `cancel` that it
did not begin. The pool is mutable but deterministic: it reads no clock and draws no lots, so that a pool rebuilt from the ledger
(core.rebuilding) decides as if it had never stopped. One task owns it.

Whose turn it is, is core.turns' business; what the fleet's values say, core.senders'; what holds a whole client, core.client_gates'.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from rotord.core.client_gates import ClientGates
from rotord.core.limits import RollingCap
from rotord.core.model import Outcome
from rotord.core.past import Level
from rotord.core.pins import Fail, Lane, Move, Open, ask
from rotord.core.routing import ProviderGate, Route
from rotord.core.senders import AddressState, ClientState, DomainState, Gate, Place, Wait, known_after
from rotord.core.turns import Stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rotord.core.model import Address, Blame, Campaign, Client, Domain, ProviderLimits

__all__ = ["Assignment", "Fail", "Lane", "Move", "Open", "SenderPool"]

# Domains weighed between two pauses: some milliseconds.
PAUSE_EVERY = 200
_STATE_OF = {Level.ADDRESS: AddressState, Level.DOMAIN: DomainState, Level.CLIENT: ClientState}
_PROVES_NOT_ACCEPTED = frozenset(outcome for outcome in Outcome if outcome.proves_not_accepted)


class Assignment(NamedTuple):
    """A reserved way out. Hand it back to `settle` or `cancel`, exactly once."""

    client: ClientState
    domain: DomainState
    address: AddressState
    provider: ProviderGate
    began_at: float
    campaign: RollingCap | None = None

    @property
    def email(self) -> str:
        """The sender address."""
        return self.address.value.email


class SenderPool:
    """See the module. `thread_wait_s`: how long a thread waits for its cooling address before it moves."""

    def __init__(self, providers: Iterable[ProviderLimits], thread_wait_s: float = 86400.0) -> None:
        self.providers = {limits.name: ProviderGate(limits) for limits in providers}
        self.clients: dict[str, ClientState] = {}
        self.domains: dict[str, DomainState] = {}
        self.addresses: dict[str, AddressState] = {}
        self.gates = ClientGates(self.clients)
        self._thread_wait_s = thread_wait_s
        self._routes: dict[tuple[str, ...], Route] = {}
        self._streams: dict[str, dict[str, Stream]] = {}
        # Domains whose weight or addresses changed since the last decision; in order, as a rebuilt pool must number them alike.
        self._changed: dict[str, DomainState] = {}
        # The caps of who was removed: whoever comes back under the same name has still sent what was sent.
        self._retired: dict[tuple[type, str], RollingCap] = {}
        # The same of those who were gone already when the ledger was read.
        self._past: dict[tuple[type, str], RollingCap] = {}

    # -- the fleet ---------------------------------------------------------------------------------------------------------------

    def set_paused(self, paused: frozenset[tuple[str, str]]) -> None:
        """What a person paused that is no row of the fleet: (kind, name) with kind all, stream, campaign or provider."""
        self.gates.paused = paused
        for name, gate in self.providers.items():
            gate.paused = ("provider", name) in paused

    def set_campaigns(self, campaigns: Iterable[Campaign]) -> None:
        """Take the campaigns that have a window or caps of their own."""
        self.gates.set_campaigns(campaigns)

    def put_client(self, value: Client) -> None:
        """Add or change a client; its domains follow its time zone, pacing and reserve."""
        self.gates.forget_clocks()
        state = self.clients.get(value.slug)
        if state is None:
            self.clients[value.slug] = ClientState(value, self._cap(ClientState, value.slug))
            self._streams[value.slug] = {}
            return
        before = state.value
        # Only what reaches down to its addresses is worth a walk over all of them.
        if _reach(before) == _reach(value):
            state.put(value)
            return
        for domain in state.domains.values():
            self._leave(domain)
        state.put(value)
        self._streams[value.slug] = {}
        for domain in state.domains.values():
            domain.put(domain.value, state, domain.route)
            self._enter(domain)

    def remove_client(self, slug: str) -> None:
        """Forget a client and what it owns."""
        state = self.clients.get(slug)
        if state is not None:
            for name in list(state.domains):
                self.remove_domain(name)
            self._retired[ClientState, slug] = state.cap
            del self.clients[slug], self._streams[slug]

    def put_domain(self, value: Domain) -> None:
        """Add or change a domain; its addresses follow. Its client must be there."""
        client, route = self.clients[value.client], self._route(value.providers)
        state = self.domains.get(value.name)
        if state is None:
            state = self.domains[value.name] = DomainState(value, client, route, self._cap(DomainState, value.name))
            self._enter(state)
        elif (client, route, value.stream) == (state.client, state.route, state.value.stream):
            state.put(value, client, route)
        else:
            self._leave(state)
            del state.client.domains[value.name]
            state.put(value, client, route)
            self._enter(state)
        client.domains[value.name] = state
        self._changed[value.name] = state

    def remove_domain(self, name: str) -> None:
        """Forget a domain and its addresses."""
        state = self.domains.get(name)
        if state is not None:
            for email in list(state.addresses):
                self.remove_address(email)
            self._leave(state)
            self._retired[DomainState, name] = state.cap
            del self.domains[name], state.client.domains[name]

    def put_address(self, value: Address) -> None:
        """Add or change an address. Its domain must be there."""
        domain = self.domains[value.domain]
        state = self.addresses.get(value.email)
        if state is not None and state.domain is not domain:
            self.remove_address(value.email)
            state = None
        if state is None:
            is_new = (AddressState, value.email) not in self._retired
            state = AddressState(value, domain, self._cap(AddressState, value.email))
            self.addresses[value.email] = domain.addresses[value.email] = state
            if value.used_day and is_new:
                for cap in (state.cap, domain.cap, domain.client.cap):
                    cap.restore(value.used_day_at, value.used_day)
            state.enter()
        else:
            state.put(value)
            for place, member in state.members:
                place.addresses.reweigh(member, state.weight)
                place.addresses.free(member)
        self._changed[value.domain] = domain

    def remove_address(self, email: str) -> None:
        """Forget an address. What it sent stays counted, for itself too should it come back."""
        state = self.addresses.pop(email, None)
        if state is not None:
            domain = state.domain
            for place, member in state.members:
                place.addresses.remove(member)
            state.members = ()
            self._retired[AddressState, email] = state.cap
            del domain.addresses[email]
            self._changed[domain.value.name] = domain

    def _cap(self, of: type, name: str) -> RollingCap:
        return self._retired.pop((of, name), None) or self._past.pop((of, name), None) or RollingCap()

    def _route(self, names: tuple[str, ...]) -> Route:
        if names not in self._routes:
            self._routes[names] = Route([self.providers[name] for name in names if name in self.providers])
        return self._routes[names]

    def _enter(self, domain: DomainState) -> None:
        """Give a domain its places, and its addresses theirs; it has its turns from the next decision on."""
        streams = self._streams[domain.client.value.slug]
        stream = streams.get(domain.value.stream)
        if stream is None:
            name = f"{domain.client.value.slug}/{domain.value.stream}"
            stream = streams[domain.value.stream] = Stream(name, alike=domain.client.alike)
        domain.places = tuple(Place(domain, turns.fresh, turns.late) for turns in stream.turns_of(domain.route))
        for address in domain.addresses.values():
            address.put(address.value)
            address.enter()
        self._changed[domain.value.name] = domain

    def _leave(self, domain: DomainState) -> None:
        for place in domain.places:
            place.leave()
        domain.places = ()
        self._changed.pop(domain.value.name, None)

    def weighing(self) -> Iterator[None]:
        """Do before its time what the next decision would do of the fleet's changes, and pause now and then: it may be a whole fleet."""
        changed, self._changed = self._changed, {}
        for number, domain in enumerate(changed.values(), 1):
            if domain.places:
                weight = domain.weigh()
                for place in domain.places:
                    place.weigh(weight)
            if number % PAUSE_EVERY == 0:
                yield

    def _apply_changes(self) -> None:
        for _ in self.weighing():
            pass

    # -- the past ----------------------------------------------------------------------------------------------------------------

    def cap_of(self, level: Level, name: str) -> RollingCap | None:
        """What counts the attempts of one of them, also while it is not in the fleet; None of an unknown provider."""
        if level is Level.PROVIDER:
            return self.providers[name].cap if name in self.providers else None
        if level is Level.CAMPAIGN:
            client, _, campaign = name.partition("/")
            return self.gates.count(client, campaign)
        state = self.states(level).get(name)
        return self._past.setdefault((_STATE_OF[level], name), RollingCap()) if state is None else state.cap

    def states(self, level: Level) -> Mapping[str, AddressState | DomainState | ClientState]:
        """Those of a level by name; none where it has no states."""
        known: dict[Level, Mapping[str, AddressState | DomainState | ClientState]]
        known = {Level.ADDRESS: self.addresses, Level.DOMAIN: self.domains, Level.CLIENT: self.clients}
        return known.get(level, {})

    def dissolving(self) -> Iterator[None]:
        """Let go of all, some at a time. What refers to each other in a circle no count frees, and of what a term built no collection."""
        for number, address in enumerate(self.addresses.values()):
            address.members = ()
            if number % (10 * PAUSE_EVERY) == 0:
                yield
        self.addresses.clear()
        while self.domains:
            name, domain = self.domains.popitem()
            self._leave(domain)
            domain.addresses.clear()
            del domain.client.domains[name]
            yield
        while self._streams:
            for stream in self._streams.popitem()[1].values():
                stream.clear()
            yield
        for one in (self.clients, self._retired, self._past):
            one.clear()

    # -- decisions ---------------------------------------------------------------------------------------------------------------

    def lane(self, lane: Lane, now: float) -> Open | Wait | Move | Fail:
        """Say whether messages of a lane could begin now; cheap, so that blocked lanes are never claimed."""
        if self._changed:
            self._apply_changes()
        wait = self.gates.wait(lane, now)
        if wait is not None:
            return wait
        verdict = self._pinned(lane, now) if lane.pin else self._rotated(lane, now)
        if lane.campaign and isinstance(verdict, Open):
            return Open(int(min(verdict.places, self.gates.room(lane, now))))
        return verdict

    def _rotated(self, lane: Lane, now: float) -> Open | Wait:
        stream = self._streams[lane.client].get(lane.stream)
        gates = inf if stream is None else stream.open_gates(lane.kind, now)
        if isinstance(gates, float):
            if stream is None or not stream.routes():
                return Wait(Gate.NO_ADDRESS, inf, "stream", f"{lane.client}/{lane.stream}", "it has no address")
            return Wait(Gate.SLOTS, known_after(gates, now), "stream", stream.name)
        slots = sum(gate.slots for gate in gates)
        return Open(int(min(slots, self.clients[lane.client].cap.room(now, lane.kind))))

    def choose(self, lane: Lane, now: float, avoid: str = "") -> Assignment | Wait | Move | Fail:
        """Choose address and provider for one message of a lane and reserve every limit; `avoid` a provider while another is open."""
        if self._changed:
            self._apply_changes()
        wait = self.gates.wait(lane, now)
        if wait is not None:
            return wait
        if lane.pin:
            return self._choose_pinned(lane, now, avoid)
        stream = self._streams[lane.client].get(lane.stream)
        if stream is None:
            return Wait(Gate.SLOTS, inf, "stream", f"{lane.client}/{lane.stream}")
        turn = stream.turn(lane.kind, now, avoid)
        if isinstance(turn, float):
            return Wait(Gate.SLOTS, known_after(turn, now), "stream", stream.name)
        return _reserve(*turn, now, self.gates.count_of(lane, now))

    def _pinned(self, lane: Lane, now: float) -> Open | Wait | Move | Fail:
        domain = self.domains.get(lane.pin.rpartition("@")[2])
        return ask(lane, self.addresses.get(lane.pin), domain, now, self._thread_wait_s)

    def _choose_pinned(self, lane: Lane, now: float, avoid: str) -> Assignment | Wait | Move | Fail:
        if not isinstance(verdict := self._pinned(lane, now), Open):
            return verdict
        address = self.addresses[lane.pin]
        gate = address.domain.route.pick(now, avoid)
        assert gate is not None, lane  # noqa: S101 - `ask` has just seen it open
        return _reserve(address, gate, now, self.gates.count_of(lane, now))

    def providers_of(self, lane: Lane) -> set[str]:
        """The providers that could carry a lane's messages."""
        if lane.pin:
            address = self.addresses.get(lane.pin)
            routes = [] if address is None else [address.domain.route]
        else:
            stream = self._streams.get(lane.client, {}).get(lane.stream)
            routes = [] if stream is None else stream.routes()
        return {gate.limits.name for route in routes for gate in route.gates}

    def settle(self, assignment: Assignment, outcome: Outcome, at: float, blame: Blame | None = None) -> None:
        """Book what an attempt ended with at `at`. Proven not accepted gives address, domain, client and campaign their place back."""
        assignment.provider.cap.book(at)
        assignment.provider.breaker.ended(outcome, blame, assignment.began_at, at, assignment.client.value.slug)
        given_back = outcome in _PROVES_NOT_ACCEPTED
        if assignment.campaign is not None:
            if given_back:
                assignment.campaign.release()
            else:
                assignment.campaign.book(at)
        for state in assignment[:3]:
            if given_back:
                state.cap.release()
                if state.pace is not None:
                    state.pace.give_back()
            else:
                state.cap.book(at)
        self._free(assignment.address, given_back=given_back)

    def cancel(self, assignment: Assignment) -> None:
        """Undo `choose`: the message did not begin."""
        assignment.provider.give_back(assignment.began_at)
        assignment.domain.route.refund(assignment.provider)
        if assignment.campaign is not None:
            assignment.campaign.release()
        for state in assignment[:3]:
            state.cap.release()
            if state.pace is not None:
                state.pace.give_back()
        address = assignment.address
        for place, member in address.members:
            place.addresses.refund(member)
            place.refund()
        self._free(address, given_back=True)

    def _free(self, address: AddressState, *, given_back: bool) -> None:
        """Let what was parked be looked at again, if it may open earlier than was thought.

        A place that only turned from held to used opens nothing that is parked until a time; what had no time then, has one now.
        """
        if not address.members:  # removed since; it may have come back
            address = self.addresses.get(address.value.email, address)
        for place, member in address.members:
            if given_back or member.until == inf:
                place.addresses.free(member)
                place.free()
            else:
                place.free_if_no_time_is_known()


def _reserve(address: AddressState, gate: ProviderGate, now: float, campaign: RollingCap | None) -> Assignment:
    domain = address.domain
    client = domain.client
    gate.take(now)
    domain.route.charge(gate)
    client.cap.hold()
    domain.cap.hold()
    address.cap.hold()
    if campaign is not None:
        campaign.hold()
    if client.paced:
        for state in (client, domain, address):
            if state.pace is not None:
                state.pace.take(now)
    address.charge()
    return Assignment(client, domain, address, gate, now, campaign)


def _reach(client: Client) -> tuple[object, ...]:
    """What of a client's value its domains and addresses are told."""
    return client.transactional_reserve, client.pacing, client.timezone, client.sending_window
