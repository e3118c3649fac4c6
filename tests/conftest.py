"""A real PostgreSQL for each test process, and a database of its own for each test that asks.

The schema is loaded once into a template. A clone by file copy takes 60 ms on busy cores, by the default (through the
write-ahead log) 240 ms. Roles are the cluster's, so tests share them.
"""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from rotord.embedded import EmbeddedPostgres

ROOT = Path(__file__).parent.parent
# Nothing of these servers outlives the tests; whoever tests durability starts a server of his own.
FAST = {"fsync": "off", "full_page_writes": "off", "max_connections": "200", "shared_buffers": "64MB"}

_numbers = itertools.count(1)

# A shell that runs the tests in the background has them ignore Ctrl-C, and what they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A superuser's URL of this process's server, on its empty database `rotord`."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("state"), settings=FAST)
    with asyncio.Runner() as runner:
        yield runner.run(server.start())
        runner.run(server.stop())


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> str:
    """The name of a database with schema.sql loaded, and nobody connected, so that it can be cloned."""

    async def load() -> str:
        await _execute(postgres_url, "CREATE DATABASE schema_template")
        await _execute(_with_database(postgres_url, "schema_template"), (ROOT / "schema.sql").read_text())
        return "schema_template"

    with asyncio.Runner() as runner:
        return runner.run(load())


@pytest.fixture
async def database_url(postgres_url: str, template_database: str) -> AsyncIterator[str]:
    """A database with the schema and no rows, for this test alone."""
    async for url in _database(postgres_url, f"TEMPLATE {template_database} STRATEGY file_copy"):
        yield url


@pytest.fixture
async def empty_database_url(postgres_url: str) -> AsyncIterator[str]:
    """A database without the schema, for this test alone."""
    async for url in _database(postgres_url, ""):
        yield url


@pytest.fixture
async def db(database_url: str) -> "AsyncIterator[asyncpg.Connection[Any]]":
    """A connection to the database of `database_url`."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def _database(postgres_url: str, options: str) -> AsyncIterator[str]:
    name = f"test_{next(_numbers)}"
    await _execute(postgres_url, f"CREATE DATABASE {name} {options}")
    try:
        yield _with_database(postgres_url, name)
    finally:
        await _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
