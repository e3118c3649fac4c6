"""Brings a database to this version's schema, and says how it stands.

Owns `rotord.schema_version` and the schema itself. Forward only, one transaction for all that is missing, any number of
migrators at once: the first does it, the others find it done. Works behind a transaction pooler: nothing outlives the
transaction, and the scripts go by the simple protocol.

A migration is `rotord/migrations/NNNN_what.sql`. Its first line is `-- breaking` where the release before cannot live with
the result; `rotord run` refuses such a database and only warns about a newer harmless one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import TYPE_CHECKING, Final, assert_never

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Connection

    from rotord.db.executor import Executor

#: advisory locks are the whole database's: any fixed number that nobody else takes ("rotord" in ASCII)
LOCK_KEY: Final = 0x726F746F7264
#: a migration waits for another at most this long, and runs at most this long
MIGRATION_TIMEOUT_S: Final = 600.0
BREAKING: Final = "-- breaking"
_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema, as shipped."""

    version: int
    name: str
    breaking: bool
    script: str


class Standing(StrEnum):
    """How a database compares with this code."""

    MISSING = "missing"
    CURRENT = "current"
    OLDER = "older"
    NEWER = "newer"
    BREAKING = "breaking"


@dataclass(frozen=True, slots=True)
class SchemaState:
    """How the database stands. `database` and `code` are the newest version each knows, 0 for none."""

    standing: Standing
    database: int
    code: int

    @property
    def usable(self) -> bool:
        """True when this code can work on it."""
        return self.standing in {Standing.CURRENT, Standing.NEWER}

    @property
    def sentence(self) -> str:
        """What there is to say, for a person."""
        match self.standing:
            case Standing.MISSING:
                return "the database has no rotord schema"
            case Standing.CURRENT:
                return f"the schema is current (version {self.database})"
            case Standing.OLDER:
                return f"the schema is older (version {self.database}) than this rotord needs (version {self.code})"
            case Standing.NEWER:
                return f"the schema is newer (version {self.database}) than this rotord (version {self.code}), which can live with it"
            case Standing.BREAKING:
                return f"the schema is newer (version {self.database}) than this rotord (version {self.code}), which cannot live with it"
            case _:
                assert_never(self.standing)

    @property
    def remedy(self) -> str:
        """What to do about it; empty when there is nothing to do."""
        match self.standing:
            case Standing.MISSING | Standing.OLDER:
                return "run rotord migrate"
            case Standing.NEWER:
                return "install the newer rotord on this node too"
            case Standing.BREAKING:
                return "install the newer rotord on this node; until then it must not send"
            case Standing.CURRENT:
                return ""
            case _:
                assert_never(self.standing)


class MigrationError(RuntimeError):
    """The shipped migrations are not what they must be: a broken installation."""


def shipped() -> tuple[Migration, ...]:
    """Read the migrations of this installation, in order."""
    folder = resources.files("rotord") / "migrations"
    return parse({entry.name: entry.read_text("utf-8") for entry in folder.iterdir() if entry.name.endswith(".sql")})


def parse(scripts: dict[str, str]) -> tuple[Migration, ...]:
    """Order scripts by their file names, which must count from 1 without a gap."""
    migrations: list[Migration] = []
    for expected, (name, script) in enumerate(sorted(scripts.items()), start=1):
        if name[: _DIGITS + 1] != f"{expected:0{_DIGITS}}_":
            raise MigrationError(f"migration {name} stands where number {expected} should")
        migrations.append(Migration(expected, name, script.split("\n", 1)[0].strip() == BREAKING, script))
    if not migrations:
        raise MigrationError("this installation has no migrations")
    return tuple(migrations)


async def migrate(conn: Connection, migrations: Sequence[Migration] | None = None) -> list[int]:
    """Apply what the database lacks, all or nothing, and say which versions that were. For a role that may create schemas."""
    todo = shipped() if migrations is None else migrations
    async with conn.transaction():
        await conn.execute(LOCK, LOCK_KEY, timeout=MIGRATION_TIMEOUT_S)
        # Only now, as it would count for the advisory lock too. 10 s: a table that stays locked longer has a reader
        # that a person should look at, and every sender waits behind us meanwhile.
        await conn.execute("SET LOCAL lock_timeout = '10s'")
        applied = await _applied(conn)
        missing = [migration for migration in todo if migration.version not in applied]
        for migration in missing:
            await conn.execute(migration.script, timeout=MIGRATION_TIMEOUT_S)
            await conn.execute(RECORD, migration.version, migration.breaking)
    return [migration.version for migration in missing]


async def check(conn: Executor, migrations: Sequence[Migration] | None = None) -> SchemaState:
    """Say how the database stands; changes nothing."""
    known = {migration.version for migration in (shipped() if migrations is None else migrations)}
    applied = await _applied(conn)
    newer = {version: breaking for version, breaking in applied.items() if version not in known}
    if not applied:
        standing = Standing.MISSING
    elif any(newer.values()):
        standing = Standing.BREAKING
    elif known - applied.keys():
        standing = Standing.OLDER
    elif newer:
        standing = Standing.NEWER
    else:
        standing = Standing.CURRENT
    return SchemaState(standing, max(applied, default=0), max(known))


LOCK: Final = """
SELECT pg_advisory_xact_lock($1)
"""

IS_THERE: Final = """
SELECT to_regclass('rotord.schema_version') IS NOT NULL
"""

APPLIED: Final = """
SELECT version, breaking
FROM rotord.schema_version
"""

RECORD: Final = """
INSERT INTO rotord.schema_version (version, breaking)
VALUES ($1, $2)
"""


async def _applied(conn: Executor) -> dict[int, bool]:
    if not await conn.fetchval(IS_THERE):
        return {}
    return {row["version"]: row["breaking"] for row in await conn.fetch(APPLIED)}
