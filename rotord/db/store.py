"""The engine's store on PostgreSQL: every method is the function of that name in a module beside this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotord.db import analyze, campaigns, lease, ledger, queue, reconcile, reports, senders, settle, stats

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg

    from rotord.core.limits import MonthUse
    from rotord.core.lookups import Found, Sought, Timetable
    from rotord.core.past import Past
    from rotord.core.records import (
        Begin,
        Candidate,
        Fleet,
        LaneRequest,
        LaneRow,
        Payload,
        ProviderReport,
        Ripened,
        Settlement,
        Term,
        Unfinished,
        Verdict,
    )

# Start-up statements that read a day or all of the fleet; everything else has the pool's own, shorter time-out.
LONG_S = 120.0


class PostgresStore:
    """Answers what `rotord.engine.store.Store` asks. Holds the pool, and nothing else."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def win(self, holder: UUID, ttl_s: float, node: str) -> Term | None:
        """See db.lease."""
        return await lease.win(self._pool, holder, ttl_s, node)

    async def renew(self, term: Term, ttl_s: float, timeout_s: float) -> bool:
        """See db.lease."""
        return await lease.renew(self._pool, term, ttl_s, timeout_s)

    async def resign(self, term: Term) -> None:
        """See db.lease."""
        await lease.resign(self._pool, term)

    async def recover(self, term: Term) -> int:
        """See db.settle."""
        return await settle.recover(self._pool, term, LONG_S)

    async def cut_off(self, epoch: int) -> list[Unfinished]:
        """See db.settle."""
        return await settle.cut_off(self._pool, epoch, LONG_S)

    async def fleet(self) -> Fleet:
        """See db.senders."""
        return await senders.load(self._pool, LONG_S)

    async def fleet_changes(self, mark: str) -> Fleet:
        """See db.senders."""
        return await senders.changes(self._pool, mark)

    async def past(self, now: float) -> Past:
        """See db.ledger."""
        async with self._pool.acquire() as connection:
            return await ledger.past(connection, now, LONG_S)

    async def month_use(self, now: float) -> dict[str, MonthUse]:
        """See db.ledger."""
        return await ledger.month_use(self._pool, now, LONG_S)

    async def lanes(self) -> list[LaneRow]:
        """See db.queue."""
        return await queue.lanes(self._pool)

    async def candidates(self, requests: Sequence[LaneRequest]) -> list[Candidate]:
        """See db.queue."""
        return await queue.candidates(self._pool, requests)

    async def payloads(self, ids: Sequence[int]) -> list[Payload]:
        """See db.queue."""
        return await queue.payloads(self._pool, ids)

    async def begin(self, term: Term, begins: Sequence[Begin]) -> dict[int, Verdict]:
        """See db.queue."""
        return await queue.begin(self._pool, term, begins)

    async def read_back(self, attempt_ids: Sequence[int]) -> list[Unfinished]:
        """See db.settle."""
        return await settle.read_back(self._pool, attempt_ids)

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """See db.settle."""
        await settle.settle(self._pool, settlements)

    async def ripen(self, now: float) -> Ripened:
        """See db.settle."""
        return await settle.ripen(self._pool, now)

    async def expire(self) -> int:
        """See db.settle."""
        return await settle.expire(self._pool)

    async def promote_stranded(self) -> int:
        """See db.settle."""
        return await settle.promote_stranded(self._pool)

    async def repin(self, lane_key: int, pin: str) -> int:
        """See db.settle."""
        return await settle.repin(self._pool, lane_key, pin)

    async def fail_lane(self, lane_key: int, reason: str) -> int:
        """See db.settle."""
        return await settle.fail_lane(self._pool, lane_key, reason)

    async def fail_row(self, outbox_id: int, reason: str) -> None:
        """See db.settle."""
        await settle.fail_row(self._pool, outbox_id, reason)

    async def due_look_ups(self, provider: str, now: float, timetable: Timetable, limit: int) -> list[Sought]:
        """See db.reconcile."""
        return await reconcile.due_look_ups(self._pool, provider, now, timetable, limit)

    async def found(self, sought: Sought, what: Found) -> bool:
        """See db.reconcile."""
        return await reconcile.found(self._pool, sought, what)

    async def missed(self, sought: Sought, now: float, *, complete: bool) -> bool:
        """See db.reconcile."""
        return await reconcile.missed(self._pool, sought, now, complete=complete)

    async def publish(self, provider_reports: Sequence[ProviderReport]) -> None:
        """See db.reports."""
        await reports.publish(self._pool, provider_reports)

    async def roll_up(self, now: float) -> None:
        """See db.stats."""
        await stats.roll_up(self._pool, now)

    async def tidy(self, now: float) -> None:
        """Count finished days, forget changes of the fleet that everybody has seen, call back what is queued in cancelled campaigns.

        And note what a start need not read.
        """
        for day in await ledger.days_to_roll_up(self._pool, now):
            await ledger.roll_up(self._pool, day, LONG_S)
        await senders.forget_changes(self._pool)
        await campaigns.sweep(self._pool)
        await lease.sweep(self._pool, ledger.over_by(now), LONG_S)

    async def analyze(self) -> list[str]:
        """See db.analyze."""
        return await analyze.analyze(self._pool)
