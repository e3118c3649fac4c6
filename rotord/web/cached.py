"""A value that is dear to read and good for a moment: whoever asks meanwhile gets the same one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class Cached(Generic[T]):
    """Reads at most once in `for_s`, and once at a time. A failed reading is not kept."""

    def __init__(self, read: Callable[[], Awaitable[T]], for_s: float, clock: Callable[[], float]) -> None:
        self._read = read
        self._for_s = for_s
        self._clock = clock
        self._turn = asyncio.Lock()
        self._kept: tuple[float, T] | None = None

    async def get(self) -> T:
        """The value, read at most `for_s` ago."""
        async with self._turn:
            if self._kept is None or self._clock() - self._kept[0] >= self._for_s:
                value = await self._read()
                # From its end on: those who waited for a slow reading must not each begin another.
                self._kept = (self._clock(), value)
            return self._kept[1]
