"""`/healthz`: does this process still turn? `/readyz`: can it do its work, and in which role?"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.web import BaseRequest

    from rotord.web.cached import Cached
    from rotord.web.ports import Pulse

#: half the shortest lease's trust: a loop that stands still longer is not one that can lead
SICK_S: Final = 5.0
_TICK_S: Final = 0.5
_REMEMBERED: Final = 20  # ticks: about 10 s


class LoopLag:
    """Measures how late the event loop wakes a task. One task runs `run`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._late: deque[float] = deque([0.0], maxlen=_REMEMBERED)

    @property
    def worst_s(self) -> float:
        """The worst of the last seconds."""
        return max(self._late)

    def saw(self, late_s: float) -> None:
        """Note one waking."""
        self._late.append(max(0.0, late_s))

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = self._clock() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self.saw(self._clock() - due)


class HealthRoutes:
    """The handlers; `leads` says whether this node leads."""

    def __init__(self, lag: LoopLag, pulse: Cached[Pulse], leads: Callable[[], bool]) -> None:
        self._lag = lag
        self._pulse = pulse
        self._leads = leads

    async def alive(self, _request: BaseRequest, _tail: str) -> web.Response:
        """Answer "ok", or 503 when the loop stood still a moment ago."""
        if self._lag.worst_s > SICK_S:
            return web.Response(status=503, text=f"the event loop stood still for {self._lag.worst_s:.1f} s\n")
        return web.Response(text="ok\n")

    async def ready(self, _request: BaseRequest, _tail: str) -> web.Response:
        """Say what stands between this node and its work; 503 when something does."""
        pulse = await self._pulse.get()
        is_ready = pulse.database and pulse.usable
        document = {
            "ready": is_ready,
            "role": "leader" if self._leads() else "standby",
            "database": "reachable" if pulse.database else "unreachable",
            "schema": pulse.schema,
            "epoch": pulse.epoch,
        }
        body = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        return web.Response(status=200 if is_ready else 503, body=body, content_type="application/json")
