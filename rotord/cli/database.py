"""The database as commands use it: one connection, and its troubles told in one sentence with the remedy.

With `database.url` "embedded" a command joins the server that the daemon runs, or starts it for as long as it takes.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, cast

import asyncpg
import structlog
from asyncpg.connect_utils import SessionAttribute

from rotord.cli.errors import CommandError
from rotord.db import migrate, suppressions
from rotord.embedded import EmbeddedPostgres, EmbeddedPostgresError
from rotord.handwritten import nearest
from rotord.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import AsyncIterator

    from structlog.typing import FilteringBoundLogger

#: a server that has not answered by then is not going to, as far as a person at a prompt is concerned
CONNECT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with."""

    settings: Settings
    conn: asyncpg.Connection


def load_settings(arguments: Namespace) -> Settings:
    """Read the configuration the command line names, or the usual one."""
    try:
        return load(arguments.config, os.environ)
    except SettingsError as error:
        raise CommandError(*error.lines, code=2) from None


@asynccontextmanager
async def open_database(arguments: Namespace, *, any_schema: bool = False) -> AsyncIterator[Session]:
    """Connect, and check the schema unless the command is to change it; what PostgreSQL refuses is a CommandError."""
    settings = load_settings(arguments)
    async with AsyncExitStack() as stack:
        conn = await _connect(stack, settings)
        try:
            if not any_schema:
                await _check_schema(conn, settings)
            yield Session(settings, conn)
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.UndefinedColumnError) as error:
            raise CommandError(f"the database lacks what this version needs ({_words(error)}): run rotord migrate") from None
        except asyncpg.InsufficientPrivilegeError as error:
            remedy = "give database.url the role that owns the schema rotord"
            raise CommandError(f"the database refuses this to its role: {_words(error)}; {remedy}") from None
        except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as error:
            raise CommandError(f"the database refuses it: {_words(error)}") from None
        except (asyncpg.TransactionRollbackError, asyncpg.LockNotAvailableError) as error:
            raise CommandError(f"somebody else is changing the same ({_words(error)}): run it again") from None
        except (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError, ConnectionResetError) as error:
            raise CommandError(f"the database went away: {_words(error)}; run it again, what was done stays done") from None


def _words(error: Exception) -> str:
    """Take the sentence and leave the detail, which repeats whole rows."""
    return str(error).partition("\n")[0]


async def check_client(conn: asyncpg.Connection, client: str | None) -> None:
    """Refuse a client that is not in the fleet; None is no client, and fine."""
    if client is None:
        return
    known = await suppressions.clients(conn)
    if client not in known:
        raise CommandError(f"there is no client {client}{nearest(client, known)}")


NOW: Final = """
SELECT clock_timestamp()
"""


async def since(conn: asyncpg.Connection, moment: datetime | timedelta | None) -> datetime | None:
    """Turn "so long ago" into a time, by the database's clock."""
    if not isinstance(moment, timedelta):
        return moment
    now: datetime = await conn.fetchval(NOW)
    return now - moment


async def _connect(stack: AsyncExitStack, settings: Settings) -> asyncpg.Connection:
    if settings.database.is_embedded:
        server = EmbeddedPostgres(settings.state.dir, share=True, log=_quiet_log())
        try:
            dsn = (await stack.enter_async_context(server)).dsn
        except EmbeddedPostgresError as error:
            raise CommandError(str(error)) from None
    else:
        dsn = settings.database.url.get_secret_value()
    try:
        # not the engine's connection: no time-out on a statement, for a person waits as long as they like, and no statement
        # cache, which a pooler in transaction mode would lose
        conn = await asyncpg.connect(dsn, timeout=CONNECT_S, statement_cache_size=0, target_session_attrs=SessionAttribute.read_write)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        why = _words(error) or f"no answer within {CONNECT_S:.0f} s"
        raise CommandError(f"cannot connect to the database: {why}; is it running, and database.url right?") from None
    stack.push_async_callback(conn.close, timeout=CONNECT_S)
    return conn


async def _check_schema(conn: asyncpg.Connection, settings: Settings) -> None:
    state = await migrate.check(conn)
    if state.usable:
        return
    # A relative state.dir is another one in another directory, and its database a new one.
    where = f"the database is the embedded one in {settings.state.dir.absolute()}: is that where your daemon runs?"
    raise CommandError(f"{state.sentence}: {state.remedy}", *([where] if settings.database.is_embedded else []))


def _quiet_log() -> FilteringBoundLogger:
    """Standard output is the command's; of the embedded server only trouble is worth a line."""
    only_trouble = structlog.make_filtering_bound_logger(logging.WARNING)
    return cast("FilteringBoundLogger", structlog.wrap_logger(structlog.PrintLogger(sys.stderr), wrapper_class=only_trouble))
