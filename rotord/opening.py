"""The database as a start finds it: reached, ready, with a schema that fits.

Where nobody answers at its address the start fails, since the address may be wrong. A server that answers and is not ready (it reads its
log after a crash, is a standby that is not promoted yet, has no connection to spare) is waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from rotord.db import migrate
from rotord.db.connect import open_connection, transient
from rotord.embedded import EmbeddedPostgres
from rotord.engine.waiting import wait

if TYPE_CHECKING:
    import asyncio
    from contextlib import AsyncExitStack

    from rotord.settings import Settings

_log = structlog.get_logger(__name__)
#: between two tries; a recovery takes seconds to minutes
RETRY_S: Final = 0.5


class StartError(Exception):
    """The daemon cannot start, and what to do about it."""


async def open_database(settings: Settings, stack: AsyncExitStack, stop: asyncio.Event) -> tuple[str, EmbeddedPostgres | None] | None:
    """The database's URL, with rotord's own server started if it is "embedded"; None when told to stop before it was ready.

    The embedded one's schema is brought up to date, another's is checked. Raises StartError when nobody answers or the schema does not
    fit, and what waiting does not heal as it is.
    """
    embedded: EmbeddedPostgres | None = None
    if settings.database.is_embedded:
        embedded = await stack.enter_async_context(EmbeddedPostgres(settings.state.dir))
        url = embedded.dsn
    else:
        url = settings.database.url.get_secret_value()
    while not stop.is_set():
        try:
            await _prepare(url, migrates=embedded is not None)
        except Exception as error:
            if not transient(error):
                raise
            _log.warning("database_not_ready", error=repr(error))
            await wait(stop, RETRY_S)
        else:
            return url, embedded
    return None


async def _prepare(url: str, *, migrates: bool) -> None:
    try:
        connection = await open_connection(url)
    except OSError as error:
        raise StartError(f"the database cannot be reached: {error}; check database.url") from error
    try:
        if migrates:
            applied = await migrate.migrate(connection)
            if applied:
                _log.info("database_migrated", versions=applied)
        state = await migrate.check(connection)
        if not state.usable:
            raise StartError(f"{state.sentence}: {state.remedy}")
        if state.remedy:
            _log.warning("schema_differs", says=state.sentence, remedy=state.remedy)
    finally:
        await connection.close()
