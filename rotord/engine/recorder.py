"""Writes what became of attempts, in batches. Owns the way from a reply to its row.

Between a reply and `put` there is no await, and an engine place is held until the row is written, so the queue never holds more than
`concurrency` and `put` never fails. A batch that the database refuses for its data is halved until the one bad reply is alone; that one
is written without its words. While the database is away nothing is dropped and nothing new begins.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from rotord.db.connect import transient
from rotord.engine.retry import until_done

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rotord.core.records import Settlement
    from rotord.engine.store import Store

_log = structlog.get_logger(__name__)
BATCH = 500
# Replies come one by one; what comes within this time shares a commit.
GATHER_S = 0.003
ENOUGH = 100


class Recorder:
    """One task runs `run`; deliveries call `put`. `written` is told each recorded settlement, in its own task."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[Settlement] = []
        self._wake = asyncio.Event()
        self._ended = False
        self.written: Callable[[Sequence[Settlement]], None] = _nobody

    @property
    def backlog(self) -> int:
        """Replies that are not written yet."""
        return len(self._waiting)

    def put(self, settlement: Settlement) -> None:
        """Hand a reply over; never waits, never fails."""
        self._waiting.append(settlement)
        self._wake.set()

    def end(self) -> None:
        """No more will come: `run` writes what is there and returns."""
        self._ended = True
        self._wake.set()

    async def run(self) -> None:
        """Write until `end`."""
        while self._waiting or not self._ended:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            if len(self._waiting) < ENOUGH and not self._ended:
                await asyncio.sleep(GATHER_S)
            batch = self._waiting[:BATCH]
            await self._write(batch)
            del self._waiting[: len(batch)]
            self.written(batch)

    async def _write(self, batch: Sequence[Settlement]) -> None:
        try:
            await until_done(lambda: self._store.settle(batch), "settle")
        except Exception as error:
            if transient(error):
                raise
            if len(batch) == 1:
                await self._write_bare(batch[0], error)
                return
            middle = len(batch) // 2
            await self._write(batch[:middle])
            await self._write(batch[middle:])

    async def _write_bare(self, settlement: Settlement, error: Exception) -> None:
        _log.error("reply_not_storable", attempt_id=settlement.attempt_id, error=type(error).__name__)
        text = f"(the provider's words could not be stored: {type(error).__name__})"
        bare = settlement._replace(reply=settlement.reply._replace(text=text, code="", provider_message_id=""))
        await until_done(lambda: self._store.settle([bare]), "settle")


def _nobody(_: Sequence[Settlement]) -> None:
    """Stand in before the dispatcher registers."""
