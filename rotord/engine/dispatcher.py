"""The leader's heart: turn after turn it claims what may go now, reserves it, renders it, begins it and lets it fly.

Owns the SenderPool, the backlog and the fair share between clients. Promises: a message begins only with its provider's slot and bytes in
hand; a lane that is blocked is not claimed; when the answer to a begin is lost, the reservations stay until the attempts are read back.
Does not: send (flights), write replies (recorder), renew the lease (leadership).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import structlog

from rotord.core.fairness import FairShare
from rotord.core.mime import RenderError
from rotord.core.model import Kind
from rotord.core.pool import Assignment, Fail, Move, Open
from rotord.core.records import Begin, LaneRequest, Verdict
from rotord.core.rendering import message_id
from rotord.core.senders import Gate, Wait
from rotord.db.connect import transient
from rotord.db.queue import FencedError
from rotord.engine.backlog import Backlog
from rotord.engine.clock import AttemptIds
from rotord.engine.flights import Flight
from rotord.engine.waiting import wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rotord.core.pool import SenderPool
    from rotord.core.records import Candidate, Payload, Settlement, Term
    from rotord.engine.backlog import LaneState
    from rotord.engine.clock import DatabaseClock
    from rotord.engine.flights import Flights
    from rotord.engine.limbo import Limbo
    from rotord.engine.preparation import Preparation
    from rotord.engine.store import Store
    from rotord.providers.base import Provider, Slot

_log = structlog.get_logger(__name__)
# While the database is away: a begin costs nothing to hold back, and the recorder has its own tries.
DATABASE_PAUSE_S = 0.5
# A send starts at most this long after its begin was asked for (the answer may take COMMAND_TIMEOUT_S), so that it is over by the
# attempt's deadline, which the database counts from the commit: after a crash the message counts from there.
START_WITHIN_S = 10.0
# At most this many bodies are in memory at once before they are rendered.
PAYLOAD_CHUNK = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Bounds of the engine, and how often its loops look, in seconds: a change of the fleet is in force within 2 s, a pause within 1 s."""

    concurrency: int = 200
    bytes_in_flight: int = 64 * 1024 * 1024
    poll_s: float = 1.0
    fleet_s: float = 0.5
    expire_s: float = 1.0
    read_back_s: float = 1.0
    publish_s: float = 1.0
    # A lane whose time is not known, or far, is asked again this soon: a refund or a person may have opened it.
    ask_again_s: float = 0.25
    ask_known_again_s: float = 1.0


@dataclass(frozen=True, slots=True)
class TermParts:
    """What the loops of one term share. Each is written by the one who owns it."""

    store: Store
    term: Term
    pool: SenderPool
    flights: Flights
    clock: DatabaseClock
    limbo: Limbo


@dataclass(frozen=True, slots=True)
class Planned:
    """A candidate with its reservation: every limit counts it, its slot is taken."""

    candidate: Candidate
    assignment: Assignment
    slot: Slot
    attempt_id: int
    message_id: str


