"""Time-outs of many tasks by one timer: a timer of its own for each costs more than a tenth of a request, and hardly one is ever met."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Deadlines:
    """Used in one loop. `until` is as exact as asyncio's own time-outs."""

    def __init__(self) -> None:
        self._open: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None

    def until(self, at: float) -> Deadline:
        """Make a block that ends with TimeoutError when it is not left by `at`, on the loop's clock."""
        return Deadline(self, at)

    def add(self, deadline: Deadline) -> None:
        """Watch it; the timer goes to the first."""
        self._open.add(deadline)
        if self._timer is not None:
            if self._timer.when() <= deadline.at:
                return
            self._timer.cancel()
        self._arm(deadline.at)

    def remove(self, deadline: Deadline) -> None:
        """Watch it no more. The timer stays: it will find who is next then."""
        self._open.discard(deadline)

    def _arm(self, at: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(at, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for deadline in [one for one in self._open if one.at <= now]:
            self._open.discard(deadline)
            deadline.expire()
        if self._open:
            self._arm(min(one.at for one in self._open))


class Deadline:
    """One block of one task; as asyncio.timeout_at, which says why each step is there."""

    __slots__ = ("_cancelling", "_owner", "_task", "at", "is_over")

    def __init__(self, owner: Deadlines, at: float) -> None:
        self._owner = owner
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self.at = at
        self.is_over = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("a deadline is a task's")
        self._cancelling, self.is_over = self._task.cancelling(), False
        self._owner.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._owner.remove(self)
        if self.is_over and self._task is not None and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Cut the task where it waits."""
        self.is_over = True
        if self._task is not None:
            self._task.cancel()
