"""An event loop that never waits: when nothing is ready it jumps to the next timer.

A day of timers takes seconds. `time()` is the only clock; whoever reads another one is not in the simulation. A stop of a node (SIGSTOP, a
paused machine) is played by a task factory: while a node is frozen, none of its tasks takes a step, whatever its timers do.
"""

from __future__ import annotations

import asyncio
import selectors
import types
from contextvars import ContextVar
from typing import Any


class StuckError(RuntimeError):
    """Nothing is scheduled: the program waits for something that can no longer happen."""


class _Jump(selectors.DefaultSelector):
    """Selects nothing, ever: there is no file or socket in a simulation but the loop's own wake-up pipe."""

    loop: SimLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise StuckError("nothing is scheduled")
        if timeout > 0:
            self.loop.now += timeout
        return []


class SimLoop(asyncio.SelectorEventLoop):
    """Give it to `asyncio.Runner(loop_factory=SimLoop)`."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)
        self.set_task_factory(_make_task)

    def time(self) -> float:
        return self.now


class Freezer:
    """One node's brake. Tasks made inside `entered` context obey it."""

    def __init__(self) -> None:
        self._thawed: asyncio.Event | None = None

    @property
    def frozen(self) -> bool:
        return self._thawed is not None

    def freeze(self) -> None:
        if self._thawed is None:
            self._thawed = asyncio.Event()

    def thaw(self) -> None:
        if self._thawed is not None:
            self._thawed.set()
            self._thawed = None

    async def wait(self) -> None:
        if self._thawed is not None:
            await self._thawed.wait()


FREEZER: ContextVar[Freezer | None] = ContextVar("freezer", default=None)


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    freezer = FREEZER.get()
    if freezer is not None:
        coroutine = _obeying(coroutine, freezer)
    return asyncio.Task(coroutine, loop=loop, **options)


async def _obeying(coroutine: Any, freezer: Freezer) -> Any:
    return await _steps(coroutine, freezer)


@types.coroutine
def _steps(coroutine: Any, freezer: Freezer):
    """Drive a coroutine step by step; what arrives while frozen (a result, a cancellation) is delivered after the thaw."""
    step, value = coroutine.send, None
    while True:
        while freezer.frozen:
            try:
                yield from freezer.wait().__await__()
            except BaseException as error:  # noqa: BLE001 - delivered below
                step, value = coroutine.throw, error
        try:
            yielded = step(value)
        except StopIteration as stop:
            return stop.value
        try:
            step, value = coroutine.send, (yield yielded)
        except BaseException as error:  # noqa: BLE001 - delivered above
            step, value = coroutine.throw, error
