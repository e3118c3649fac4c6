"""Rows become values a few at a time: those of a large fleet or of its day take seconds, and the loop belongs to others too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncpg import Record

T = TypeVar("T")
# So many rows take a millisecond or two.
AT_ONCE = 500


async def made(rows: list[Record], make: Callable[[Record], T]) -> list[T]:
    """Make a value of each row, in order; others have their turn in between. Empties `rows`: to free them at once would take long, too."""
    values: list[T] = []
    rows.reverse()
    while rows:
        values += [make(row) for row in rows[: -AT_ONCE - 1 : -1]]
        del rows[-AT_ONCE:]
        await asyncio.sleep(0)
    return values
