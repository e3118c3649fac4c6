"""Waiting that ends early: for an event, at most so long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


async def wait(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait for an event; False when the time was over first."""
    if event.is_set():
        return True
    try:
        async with asyncio.timeout(timeout_s if timeout_s < 1e9 else None):  # noqa: PLR2004 - inf has no timer
            await event.wait()
    except TimeoutError:
        return False
    return True


async def wait_any(events: Iterable[asyncio.Event], timeout_s: float) -> None:
    """Wait for the first of several events, at most so long."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(wait(event, timeout_s)) for event in events]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
