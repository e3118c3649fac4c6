"""Opens connections to PostgreSQL the one way that is right on a server, a fail-over pair and behind a pooler.

Owns no connection: the caller closes what it opened. No session state, ever: behind a transaction pooler a SET leaks to
whoever is next and a LISTEN hears nothing, so time-outs of the server's side belong into ALTER ROLE, and inside
a transaction into SET LOCAL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypedDict
from urllib.parse import parse_qs, urlsplit

import asyncpg
import orjson

if TYPE_CHECKING:
    from asyncpg import Connection, Pool

#: a connection that takes longer goes to a host that is gone (a LAN answers in ms, another continent within 0.5 s)
CONNECT_TIMEOUT_S: Final = 3.0
#: no statement of the engine is allowed longer; those that are say so themselves
COMMAND_TIMEOUT_S: Final = 5.0
#: below any pooler's or firewall's idle limit, so that a connection is closed by us and not found dead
IDLE_LIFETIME_S: Final = 60.0
#: the ports of pgbouncer and of Supabase's transaction pooler
POOLER_PORTS: Final = frozenset({"6432", "6543"})
_STATEMENTS: Final = 100
#: what a binary jsonb value begins with: the version of its format
_JSONB_VERSION: Final = b"\x01"


class _Options(TypedDict):
    timeout: float
    command_timeout: float
    statement_cache_size: int
    target_session_attrs: Any
    server_settings: dict[str, str]


async def open_pool(
    url: str, *, min_size: int = 2, max_size: int = 10, application_name: str = "rotord", pooler: bool | None = None
) -> Pool:
    """Open a pool on the primary of `url` (which may name several hosts). jsonb is read and written as Python values.

    `pooler` says that a transaction pooler stands between, where prepared statements are lost; None: guess it from the URL.
    """
    return await asyncpg.create_pool(
        url,
        min_size=min_size,
        max_size=max_size,
        max_inactive_connection_lifetime=IDLE_LIFETIME_S,
        init=_speak_json,
        reset=_keep,
        **_options(url, application_name, pooler),
    )


async def open_connection(url: str, *, application_name: str = "rotord", pooler: bool | None = None) -> Connection:
    """Open one connection of the same manner, outside of any pool: for LISTEN, for migrations, for a command."""
    connection = await asyncpg.connect(url, **_options(url, application_name, pooler))
    try:
        await _speak_json(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


def is_pooler(url: str) -> bool:
    """Guess whether a transaction pooler answers at `url`: by the well-known ports and Supabase's host names."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    hosts = parts.netloc.rpartition("@")[2].split(",") + [host for value in query.get("host", []) for host in value.split(",")]
    ports = [host.rpartition(":")[2] for host in hosts] + [port for value in query.get("port", []) for port in value.split(",")]
    return any(port in POOLER_PORTS for port in ports) or any("pooler" in host for host in hosts)


def transient(error: BaseException) -> bool:
    """Say whether trying again later can help: the database away, restarting, failing over, full, or the statement in a tie.

    False for what is wrong with the data, the statement, the credentials or the program. A group is transient when all in it is.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(transient(inner) for inner in error.exceptions)
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg has one class for "you called it wrongly" and for "the connection went away while you held it".
        return "connection is closed" in str(error)
    if isinstance(error, asyncpg.InternalClientError) and not isinstance(error, TRANSIENT):
        # The server's farewell on an idle connection has come, its end of file not yet: a call in between finds asyncpg at reading it.
        return "cannot switch to state" in str(error)
    return isinstance(error, TRANSIENT)


TRANSIENT: Final = (
    OSError,  # refused, reset, unreachable, name not found, TLS cut, no socket yet; TimeoutError is one
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,  # too many connections, disk full, out of memory
    asyncpg.OperatorInterventionError,  # shutdown, crash, starting up, statement_timeout
    asyncpg.TransactionRollbackError,  # deadlock, serialization
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # the old primary, after a fail-over
    asyncpg.TargetServerAttributeNotMatched,  # no primary yet
    asyncpg.InvalidCachedStatementError,  # the schema moved on under a prepared statement
    asyncpg.OutdatedSchemaCacheError,
)


def _options(url: str, application_name: str, pooler: bool | None) -> _Options:
    behind_pooler = is_pooler(url) if pooler is None else pooler
    return {
        "timeout": CONNECT_TIMEOUT_S,
        "command_timeout": COMMAND_TIMEOUT_S,
        "statement_cache_size": 0 if behind_pooler else _STATEMENTS,
        "target_session_attrs": "read-write",
        # The one start-up parameter every pooler lets through.
        "server_settings": {"application_name": application_name},
    }


async def _speak_json(connection: Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: _JSONB_VERSION + orjson.dumps(value),
        decoder=lambda data: orjson.loads(data[1:]),
        format="binary",
    )


async def _keep(_connection: Connection) -> None:
    """Do nothing when a connection goes back: there is no session state to undo, and the usual reset is a round trip."""