class Dispatcher:
    """One task runs `run`; `wake` may be called by anyone in the loop."""

    def __init__(self, parts: TermParts, providers: Mapping[str, Provider], preparation: Preparation, config: EngineConfig) -> None:
        self._store = parts.store
        self._term = parts.term
        self._pool = parts.pool
        self._flights = parts.flights
        self._clock = parts.clock
        self._limbo = parts.limbo
        self._ids = AttemptIds(parts.term.ids_from)
        self._providers = providers
        self._preparation = preparation
        self._config = config
        self._fair = FairShare()
        self._wake = asyncio.Event()
        self.backlog = Backlog(config.poll_s)
        self.fenced = False
        parts.flights.landed = self._wake.set
        for provider in providers.values():
            provider.on_ready(self._wake.set)

    def wake(self) -> None:
        """Something may have become possible: new rows, ripe rows, a changed fleet."""
        self.backlog.touch()
        self._wake.set()

    def nudge(self) -> None:
        """Look at `stop`."""
        self._wake.set()

    def rethink(self) -> None:
        """The fleet changed under the lanes."""
        self.backlog.unblock_all()
        self._wake.set()

    def written(self, settlements: Sequence[Settlement]) -> None:
        """The recorder wrote these: their places are free, and what is to be tried again is in the queue."""
        for settlement in settlements:
            self._flights.free_place(settlement.bytes)
        self._wake.set()

    async def run(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        """Take turns until `stop`, or until the lease turns out to be lost (`fenced`)."""
        stopped = asyncio.Event()
        while not stop.is_set() and not self.fenced:
            self._wake.clear()
            try:
                progressed = await self._turn(group)
            except FencedError:
                self.fenced = True
                break
            except Exception as error:
                if not transient(error):
                    raise
                _log.warning("database_unavailable", during="dispatch", error=repr(error))
                await wait(stopped, DATABASE_PAUSE_S)
                continue
            if not progressed and not stop.is_set():
                await wait(self._wake, self._idle_s())

    def _idle_s(self) -> float:
        now = self._clock.now()
        if self._flights.places_used >= self._config.concurrency:
            return self._config.poll_s
        return max(0.0, self.backlog.wake_at(now) - now)

    # -- one turn ----------------------------------------------------------------------------------------------------------------

    async def _turn(self, group: asyncio.TaskGroup) -> bool:
        now = self._clock.now()
        free = self._config.concurrency - self._flights.places_used
        if free <= 0:
            return False
        await self._refresh(now)
        self._count_slots()
        open_lanes = await self._open_lanes(now)
        if not open_lanes:
            return False
        shares = self._shares(open_lanes, free)
        requests = [
            (state, LaneRequest(state.key, min(places, shares[client]), state.cursor))
            for client, lanes in open_lanes.items()
            if shares[client] > 0
            for state, places in lanes
        ]
        if not requests:
            return False
        found = await self._store.candidates([request for _, request in requests])
        planned = self._plan(requests, found, shares)
        if not planned:
            return False
        flights = await self._prepare(planned)
        await self._begin(group, flights)
        return True

    async def _refresh(self, now: float) -> None:
        if self.backlog.refresh_at() > now:
            return
        self.backlog.begin_refresh()
        try:
            rows = await self._store.lanes()
        except BaseException:
            self.backlog.touch()
            raise
        after = self._clock.now()
        self.backlog.replace(rows, after, after - now)

    def _count_slots(self) -> None:
        for name, provider in self._providers.items():
            self._pool.providers[name].slots = provider.ready()

    async def _open_lanes(self, now: float) -> dict[str, list[tuple[LaneState, int]]]:
        """Ask the pool about every lane that is not blocked; act on those that can never go or must move."""
        found: dict[str, list[tuple[LaneState, int]]] = {}
        starved: list[LaneState] = []
        for state in list(self.backlog.unblocked(now)):
            match self._pool.lane(state.lane, now):
                case Open(places):
                    if places > 0:
                        found.setdefault(state.lane.client, []).append((state, places))
                    starved.append(state)
                case Wait(gate, until):
                    if gate is Gate.SLOTS:
                        starved.append(state)
                    state.blocked_until = self._ask_again(gate, until, now)
                case Move(pin):
                    await self._store.repin(state.key, pin)
                    self.backlog.touch()
                case Fail(reason):
                    count = await self._store.fail_lane(state.key, reason)
                    _log.warning("messages_failed", client=state.lane.client, count=count, reason=reason)
                    self.backlog.touch()
        self._want(starved)
        return found

    def _ask_again(self, gate: Gate, until: float, now: float) -> float:
        """Until when to leave a blocked lane alone. A slot comes by an event that wakes us, so such a lane is asked at every turn."""
        if gate is Gate.SLOTS and until == inf:
            return now
        return min(until, now + (self._config.ask_again_s if until == inf else self._config.ask_known_again_s))

    def _want(self, states: Iterable[LaneState]) -> None:
        """Let providers open as many slots as the backlog could use: twice what they have, so that one message opens one."""
        wanted: set[str] = set()
        for state in states:
            wanted |= self._pool.providers_of(state.lane)
        for name in wanted:
            status = self._providers[name].status()
            self._providers[name].want(min(status.capacity, 2 * (status.ready + status.in_flight) + 1))

    def _shares(self, open_lanes: Mapping[str, list[tuple[LaneState, int]]], free: int) -> dict[str, int]:
        """How many messages each client may begin in this turn."""
        slots = sum(gate.slots for gate in self._pool.providers.values())
        wants = {client: sum(places for _, places in lanes) for client, lanes in open_lanes.items()}
        self._fair.advance(wants)
        return self._fair.allocate(wants, self._weights(wants), min(free, slots))

    def _weights(self, clients: Iterable[str]) -> dict[str, float]:
        return {client: self._pool.clients[client].value.weight for client in clients}

    # -- reservations ------------------------------------------------------------------------------------------------------------

    def _plan(self, requests: Sequence[tuple[LaneState, LaneRequest]], found: Sequence[Candidate], shares: dict[str, int]) -> list[Planned]:
        """Reserve for each client its share in its turn, transactional first, then by priority and age, whatever lane a row is in."""
        states = {state.key: state for state, _ in requests}
        rows: dict[int, list[Candidate]] = {key: [] for key in states}
        taken: dict[int, list[Candidate]] = {key: [] for key in states}
        for candidate in found:
            rows[candidate.lane_key].append(candidate)
        planned: list[Planned] = []
        blocked: set[int] = set()
        now = self._clock.now()
        queues: dict[str, list[Candidate]] = {}
        for candidate in sorted(found, key=lambda row: (states[row.lane_key].lane.kind is Kind.BULK, row.rank, row.due_at, row.id)):
            queues.setdefault(states[candidate.lane_key].lane.client, []).append(candidate)
        for candidate in self._fair.in_turn(queues, lambda row: states[row.lane_key].lane.kind is not Kind.BULK):
            state = states[candidate.lane_key]
            if candidate.lane_key in blocked or shares[state.lane.client] <= 0:
                continue
            if not self._fits(candidate):
                break
            plan = self._reserve(state, candidate, now)
            if plan is None:
                blocked.add(candidate.lane_key)
                continue
            planned.append(plan)
            taken[candidate.lane_key].append(candidate)
            shares[state.lane.client] -= 1
        for state, request in requests:
            self.backlog.claimed(state, request.limit, rows[state.key], taken[state.key])
        return planned

    def _fits(self, candidate: Candidate) -> bool:
        # One message larger than the whole bound still goes, alone.
        used = self._flights.bytes_used
        return used == 0 or used + candidate.bytes <= self._config.bytes_in_flight

    def _reserve(self, state: LaneState, candidate: Candidate, now: float) -> Planned | None:
        chosen = self._pool.choose(state.lane, now, candidate.avoid)
        if not isinstance(chosen, Assignment):
            if isinstance(chosen, Wait):
                state.blocked_until = self._ask_again(chosen.gate, chosen.until, now)
            return None
        slot = self._providers[chosen.provider.limits.name].take()
        if slot is None:
            chosen.provider.slots = 0
            self._pool.cancel(chosen)
            return None
        self._flights.take_place(candidate.bytes)
        self._fair.charge(state.lane.client, chosen.client.value.weight)
        header = candidate.message_id or message_id(candidate.id, chosen.domain.value.name)
        return Planned(candidate, chosen, slot, self._ids.take(now), header)

    def _drop(self, planned: Planned) -> None:
        """Undo a reservation whose message did not begin."""
        planned.slot.give_back()
        self._pool.cancel(planned.assignment)
        self._flights.free_place(planned.candidate.bytes)

    # -- begin -------------------------------------------------------------------------------------------------------------------

    async def _prepare(self, planned: Sequence[Planned]) -> list[tuple[Planned, Flight]]:
        """Read the bodies and render them; a row that cannot be rendered fails alone."""
        ready: list[tuple[Planned, Flight]] = []
        waiting = list(planned)
        try:
            while waiting:
                chunk = _chunk(waiting)
                payloads = {payload.id: payload for payload in await self._store.payloads([plan.candidate.id for plan in chunk])}
                for plan in chunk:
                    flight = await self._flight(plan, payloads.pop(plan.candidate.id, None))
                    waiting.remove(plan)
                    if flight is not None:
                        ready.append((plan, flight))
        except BaseException:
            for plan in [*waiting, *(plan for plan, _ in ready)]:
                self._drop(plan)
            raise
        return ready

    async def _flight(self, plan: Planned, payload: Payload | None) -> Flight | None:
        if payload is None:
            self._drop(plan)
            return None
        try:
            envelope = await self._preparation.envelope(payload, plan.candidate.bytes, plan.assignment, plan.attempt_id, plan.message_id)
        except RenderError as error:
            _log.warning("message_not_renderable", message_id=plan.candidate.id, reason=str(error))
            await self._store.fail_row(plan.candidate.id, str(error))
            self._drop(plan)
            return None
        return Flight(plan.candidate, plan.assignment, plan.attempt_id, plan.slot, envelope)

    async def _begin(self, group: asyncio.TaskGroup, flights: Sequence[tuple[Planned, Flight]]) -> None:
        if not flights:
            return
        begins = [self._begin_row(plan) for plan, _ in flights]
        start_by = self._clock.now() + START_WITHIN_S
        try:
            verdicts = await self._store.begin(self._term, begins)
        except FencedError:
            for plan, _ in flights:
                self._drop(plan)
            raise
        except BaseException:
            # It may have been committed. The slots are free again, the limits stay reserved until the ledger says which are there.
            for plan, _ in flights:
                plan.slot.give_back()
                self._limbo.add(plan.attempt_id, plan.candidate, plan.assignment, self._clock.now())
            raise
        for plan, flight in flights:
            verdict = verdicts.get(plan.candidate.id)
            if verdict is Verdict.SENDING:
                self._flights.launch(group, flight, start_by)
            else:
                if verdict is not None:
                    _log.info("message_not_begun", message_id=plan.candidate.id, verdict=verdict.value)
                self._drop(plan)

    def _begin_row(self, plan: Planned) -> Begin:
        assignment = plan.assignment
        provider = assignment.provider.limits.name
        return Begin(
            plan.candidate.id,
            plan.attempt_id,
            assignment.email,
            assignment.domain.value.name,
            assignment.client.value.slug,
            provider,
            self._providers[provider].attempt_timeout_s + START_WITHIN_S,
            plan.message_id,
            assignment.began_at,
        )


def _chunk(waiting: Sequence[Planned]) -> list[Planned]:
    """The first messages whose bodies fit into memory together; at least one."""
    size = 0
    for count, plan in enumerate(waiting):
        size += plan.candidate.bytes
        if size > PAYLOAD_CHUNK and count > 0:
            return list(waiting[:count])
    return list(waiting)
