"""An old database, a new one and six migrators at once end with the same schema, and a wrong one is told apart."""

import asyncio
import re
import subprocess
from pathlib import Path

import asyncpg
import pytest

from rotord.db.connect import open_connection
from rotord.db.migrate import Migration, MigrationError, Standing, check, migrate, parse, shipped
from rotord.embedded import binaries

SCHEMA = Path(__file__).parents[2] / "schema.sql"
NEWEST = [migration.version for migration in shipped()]
#: what pg_dump adds that says nothing about the schema: settings, comments, and the random key of newer releases
NOISE = re.compile(r"^(--.*|SET .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict .*|)\n", re.MULTILINE)


@pytest.fixture
async def empty_db(empty_database_url):
    connection = await open_connection(empty_database_url, pooler=True)
    yield connection
    await connection.close()


def dump(url):
    return pg_dump(url, "--schema-only", "--schema=rotord") + re.sub(
        r"\t20\d\d-.*", "", pg_dump(url, "--data-only", "--table=rotord.schema_version")
    )


def pg_dump(url, *options):
    command = [binaries().tool("pg_dump"), *options, f"--dbname={url}"]
    return NOISE.sub("", subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout)


async def test_schema_sql_and_the_migrations_make_the_same_database(database_url, empty_database_url, empty_db):
    assert await migrate(empty_db) == NEWEST

    assert dump(empty_database_url) == dump(database_url)


async def test_a_column_in_the_middle_would_be_seen(database_url, empty_database_url, empty_db):
    await empty_db.execute(SCHEMA.read_text().replace("  client     text", "  extra text,\n  client     text", 1))

    assert dump(empty_database_url) != dump(database_url)


async def test_six_migrators_at_once_apply_each_version_once(empty_database_url):
    steps = [*shipped(), Migration(len(NEWEST) + 1, "extra", False, "CREATE TABLE rotord.extra (id int); SELECT 1;")]

    async def one():
        connection = await open_connection(empty_database_url, pooler=True)
        try:
            return await migrate(connection, steps)
        finally:
            await connection.close()

    async with asyncio.TaskGroup() as tasks:
        migrators = [tasks.create_task(one()) for _ in range(6)]

    applied = [migrator.result() for migrator in migrators]
    assert sorted(applied) == [[]] * 5 + [[*NEWEST, len(NEWEST) + 1]]


async def test_a_failing_migration_leaves_nothing_behind(empty_db):
    steps = [*shipped(), Migration(len(NEWEST) + 1, "bad", False, "CREATE TABLE rotord.half (id int); SELECT 1 / 0;")]
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty_db, steps)

    assert (await check(empty_db)).standing is Standing.MISSING


async def test_a_table_that_stays_locked_fails_the_migration_instead_of_stopping_the_senders(database_url):
    step = Migration(len(NEWEST) + 1, "blocked", False, "SET LOCAL lock_timeout = '50ms'; ALTER TABLE rotord.outbox ADD COLUMN extra int;")
    reader, migrator = [await open_connection(database_url) for _ in range(2)]
    async with reader.transaction():
        await reader.execute("LOCK rotord.outbox IN ACCESS SHARE MODE")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await migrate(migrator, [*shipped(), step])
    await reader.close()

    assert await migrator.fetchval("SHOW lock_timeout") == "0"
    await migrator.close()


async def test_migrate_sets_a_lock_timeout_for_its_transaction_only(empty_db):
    step = Migration(1, "probe", False, shipped()[0].script + "CREATE TABLE rotord.probe AS SELECT current_setting('lock_timeout') AS it;")
    await migrate(empty_db, [step])

    assert await empty_db.fetchval("SELECT it FROM rotord.probe") == "10s"
    assert await empty_db.fetchval("SHOW lock_timeout") == "0"


@pytest.mark.parametrize(
    ("rows", "standing", "usable"),
    [
        ("SELECT", Standing.CURRENT, True),
        ("INSERT INTO rotord.schema_version VALUES (901, false)", Standing.NEWER, True),
        ("INSERT INTO rotord.schema_version VALUES (901, true), (902, false)", Standing.BREAKING, False),
        ("DELETE FROM rotord.schema_version WHERE version = 1; INSERT INTO rotord.schema_version VALUES (0, false)", Standing.OLDER, False),
        ("DROP SCHEMA rotord CASCADE", Standing.MISSING, False),
    ],
)
async def test_check_tells_how_a_database_stands_and_what_to_do(db, rows, standing, usable):
    await db.execute(rows)
    state = await check(db)

    assert (state.standing, state.usable) == (standing, usable)
    assert state.sentence
    assert bool(state.remedy) == (standing is not Standing.CURRENT)


async def test_migrate_leaves_a_current_and_a_newer_database_alone(db):
    await db.execute("INSERT INTO rotord.schema_version VALUES (901, false)")

    assert await migrate(db) == []


def test_the_first_line_marks_what_the_release_before_cannot_live_with():
    steps = parse({"0002_b.sql": "-- breaking\nSELECT 2", "0001_a.sql": "-- The first.\n-- breaking\nSELECT 1"})

    assert [(step.version, step.breaking) for step in steps] == [(1, False), (2, True)]


@pytest.mark.parametrize("names", [[], ["0002_b.sql"], ["0001_a.sql", "0003_c.sql"], ["0001_a.sql", "0001_b.sql"], ["1_a.sql"]])
def test_a_gap_or_a_double_in_the_migrations_is_a_broken_installation(names):
    with pytest.raises(MigrationError):
        parse(dict.fromkeys(names, ""))
