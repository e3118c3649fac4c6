"""The leader's heart: turn after turn it claims what may go now and reserves it; the launcher renders it, begins it and lets it fly.

Owns the SenderPool, the backlog and the fair share between clients. Promises: a message begins only with its provider's slot and bytes in
hand; a lane that is blocked is not claimed; a turn waits for no large body, and the next one for no commit (departures).
Does not: send (flights), write replies (recorder), renew the lease (leadership).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import takewhile
from math import inf
from typing import TYPE_CHECKING

import structlog

from rotord.core.fairness import FairOrder, FairShare
from rotord.core.model import Kind
from rotord.core.pool import Assignment, Fail, Move, Open
from rotord.core.records import LaneRequest
from rotord.core.rendering import message_id
from rotord.core.senders import Gate, Wait
from rotord.db.connect import transient
from rotord.engine.backlog import Backlog
from rotord.engine.clock import AttemptIds
from rotord.engine.departures import DATABASE_PAUSE_S, LARGE, Departures
from rotord.engine.launch import Launcher
from rotord.engine.planned import Planned
from rotord.engine.waiting import wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rotord.core.records import Candidate, LaneRow, Settlement
    from rotord.engine.backlog import LaneState
    from rotord.engine.launch import TermParts
    from rotord.engine.preparation import Preparation
    from rotord.providers.base import Provider

_log = structlog.get_logger(__name__)
# Hopeless lanes that are moved or failed in one turn, a statement each: an app can make as many of them as it likes.
ENDS_A_TURN = 10
# No wait is shorter: timers are kept to the millisecond and may fire that much early, and a lane is not asked again and again meanwhile.
TICK_S = 0.001
# A turn waits for that share of the slots, or so long, and looks so often: through 50 SMTP connections a tenth less work for each message.
GATHER = 0.5
GATHER_S = 0.01
GATHER_LOOK_S = 0.002
# So many clients at least are asked for their rows in a turn, if so many wait.
CLIENTS_A_TURN = 32


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
    # At full rate 4,000 rows: some 250 pages of the ledger are read from end to end before the planner hears of them.
    analyze_s: float = 2.0
    # A lane whose time is not known, or far, is asked again this soon: a refund or a person may have opened it.
    ask_again_s: float = 0.25
    ask_known_again_s: float = 1.0


class Dispatcher:
    """One task runs `run`; `wake` may be called by anyone in the loop."""

    def __init__(self, parts: TermParts, providers: Mapping[str, Provider], preparation: Preparation, config: EngineConfig) -> None:
        self._store = parts.store
        self._pool = parts.pool
        self._flights = parts.flights
        self._clock = parts.clock
        self._ids = AttemptIds(parts.term.ids_from)
        self._providers = providers
        self._config = config
        self._fair = FairShare()
        self._order = FairOrder()
        self._wake = asyncio.Event()
        self._departures = Departures(Launcher(parts, providers, preparation), self._wake.set)
        self._looked: tuple[list[LaneRow], float, float] | None = None
        self._fleet_as_of = -inf
        self._turned_at = -inf
        self._is_hungry = True
        self.backlog = Backlog(config.poll_s)
        parts.flights.landed = self._came_free
        for provider in providers.values():
            provider.on_ready(self._came_free)

    @property
    def fenced(self) -> bool:
        """The lease turned out to be lost."""
        return self._departures.fenced

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

    def fleet_is_as_of(self, asked_at: float) -> None:
        """The pool has whatever of the fleet was committed then."""
        self._fleet_as_of = asked_at

    def written(self, settlements: Sequence[Settlement]) -> None:
        """The recorder wrote these: their places are free, and what is to be tried again is in the queue."""
        for settlement in settlements:
            self._flights.free_place(settlement.bytes)
        self._came_free()

    def _came_free(self) -> None:
        """A slot or a place came free. While all that waits waits for its time, as many come free as messages land: nobody wants them."""
        if self._is_hungry:
            self._wake.set()

    async def run(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        """Take turns until `stop`, or until the lease turns out to be lost (`fenced`)."""
        while not stop.is_set() and not self.fenced:
            self._wake.clear()
            self._is_hungry = True  # until the turn has found out
            try:
                progressed = await self._turn(group)
            except Exception as error:
                if not transient(error):
                    raise
                _log.warning("database_unavailable", during="dispatch", error=repr(error))
                await wait(asyncio.Event(), DATABASE_PAUSE_S)
                continue
            if stop.is_set():
                break
            if progressed:
                await self._gather(self._clock.now() - self._turned_at)
            else:
                self._is_hungry = self._all_places_used() or self.backlog.has_unblocked(self._turned_at)
                await wait(self._wake, self._idle_s())
        await self._departures.close()

    async def _gather(self, took_s: float) -> None:
        """Wait until the next turn is worth its while: a share of the slots is free, or the last turn took as long.

        A turn costs four statements and questions about some dozens of clients, however few slots are free.
        """
        for _ in range(int(min(took_s, GATHER_S) / GATHER_LOOK_S)):
            if self._slots_free() >= GATHER:
                return
            await asyncio.sleep(GATHER_LOOK_S)

    def _slots_free(self) -> float:
        """Which share of what may be on the wire is free."""
        ready = in_flight = 0
        for provider in self._providers.values():
            status = provider.status()
            ready, in_flight = ready + status.ready, in_flight + status.in_flight
        places = 1.0 - self._flights.places_used / self._config.concurrency
        return min(places, ready / (ready + in_flight) if ready + in_flight else 1.0)

    def _all_places_used(self) -> bool:
        return self._flights.places_used >= self._config.concurrency

    def _idle_s(self) -> float:
        if self._all_places_used():
            return self._config.poll_s
        # Of the lanes that the turn found blocked one may have opened while the turn went on: that is a time before now.
        return max(TICK_S, min(self._config.poll_s, self.backlog.wake_at(self._turned_at) - self._clock.now()))

    # -- one turn ----------------------------------------------------------------------------------------------------------------

    async def _turn(self, group: asyncio.TaskGroup) -> bool:
        now = self._turned_at = self._clock.now()
        free = self._config.concurrency - self._flights.places_used
        if free <= 0:
            return False
        await self._refresh(group, now)
        self._count_slots()
        open_lanes = await self._open_lanes(now, free)
        if not open_lanes:
            return False
        shares = self._shares(open_lanes, free)
        requests = [
            (state, LaneRequest(state.key, min(places, shares[client]), state.cursor))
            for client, lanes in open_lanes.items()
            for state, places in lanes
        ]
        found = await self._store.candidates([request for _, request in requests])
        planned = self._plan(requests, found, shares)
        if not planned:
            return False
        await self._departures.depart(group, planned)
        return True

    async def _refresh(self, group: asyncio.TaskGroup, now: float) -> None:
        if self._looked is not None:
            self.backlog.replace(*self._looked)
            self._looked = None
        if self.backlog.refresh_at() > now:
            return
        self.backlog.begin_refresh()
        if self.backlog.is_slow:
            group.create_task(self._look_beside(now), name="look-for-lanes")
            return
        try:
            rows = await self._store.lanes()
        except BaseException:
            self.backlog.refresh_failed()
            raise
        after = self._clock.now()
        self.backlog.replace(rows, after, after - now)

    async def _look_beside(self, asked_at: float) -> None:
        """Look for lanes while turns go on with those that are known. The next turn takes what was found."""
        try:
            rows = await self._store.lanes()
        except Exception as error:
            if not transient(error):
                raise
            _log.warning("database_unavailable", during="dispatch", error=repr(error))
            await wait(asyncio.Event(), DATABASE_PAUSE_S)
            self.backlog.refresh_failed()
        else:
            after = self._clock.now()
            self._looked = rows, after, after - asked_at
        self._wake.set()

    def _count_slots(self) -> None:
        for name, provider in self._providers.items():
            self._pool.providers[name].slots = provider.ready()

    async def _open_lanes(self, now: float, free: int) -> dict[str, list[tuple[LaneState, int]]]:
        """Ask the pool about lanes that are not blocked until enough clients could go; act on those that can never go or must move.

        Twice as many as there are slots, since rows may turn out not to fit. To ask all of hundreds took longer than sending.
        """
        enough = max(CLIENTS_A_TURN, 2 * self._room(free))
        found: dict[str, list[tuple[LaneState, int]]] = {}
        starved: list[LaneState] = []
        ends = 0
        for state in self.backlog.unblocked(now):
            match self._pool.lane(state.lane, now):
                case Open(places):
                    state.hopeless_since = None
                    if places > 0:
                        found.setdefault(state.lane.client, []).append((state, places))
                    starved.append(state)
                case Wait(gate, until):
                    state.hopeless_since = None
                    if gate is Gate.SLOTS:
                        starved.append(state)
                    state.blocked_until = self._ask_again(gate, until, now)
                case verdict:
                    if self._has_stood(state, now) and ends < ENDS_A_TURN:
                        ends += 1
                        await self._end(state, verdict)
            if len(found) >= enough:
                break
        self._want(starved)
        return found

    def _has_stood(self, state: LaneState, now: float) -> bool:
        """Whether a lane was hopeless already at the last look at the fleet: its rows may have come before the news of their address."""
        if state.hopeless_since is None:
            state.hopeless_since = self._clock.now()
        state.blocked_until = now + self._config.ask_again_s
        return self._fleet_as_of > state.hopeless_since

    async def _end(self, state: LaneState, verdict: Move | Fail) -> None:
        """Move or fail a lane's rows, a batch of them."""
        state.blocked_until = 0.0
        self.backlog.touch()
        if isinstance(verdict, Move):
            await self._store.repin(state.key, verdict.pin)
            return
        count = await self._store.fail_lane(state.key, verdict.reason)
        _log.warning("messages_failed", client=state.lane.client, count=count, reason=verdict.reason)

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
        """How many rows of each client to look at in this turn: its share, and never less than an even one.

        Whose rows turn out not to fit leaves its slots to the others, so they must be at hand; whose turn it is, is decided row by row.
        """
        room = self._room(free)
        wants = {client: sum(places for _, places in lanes) for client, lanes in open_lanes.items()}
        self._fair.advance(wants)
        even = -(-room // len(wants))
        return {client: max(even, share) for client, share in self._fair.allocate(wants, self._weights(wants), room).items()}

    def _room(self, free: int) -> int:
        return min(free, sum(gate.slots for gate in self._pool.providers.values()))

    def _weights(self, clients: Iterable[str]) -> dict[str, float]:
        return {client: self._pool.clients[client].value.weight for client in clients}

    # -- reservations ------------------------------------------------------------------------------------------------------------

    def _plan(self, requests: Sequence[tuple[LaneState, LaneRequest]], found: Sequence[Candidate], shares: dict[str, int]) -> list[Planned]:
        """Reserve for each client its share in its turn, transactional first, then by priority and age, whatever lane a row is in."""
        states = {state.key: state for state, _ in requests}
        rows: dict[int, list[Candidate]] = {key: [] for key in states}
        for candidate in found:
            rows[candidate.lane_key].append(candidate)
        planned: list[Planned] = []
        blocked: set[int] = set()
        now = self._clock.now()
        queues: dict[str, list[Candidate]] = {}
        fresh = [row for row in found if row.id not in self._departures.under_way]  # a look for lanes may have taken a cursor back
        for candidate in sorted(fresh, key=lambda row: (states[row.lane_key].lane.kind is Kind.BULK, row.rank, row.due_at, row.id)):
            queues.setdefault(states[candidate.lane_key].lane.client, []).append(candidate)
        carriers = {key: self._pool.providers_of(state.lane) for key, state in states.items() if rows[key]}
        self._order.advance(_waiting(states, carriers))
        for candidate in self._order.in_turn(
            queues, lambda row: states[row.lane_key].lane.kind is not Kind.BULK, lambda row: carriers[row.lane_key]
        ):
            state = states[candidate.lane_key]
            if self._all_places_used():
                break
            if candidate.lane_key in blocked or shares[state.lane.client] <= 0:
                continue
            if not self._fits(candidate, planned):
                if candidate.bytes > self._config.bytes_in_flight:
                    break  # it goes alone, so nothing more until it can
                blocked.add(candidate.lane_key)
                continue
            plan = self._reserve(state, candidate, now)
            if plan is None:
                blocked.add(candidate.lane_key)
                continue
            planned.append(plan)
            self._departures.under_way.add(candidate.id)
            shares[state.lane.client] -= 1
        for state, request in requests:
            taken = list(takewhile(lambda row: row.id in self._departures.under_way, rows[state.key]))
            self.backlog.claimed(state, request.limit, rows[state.key], taken)
        return planned

    def _fits(self, candidate: Candidate, planned: Sequence[Planned]) -> bool:
        load = sum(plan.candidate.bytes for plan in planned if plan.candidate.bytes >= LARGE) if candidate.bytes >= LARGE else 0
        if not self._departures.takes(candidate.bytes, load):
            return False
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
        self._order.charge(state.lane.client, chosen.provider.limits.name, chosen.client.value.weight)
        header = candidate.message_id or message_id(candidate.id, chosen.domain.value.name)
        return Planned(candidate, chosen, slot, self._ids.take(now), header)


def _waiting(states: Mapping[int, LaneState], carriers: Mapping[int, Iterable[str]]) -> dict[str, set[str]]:
    """Which clients wait for each provider."""
    waiting: dict[str, set[str]] = {}
    for key, providers in carriers.items():
        for provider in providers:
            waiting.setdefault(provider, set()).add(states[key].lane.client)
    return waiting
