"""Waiting that ends early: for an event, at most so long."""

from __future__ import annotations

import asyncio


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
