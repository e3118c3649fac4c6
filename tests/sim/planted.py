"""Bugs that others had, each planted beside the product's code: the simulation must find every one of them, and none without."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rotord.core.model import Blame, Outcome
from rotord.core.past import past_of
from rotord.core.pool import SenderPool
from rotord.engine.flights import Flights
from rotord.engine.limbo import Limbo
from rotord.engine.term import Terms

from .memory_store import MemoryStore
from .node import Plant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotord.core.past import Past
    from rotord.core.pool import Assignment
    from rotord.core.records import Begin, Candidate, Term, Verdict
    from rotord.engine.launch import TermParts
    from rotord.engine.leadership import Lease
    from rotord.engine.recorder import Recorder

    from .memory_tables import Tables


# -- a: the answer to a begin is lost, so it did not happen ----------------------------------------------------------------------


class RefundingLimbo(Limbo):
    def add(self, attempt_id: int, candidate: Candidate, assignment: Assignment, now: float) -> None:
        self._pool.settle(assignment, Outcome.NOT_SENT, now)
        self._flights.free_place(candidate.bytes)


class RefundingTerms(Terms):
    async def _rebuild(self, lease: Lease, recorder: Recorder) -> tuple[TermParts, str]:
        parts, mark = await super()._rebuild(lease, recorder)
        return replace(parts, limbo=RefundingLimbo(parts.store, parts.pool, parts.flights, parts.clock)), mark


class RefundOnLostCommit(Plant):
    terms_type = RefundingTerms


# -- b: what a crash left on the wire is queued again ----------------------------------------------------------------------------


class RequeueingStore(MemoryStore):
    async def recover(self, term: Term) -> int:
        return await self._run("recover", _requeue, self.tables, term)


def _requeue(tables: Tables, term: Term) -> int:
    cut = [attempt for attempt in tables.attempts.values() if attempt.epoch < term.epoch and attempt.outcome is None]
    for attempt in cut:
        attempt.outcome = Outcome.NOT_SENT
        row = tables.queue.get(attempt.outbox_id)
        if row is not None and row.attempt == attempt.id and row.state == "sending":
            tables.move(row, "queued")
    return len(cut)


class RequeueAtRecovery(Plant):
    store_type = RequeueingStore


# -- c: only what was accepted is counted after a restart ------------------------------------------------------------------------


class ForgetfulStore(MemoryStore):
    async def past(self, now: float) -> Past:
        await super().past(now)
        return past_of(row for row in self.tables.recent(now) if row.outcome is Outcome.ACCEPTED)


class RebuildFromAccepted(Plant):
    store_type = ForgetfulStore


class ForgetCampaigns(Plant):
    """The ledger does not say whose campaign an attempt was."""

    class store_type(MemoryStore):  # noqa: N801 - a class in the place of one
        async def past(self, now: float) -> Past:
            past = await super().past(now)
            return past._replace(uses=[use._replace(campaign="") for use in past.uses])


# -- d: a message counts from its begin ------------------------------------------------------------------------------------------


class BeginBookingPool(SenderPool):
    def settle(self, assignment: Assignment, outcome: Outcome, at: float, blame: Blame | None = None) -> None:
        super().settle(assignment, outcome, assignment.began_at, blame)


class BeginBookingTerms(Terms):
    async def _rebuild(self, lease: Lease, recorder: Recorder) -> tuple[TermParts, str]:
        parts, mark = await super()._rebuild(lease, recorder)
        pool = BeginBookingPool.__new__(BeginBookingPool)
        pool.__dict__ = parts.pool.__dict__  # the pool that was rebuilt, with the bug
        flights = Flights(pool, recorder, parts.clock, self._config.retry, lease.trusted)
        limbo = Limbo(parts.store, pool, flights, parts.clock)
        return replace(parts, pool=pool, flights=flights, limbo=limbo), mark


class BookTheBegin(Plant):
    terms_type = BeginBookingTerms


# -- e: a begin does not look at the lease ---------------------------------------------------------------------------------------


class UnfencedStore(MemoryStore):
    async def begin(self, term: Term, begins: Sequence[Begin]) -> dict[int, Verdict]:
        return await self._run("begin", self.tables.begin_unfenced, term, begins)


class NoFence(Plant):
    store_type = UnfencedStore


PLANTS = {
    "refund-on-lost-commit": RefundOnLostCommit,
    "requeue-at-recovery": RequeueAtRecovery,
    "rebuild-from-accepted": RebuildFromAccepted,
    "forget-campaigns": ForgetCampaigns,
    "book-the-begin": BookTheBegin,
    "no-fence": NoFence,
}
