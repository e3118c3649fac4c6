"""The leader's small timetable: what is due ripens, what is late expires, changes of the fleet arrive, lost begins are read back.

One loop each, so that a slow one delays no other. All of them stop with the term.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from rotord.core.records import Fleet, ProviderReport
from rotord.engine.retry import until_done
from rotord.engine.waiting import wait

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rotord.core.pool import SenderPool
    from rotord.engine.dispatcher import Dispatcher, EngineConfig
    from rotord.engine.launch import TermParts
    from rotord.providers.base import Provider

_log = structlog.get_logger(__name__)
STRANDED_S = 5.0
# Every insertion is a reason to look for rows that are due a moment later, and hardly any has one. What is due and yet did not ripen,
# somebody has locked: an app's transaction that calls it back, for as long as it is open. Looks that find nothing are so far apart.
RIPEN_APART_S = 0.1
TIDY_S = 60.0
ROLL_UP_S = 10.0
# What has not changed is published this often all the same: `updated_at` is how a reader tells a quiet leader from a dead one.
PUBLISH_AT_LEAST_S = 10.0
# Rows of the fleet between two pauses: some milliseconds.
PAUSE_EVERY = 200


class Maintenance:
    """Owns nothing: each loop tells the dispatcher what it found."""

    def __init__(
        self, parts: TermParts, dispatcher: Dispatcher, providers: Mapping[str, Provider], mark: str, config: EngineConfig
    ) -> None:
        self._parts = parts
        self._store = parts.store
        self._dispatcher = dispatcher
        self._providers = providers
        self._mark = mark
        self._config = config
        self.rows_wake = asyncio.Event()
        self.fleet_wake = asyncio.Event()
        #: the reconciler's, by provider
        self.look_up_notes: Mapping[str, str] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Run every loop until `stop`."""
        async with asyncio.TaskGroup() as group:
            for loop in (
                self._ripen,
                self._fleet,
                self._expire,
                self._strand,
                self._read_back,
                self._publish,
                self._tidy,
                self._roll_up,
                self._analyze,
            ):
                group.create_task(loop(stop), name=f"maintenance{loop.__name__}")
            await stop.wait()
            self.rows_wake.set()
            self.fleet_wake.set()

    async def _ripen(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.rows_wake.clear()
            now = self._parts.clock.now()
            ripened = await until_done(lambda at=now: self._store.ripen(at), "ripen")  # type: ignore[misc]
            if ripened.count:
                self._dispatcher.wake()
            else:
                await wait(stop, RIPEN_APART_S)
            poll_s = self._config.poll_s
            due_in = poll_s if ripened.next_due_at is None else ripened.next_due_at - self._parts.clock.now()
            await wait(self.rows_wake, min(poll_s, max(0.0, due_in)))

    async def _fleet(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.fleet_wake.clear()
            asked_at = self._parts.clock.now()
            changed = await until_done(lambda: self._store.fleet_changes(self._mark), "fleet")
            self._mark = changed.mark
            for _ in applying(self._parts.pool, changed):
                await asyncio.sleep(0)
            if changed != Fleet(changed.mark):
                _log.info("fleet_changed", clients=len(changed.clients), domains=len(changed.domains), addresses=len(changed.addresses))
                self._dispatcher.rethink()
            self._dispatcher.fleet_is_as_of(asked_at)
            await wait(self.fleet_wake, self._config.fleet_s)

    async def _expire(self, stop: asyncio.Event) -> None:
        while not await wait(stop, self._config.expire_s):
            count = await until_done(self._store.expire, "expire")
            if count:
                _log.info("messages_expired", count=count)

    async def _strand(self, stop: asyncio.Event) -> None:
        while not await wait(stop, STRANDED_S):
            if await until_done(self._store.promote_stranded, "threads"):
                self._dispatcher.wake()

    async def _read_back(self, stop: asyncio.Event) -> None:
        while not await wait(stop, self._config.read_back_s):
            if await until_done(self._parts.limbo.read_back, "read back"):
                self._dispatcher.wake()

    async def _publish(self, stop: asyncio.Event) -> None:
        published: list[ProviderReport] = []
        age = 0
        while not await wait(stop, self._config.publish_s):
            reports = [self._report(name, provider) for name, provider in self._providers.items()]
            age += 1
            if reports != published or age * self._config.publish_s >= PUBLISH_AT_LEAST_S:
                await until_done(lambda out=reports: self._store.publish(out), "publish")  # type: ignore[misc]
                published, age = reports, 0

    def _report(self, name: str, provider: Provider) -> ProviderReport:
        status, breaker = provider.status(), self._parts.pool.providers[name].breaker
        reason, next_try_in_s = status.reason, status.next_try_in_s
        limits: dict[str, object] = {}
        month = self._parts.pool.providers[name].month
        if month is not None:
            month.free_at(self._parts.clock.now())  # the turn of the month is noticed when it is asked
            limits["month"] = {"used": month.used, "per_month": month.per_month}
        if breaker.tripped_by is not None:
            probe_at = None if breaker.is_probing else breaker.opens_at
            limits["breaker"] = {**breaker.tripped_by._asdict(), "next_probe_at": probe_at}
            reason = reason or str(breaker)
            if next_try_in_s is None and probe_at is not None:
                next_try_in_s = max(0.0, probe_at - self._parts.clock.now())
        if note := self.look_up_notes.get(name):
            limits["look_up"] = note
            reason = reason or f"no look-ups: {note}"
        return ProviderReport(
            name, provider.kind, status.up, status.ready, status.in_flight, status.capacity, reason, next_try_in_s, limits
        )

    async def _roll_up(self, stop: asyncio.Event) -> None:
        while not await wait(stop, ROLL_UP_S):
            await until_done(lambda: self._store.roll_up(self._parts.clock.now()), "statistics")

    async def _tidy(self, stop: asyncio.Event) -> None:
        while not await wait(stop, TIDY_S):
            await until_done(lambda: self._store.tidy(self._parts.clock.now()), "tidy")

    async def _analyze(self, stop: asyncio.Event) -> None:
        while not await wait(stop, self._config.analyze_s):
            tables = await until_done(self._store.analyze, "analyze")
            if tables:
                _log.info("tables_analyzed", tables=tables)


def apply_fleet(pool: SenderPool, fleet: Fleet) -> None:
    """Bring a change into the pool. An address or domain whose owner is gone is left out."""
    for _ in applying(pool, fleet):
        pass


def applying(pool: SenderPool, fleet: Fleet) -> Iterator[None]:
    """Do as `apply_fleet`, and pause now and then: a big fleet takes a second, and the loop belongs to others too.

    They may decide meanwhile: each cap, window and place is the old one or the new one.
    """
    for number, _ in enumerate(_put(pool, fleet), 1):
        if number % PAUSE_EVERY == 0:
            yield
    yield from pool.weighing()
    if fleet.paused is not None:
        pool.set_paused(fleet.paused)
    if fleet.campaigns is not None:
        pool.set_campaigns(fleet.campaigns)


def _put(pool: SenderPool, fleet: Fleet) -> Iterator[None]:
    """Take the rows, one a step."""
    for email in fleet.gone_addresses:
        pool.remove_address(email)
        yield
    for name in fleet.gone_domains:
        pool.remove_domain(name)
        yield
    for slug in fleet.gone_clients:
        pool.remove_client(slug)
        yield
    for client in fleet.clients:
        pool.put_client(client)
        yield
    for domain in fleet.domains:
        if domain.client in pool.clients:
            pool.put_domain(domain)
            yield
    for address in fleet.addresses:
        if address.domain in pool.domains:
            pool.put_address(address)
            yield
