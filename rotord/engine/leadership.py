"""Who may send. Wins the lease, keeps it, and says at every moment whether it can still be trusted.

The database's clock decides who holds the lease; the node's monotonic clock only shortens the trust: it ends `margin` before the lease
can, counted from before the renewal was asked for, however late its answer came. The check stands where it is used (before each begin and
each send), since a loop that renews may itself be late.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import structlog

from rotord.db.connect import transient
from rotord.engine.waiting import wait, wait_any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rotord.core.records import Term
    from rotord.engine.store import Store

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseConfig:
    """Seconds. renew_s + query_s + margin_s < ttl_s, or one lost renewal would end the term."""

    ttl_s: float = 10.0
    renew_s: float = 2.0
    query_s: float = 1.5
    margin_s: float = 2.0


class Lease:
    """A held lease. `lost` is set once, when it can no longer be trusted. `asked_at`: the node's time right before it was won."""

    def __init__(self, term: Term, asked_at: float, trusted_until: float, monotonic: Callable[[], float]) -> None:
        self.term = term
        self.asked_at = asked_at
        self.lost = asyncio.Event()
        self._trusted_until = trusted_until
        self._monotonic = monotonic

    def trusted(self) -> bool:
        """True while nobody else can have taken it."""
        return not self.lost.is_set() and self._monotonic() < self._trusted_until

    def trust_until(self, until: float) -> None:
        """A renewal was answered."""
        self._trusted_until = max(self._trusted_until, until)

    def trust_left(self) -> float:
        """Seconds of trust."""
        return self._trusted_until - self._monotonic()


class Leadership:
    """Leads whenever it can, until `stop`. `holder` is fresh for each process, so that an epoch is never mistaken for another's."""

    def __init__(self, store: Store, config: LeaseConfig, node: str, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._config = config
        self._node = node
        self._monotonic = monotonic
        self.holder: UUID = uuid4()
        self.wake = asyncio.Event()
        self.is_leader = False

    async def run(self, stop: asyncio.Event, lead: Callable[[Lease], Awaitable[None]]) -> None:
        """Win the lease, run `lead` for the term, resign; again until `stop`."""
        waiting = False
        while not stop.is_set():
            lease = await self._win()
            if lease is None:
                if not waiting:
                    _log.info("waiting_for_lease")
                    waiting = True
                self.wake.clear()
                await wait_any((stop, self.wake), self._config.renew_s / 2)
                continue
            waiting = False
            _log.info("lease_won", epoch=lease.term.epoch)
            await self._term(lease, lead)

    async def _term(self, lease: Lease, lead: Callable[[Lease], Awaitable[None]]) -> None:
        ended = asyncio.Event()
        self.is_leader = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep(lease, ended), name="lease")
                try:
                    await lead(lease)
                finally:
                    ended.set()
        finally:
            self.is_leader = False
        await self._resign(lease)

    async def _win(self) -> Lease | None:
        asked_at = self._monotonic()
        try:
            term = await self._store.win(self.holder, self._config.ttl_s, self._node)
        except Exception as error:
            if not transient(error):
                raise
            _log.warning("database_unavailable", during="lease", error=repr(error))
            return None
        if term is None:
            return None
        return Lease(term, asked_at, asked_at + self._config.ttl_s - self._config.margin_s, self._monotonic)

    async def _keep(self, lease: Lease, ended: asyncio.Event) -> None:
        while not await wait(ended, min(self._config.renew_s, max(0.0, lease.trust_left()))):
            asked_at = self._monotonic()
            try:
                async with asyncio.timeout(self._config.query_s):  # also the wait for a free connection
                    kept = await self._store.renew(lease.term, self._config.ttl_s, self._config.query_s)
            except Exception as error:
                if not transient(error):
                    raise
                _log.warning("lease_not_renewed", trust_left_s=round(lease.trust_left(), 1), error=repr(error))
            else:
                if not kept:
                    lease.lost.set()
                lease.trust_until(asked_at + self._config.ttl_s - self._config.margin_s)
            if not lease.trusted():
                lease.lost.set()
                _log.error("lease_lost", epoch=lease.term.epoch)
                return

    async def _resign(self, lease: Lease) -> None:
        if lease.lost.is_set():
            return
        try:
            await self._store.resign(lease.term)
        except Exception as error:
            if not transient(error):
                raise
            _log.warning("lease_not_resigned", error=repr(error))
        else:
            _log.info("lease_resigned", epoch=lease.term.epoch)
