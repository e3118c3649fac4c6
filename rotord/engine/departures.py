"""From a turn's reservations to their begins, beside the turns that follow: while one begin is committed the next turn is prepared.

Owns which messages are under way, between their reservation and the answer to their begin: in the database they still wait, so a turn that
sees them again must leave them alone. Large messages are read and rendered beside the turns as well, one load at a time, so that nobody
else's mail waits for their bodies.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from rotord.db.connect import transient
from rotord.db.queue import FencedError
from rotord.engine.launch import PAYLOAD_CHUNK
from rotord.engine.waiting import wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from rotord.engine.launch import Launcher
    from rotord.engine.planned import Planned

_log = structlog.get_logger(__name__)
# While the database is away: a begin costs nothing to hold back, and the recorder has its own tries.
DATABASE_PAUSE_S = 0.5
# Begins on their way at once: through 50 SMTP connections two make the drain a sixth faster than one, and more than two no faster.
BEGINS = 2
# From this size on reading and rendering a body takes longer than a turn.
LARGE = 1024 * 1024


class Departures:
    """Used by the dispatcher alone. `wake` is called when a turn may find something new."""

    def __init__(self, launcher: Launcher, wake: Callable[[], None]) -> None:
        self._launcher = launcher
        self._wake = wake
        self._begins: set[asyncio.Task[None]] = set()
        self._carries = False
        self._over = False
        #: ids of the outbox rows
        self.under_way: set[int] = set()
        #: the lease turned out to be lost
        self.fenced = False

    def takes(self, size: int, load: int) -> bool:
        """Whether a message of this size may go beside a turn's large ones, which have `load` bytes."""
        return size < LARGE or not (self._carries or (load and load + size > PAYLOAD_CHUNK))

    async def depart(self, group: asyncio.TaskGroup, planned: Sequence[Planned]) -> None:
        """Prepare small messages, and have them begin in a task of `group`; the large ones do both in theirs."""
        large = [plan for plan in planned if plan.candidate.bytes >= LARGE]
        if large:
            self._carries = True
            group.create_task(self._carry(group, large), name="large-messages")
        small = [plan for plan in planned if plan.candidate.bytes < LARGE]
        try:
            prepared = await self._launcher.prepare(small)
            if len(self._begins) >= BEGINS:
                await self._room_for(prepared)
        except BaseException:
            self.under_way.difference_update(plan.candidate.id for plan in small)
            raise
        task = group.create_task(self._begin(group, small, prepared), name="begin")
        self._begins.add(task)
        task.add_done_callback(self._begins.discard)

    async def close(self) -> None:
        """Wait for the begins that are on their way; large messages that are not prepared yet are dropped when they are."""
        if self._begins:
            await asyncio.wait(self._begins)
        self._over = True

    async def _room_for(self, prepared: Sequence[Planned]) -> None:
        """Wait until one more begin may be on its way. What was prepared is dropped if this is cancelled."""
        try:
            await asyncio.wait(self._begins, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            for plan in prepared:
                self._launcher.drop(plan)
            raise

    async def _begin(self, group: asyncio.TaskGroup, planned: Sequence[Planned], prepared: Sequence[Planned]) -> None:
        async with self._beside(planned):
            await self._launcher.begin(group, prepared)

    async def _carry(self, group: asyncio.TaskGroup, large: Sequence[Planned]) -> None:
        async with self._beside(large):
            prepared = await self._launcher.prepare(large)
            if self._over:
                for plan in prepared:
                    self._launcher.drop(plan)
            else:
                await self._launcher.begin(group, prepared)
        self._carries = False
        self._wake()

    @asynccontextmanager
    async def _beside(self, planned: Sequence[Planned]) -> AsyncIterator[None]:
        """Take what may go wrong beside the turns as the dispatcher takes it in one. After it none of them is under way."""
        try:
            yield
        except FencedError:
            self.fenced = True
            self._wake()
        except Exception as error:
            if not transient(error):
                raise
            _log.warning("database_unavailable", during="dispatch", error=repr(error))
            await wait(asyncio.Event(), DATABASE_PAUSE_S)
            self._wake()
        finally:
            self.under_way.difference_update(plan.candidate.id for plan in planned)
