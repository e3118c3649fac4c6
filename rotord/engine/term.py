"""One term of leadership, from the rebuilt pool to the drained wire.

Order at its end: no more claims; what has begun gets `drain_s`; then it is cut (not fully left: not_sent; else uncertain); lost begins are
read back; every reply is written. Nothing of a term outlives it, so the next one (here or elsewhere) rebuilds from the ledger alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from rotord.core.limits import MonthUse
from rotord.core.pool import SenderPool
from rotord.core.rebuilding import rebuilding
from rotord.core.settling import RetryPolicy
from rotord.db.connect import transient
from rotord.engine.clock import DatabaseClock
from rotord.engine.dispatcher import Dispatcher, EngineConfig
from rotord.engine.flights import Flights, Observer, unobserved
from rotord.engine.heap import long_lived
from rotord.engine.launch import TermParts
from rotord.engine.limbo import Limbo
from rotord.engine.maintenance import Maintenance, applying
from rotord.engine.reconciler import Reconciler
from rotord.engine.recorder import Recorder
from rotord.engine.recovery import settle_by_journal
from rotord.engine.retry import until_done
from rotord.engine.waiting import wait, wait_any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rotord.core.model import ProviderLimits
    from rotord.engine.ingester import Ingester
    from rotord.engine.leadership import Lease
    from rotord.engine.list_sync import ListSync
    from rotord.engine.preparation import Preparation
    from rotord.engine.retention import Retention
    from rotord.engine.store import Store
    from rotord.journal import Journal
    from rotord.providers.base import LookUp, Provider

_log = structlog.get_logger(__name__)
# While it drains: one line this often says for what.
SAY_EVERY_S = 15.0


@dataclass(frozen=True, slots=True)
class TermConfig:
    """What a term needs to know of the settings."""

    limits: tuple[ProviderLimits, ...]
    engine: EngineConfig = field(default_factory=EngineConfig)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    drain_s: float = 20.0
    thread_wait_s: float = 86400.0
    hurry: asyncio.Event = field(default_factory=asyncio.Event)  # set by a second signal: skip the drain
    observe: Observer = unobserved
    look_ups: Mapping[str, LookUp] = field(default_factory=dict)
    lists: ListSync | None = None


class Terms:
    """Runs terms, one after the other. `rows` and `fleet` may be called by anyone in the loop to wake the present one."""

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, Provider],
        preparation: Preparation,
        config: TermConfig,
        monotonic: Callable[[], float],
        ingester: Ingester | None = None,
        journal: Journal | None = None,
        retention: Retention | None = None,
    ) -> None:
        self._ingester = ingester
        self._retention = retention
        self._store = store
        self._providers = providers
        self._preparation = preparation
        self._config = config
        self._monotonic = monotonic
        self._journal = journal
        self._dispatcher: Dispatcher | None = None
        self._maintenance: Maintenance | None = None

    def rows(self) -> None:
        """Rows were inserted."""
        if self._dispatcher is not None and self._maintenance is not None:
            self._dispatcher.wake()
            self._maintenance.rows_wake.set()

    def fleet(self) -> None:
        """The fleet was edited."""
        if self._maintenance is not None:
            self._maintenance.fleet_wake.set()

    async def run(self, lease: Lease, stop: asyncio.Event) -> None:
        """Lead until `stop`, or until the lease is lost."""
        recorder = Recorder(self._store)
        with long_lived():
            parts, mark = await self._rebuild(lease, recorder)
        dispatcher = Dispatcher(parts, self._providers, self._preparation, self._config.engine)
        recorder.written = dispatcher.written
        reconciler = Reconciler(parts, dispatcher, self._config.look_ups)
        maintenance = Maintenance(parts, dispatcher, self._providers, mark, self._config.engine)
        maintenance.look_up_notes = reconciler.notes
        self._dispatcher, self._maintenance = dispatcher, maintenance
        ending, ended = asyncio.Event(), asyncio.Event()
        try:
            async with asyncio.TaskGroup() as services:
                services.create_task(recorder.run(), name="recorder")
                services.create_task(maintenance.run(ended), name="maintenance")
                services.create_task(reconciler.run(ended), name="reconciler")
                services.create_task(_end_on(stop, lease, ended, _Ending(ending, dispatcher, parts.flights)), name="end-of-term")
                if self._config.lists is not None:
                    services.create_task(self._config.lists.run(ended), name="lists")
                if self._ingester is not None:
                    services.create_task(self._ingester.run(lease.term, ended), name="ingester")
                if self._retention is not None:
                    services.create_task(self._retention.run(ended), name="retention")
                await self._fly(dispatcher, parts, ending)
                if dispatcher.fenced:
                    lease.lost.set()
                await self._last_look(parts)
                ended.set()
                recorder.end()
        finally:
            self._dispatcher = self._maintenance = None
        for _ in parts.pool.dissolving():
            await asyncio.sleep(0)

    async def _rebuild(self, lease: Lease, recorder: Recorder) -> tuple[TermParts, str]:
        store, term = self._store, lease.term
        clock = DatabaseClock(term.now, lease.asked_at, self._monotonic)
        known = 0 if self._journal is None else await settle_by_journal(store, term, self._journal)
        cut = await until_done(lambda: store.recover(term), "recover")
        if self._journal is not None:
            self._journal.open(term.holder, term.epoch)
        pool = SenderPool(self._config.limits, self._config.thread_wait_s)
        async with asyncio.TaskGroup() as reads:  # PostgreSQL groups the one while we read the other
            of_past = reads.create_task(until_done(lambda: store.past(clock.now()), "ledger"), name="ledger")
            fleet = await until_done(store.fleet, "fleet")
            for _ in applying(pool, fleet):
                await asyncio.sleep(0)
        flights = Flights(pool, recorder, clock, self._config.retry, lease.trusted, self._journal)
        flights.observe = self._config.observe
        parts = TermParts(store, term, pool, flights, clock, Limbo(store, pool, flights, clock))
        for _ in rebuilding(pool, of_past.result()):
            await asyncio.sleep(0)
        is_monthly = any(gate.month is not None for gate in pool.providers.values())
        month = await until_done(lambda: store.month_use(clock.now()), "month") if is_monthly else {}
        for name, gate in pool.providers.items():
            if gate.month is not None:
                gate.month.restore(clock.now(), month.get(name, MonthUse()))
            if gate.bucket is not None:
                gate.bucket.drain(clock.now())
        _log.info(
            "term_began",
            epoch=term.epoch,
            addresses=len(pool.addresses),
            attempts_of_24_h=sum(gate.cap.use(clock.now())[1] for gate in pool.providers.values()),
            settled_by_journal=known,
            made_uncertain=cut,
        )
        return parts, fleet.mark

    async def _fly(self, dispatcher: Dispatcher, parts: TermParts, ending: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as deliveries:
                await dispatcher.run(deliveries, ending)
                if dispatcher.fenced:
                    parts.flights.abort_unsent()
                limit.reschedule(loop.time() + self._config.drain_s)
                if parts.flights.count:
                    deliveries.create_task(_watch_drain(parts.flights, self._config.hurry, limit), name="drain")
        except TimeoutError:
            _log.warning("drain_time_over")

    async def _last_look(self, parts: TermParts) -> None:
        """Read lost begins back once more; what the database cannot tell now, the next term finds."""
        if not len(parts.limbo):
            return
        try:
            await parts.limbo.read_back()
        except Exception as error:
            if not transient(error):
                raise


@dataclass(frozen=True, slots=True)
class _Ending:
    event: asyncio.Event
    dispatcher: Dispatcher
    flights: Flights

    def begin(self) -> None:
        """No more turns."""
        self.event.set()
        self.dispatcher.nudge()


async def _end_on(stop: asyncio.Event, lease: Lease, ended: asyncio.Event, ending: _Ending) -> None:
    """End the term when told to, or at once when the lease is lost: then what has not fully left is cut."""
    while not ended.is_set():
        if lease.lost.is_set() or not lease.trusted():
            lease.lost.set()
            ending.begin()
            ending.flights.abort_unsent()
            return
        if stop.is_set():
            ending.begin()
        events = (lease.lost, ended) if stop.is_set() else (lease.lost, ended, stop)
        await wait_any(events, max(0.0, lease.trust_left()))


async def _watch_drain(flights: Flights, hurry: asyncio.Event, limit: asyncio.Timeout) -> None:
    """Say for what the drain waits; cut it short when told to hurry."""
    loop = asyncio.get_running_loop()
    say_at = loop.time()
    while flights.count:
        if loop.time() >= say_at:
            _log.info("waiting_for_answers", count=flights.count)
            say_at += SAY_EVERY_S
        # 0.1 s: how late the end of the drain may be noticed
        if await wait(hurry, 0.1):
            limit.reschedule(loop.time())
            return
