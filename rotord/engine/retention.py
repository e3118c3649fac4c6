"""The leader's housekeeping for years: what is to be erased is erased, what is old goes, a small step at a time.

A task of its own for each term, one step after the other on one connection. It works a tenth of the time while there is something to do,
so that sending, which shares the database, hardly notices. Owns nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from rotord.engine.retry import until_done
from rotord.engine.waiting import wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

#: between two rounds while there is nothing to do
IDLE_S: Final = 5.0
#: rest after a round that left something to do, in times of what it took, and at least
REST: Final = 9.0
REST_AT_LEAST_S: Final = 0.05


class Retention:
    """`steps` by name: each does a little and says whether there may be more (db.retention)."""

    def __init__(self, steps: Mapping[str, Callable[[], Awaitable[bool]]]) -> None:
        self._steps = steps

    async def run(self, stop: asyncio.Event) -> None:
        """Go round until `stop`; a step that was begun is finished."""
        clock = asyncio.get_running_loop().time
        while not stop.is_set():
            began = clock()
            more = [await until_done(step, name) for name, step in self._steps.items()]
            took = clock() - began
            await wait(stop, max(REST * took, REST_AT_LEAST_S) if any(more) else IDLE_S)
