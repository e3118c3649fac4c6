"""Attempts whose begin was asked for but never answered: the commit may have happened, nothing was sent.

Their reservations stay until the ledger shows them (then they are settled as not_sent and their messages go back to the queue) or has not
shown them for longer than a statement can still be under way. The ids are watched for the rest of the term all the same: one that turns
up late is put back, so that no row stays `sending` with nobody to finish it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from rotord.core.model import Outcome, Reply
from rotord.core.records import Next, Settlement, Step

if TYPE_CHECKING:
    from rotord.core.pool import Assignment, SenderPool
    from rotord.core.records import Candidate
    from rotord.engine.clock import DatabaseClock
    from rotord.engine.flights import Flights
    from rotord.engine.store import Store

_log = structlog.get_logger(__name__)
# Longer than a cancelled or orphaned statement lives on the server (command time-out 5 s and its cancel).
HOLD_S = 30.0
# How many ids are watched at most: 1,000 lost answers of 200 messages each.
WATCH_AT_MOST = 200_000
_NEVER_SENT = Reply(Outcome.NOT_SENT, text="begun, but the database's answer was lost, so it was not sent")


@dataclass(frozen=True, slots=True)
class _Lost:
    candidate: Candidate
    assignment: Assignment
    since: float


class Limbo:
    """Filled by the dispatcher, emptied by `read_back`, which maintenance calls until nothing is held."""

    def __init__(self, store: Store, pool: SenderPool, flights: Flights, clock: DatabaseClock) -> None:
        self._store = store
        self._pool = pool
        self._flights = flights
        self._clock = clock
        self._held: dict[int, _Lost] = {}
        self._watched: dict[int, Candidate] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, attempt_id: int, candidate: Candidate, assignment: Assignment, now: float) -> None:
        """Keep a reservation whose begin was not answered."""
        self._held[attempt_id] = _Lost(candidate, assignment, now)

    async def read_back(self) -> bool:
        """Ask the ledger about every id; True when a message went back to the queue."""
        ids = [*self._held, *self._watched]
        if not ids:
            return False
        asked_at = self._clock.now()
        rows = await self._store.read_back(ids)
        there = {row.attempt_id: row for row in rows}
        if there:
            await self._store.settle([self._not_sent(attempt_id) for attempt_id in there])
        for attempt_id in there:
            self._watched.pop(attempt_id, None)
            lost = self._held.pop(attempt_id, None)
            if lost is not None:
                self._release(lost)
        for attempt_id, lost in list(self._held.items()):
            if asked_at - lost.since > HOLD_S:
                del self._held[attempt_id]
                self._release(lost)
                self._watch(attempt_id, lost.candidate)
        if there:
            _log.warning("lost_begins_put_back", count=len(there))
        return bool(there)

    def _not_sent(self, attempt_id: int) -> Settlement:
        lost = self._held.get(attempt_id)
        candidate = lost.candidate if lost is not None else self._watched[attempt_id]
        now = self._clock.now()
        return Settlement(attempt_id, candidate.id, _NEVER_SENT, now, Step(Next.RETRY, now))

    def _release(self, lost: _Lost) -> None:
        self._pool.settle(lost.assignment, Outcome.NOT_SENT, self._clock.now())
        self._flights.free_place(lost.candidate.bytes)

    def _watch(self, attempt_id: int, candidate: Candidate) -> None:
        self._watched[attempt_id] = candidate
        if len(self._watched) > WATCH_AT_MOST:
            del self._watched[next(iter(self._watched))]
