"""Wake-ups from the database, as hints only: behind a transaction pooler none arrives, and polling alone suffices."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from rotord.db.connect import open_connection, transient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_log = structlog.get_logger(__name__)
# After a lost connection: long enough not to hammer a database that restarts, short enough that polling is all one misses.
_AGAIN_S = 5.0
# A connection that is silent this long is asked whether it lives.
_CHECK_S = 30.0


async def listen(url: str, wakers: Mapping[str, Callable[[], None]]) -> None:
    """Call the waker of a channel at each of its notifications, until cancelled; reconnects for ever."""
    while True:
        try:
            connection = await open_connection(url, application_name="rotord-listen")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            if not transient(error):
                raise
            await asyncio.sleep(_AGAIN_S)
            continue
        try:
            for channel, wake in wakers.items():
                await connection.add_listener(channel, _waker(wake))
                wake()
            while not connection.is_closed():
                await asyncio.sleep(_CHECK_S)
                await connection.execute("SELECT 1")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            if not transient(error):
                raise
            _log.info("notifications_lost", error=type(error).__name__)
        finally:
            connection.terminate()
        await asyncio.sleep(_AGAIN_S)


def _waker(wake: Callable[[], None]) -> Callable[..., None]:
    def on_notification(*_: Any) -> None:
        wake()

    return on_notification
