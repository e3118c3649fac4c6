"""Connections of the one right manner, and which errors time heals."""

import asyncio
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from rotord.db.connect import is_pooler, open_connection, open_pool, transient


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@db.example:5432/d", False),
        ("postgresql://u:p@db.example/d", False),
        ("postgresql:///d?host=/run/postgresql", False),
        ("postgresql://u:6543@db.example/d", False),
        ("postgresql://postgres.abc:p@aws-0-eu-central-1.pooler.supabase.com:6543/postgres", True),
        ("postgresql://postgres.abc:p@aws-0-eu-central-1.pooler.supabase.com:5432/postgres", True),
        ("postgresql://u@a:5432,b:6432/d", True),
        ("postgresql://u@/d?host=a&port=6432", True),
        ("postgresql://u@/d?host=a,pooler.example", True),
    ],
)
def test_a_pooler_is_guessed_by_its_port_or_name(url, expected):
    assert is_pooler(url) is expected


@pytest.mark.parametrize("pooler", [False, True])
async def test_jsonb_is_read_and_written_as_values(database_url, pooler):
    pool = await open_pool(database_url, min_size=1, max_size=2, pooler=pooler, application_name="rotord test")
    value = {"a": [1, None, "ü\u2028"]}

    assert await pool.fetchval("SELECT $1::jsonb", value) == value
    assert await pool.fetchval("SELECT current_setting('application_name')") == "rotord test"
    kept = await pool.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''")
    assert (kept == 0) is pooler
    await pool.close()


async def test_the_host_that_is_away_is_passed_over(database_url):
    connection = await open_connection(
        database_url.replace("host=", f"host={quote('/nowhere', safe='')},").replace("port=5432", "port=5432,5432")
    )

    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def raised(awaitable):
    try:
        await awaitable
    except Exception as error:  # noqa: BLE001 (the error is what the test is about)
        return error
    pytest.fail("nothing was raised")


async def test_a_database_that_is_away_or_read_only_is_transient(database_url, unused_tcp_port):
    assert transient(await raised(open_connection(f"postgresql://u@127.0.0.1:{unused_tcp_port}/d")))
    assert transient(await raised(open_connection("postgresql://u@/d?host=/nowhere")))

    connection = await open_connection(database_url)
    async with connection.transaction(readonly=True):
        assert transient(await raised(connection.execute("DELETE FROM rotord.lease")))
    assert transient(await raised(connection.fetch("SELECT pg_sleep(1)", timeout=0.01)))
    await connection.execute("SET statement_timeout = '10ms'")
    assert transient(await raised(connection.fetch("SELECT pg_sleep(1)")))
    assert transient(await raised(connection.fetch("SELECT pg_terminate_backend(pg_backend_pid())")))
    assert transient(await raised(connection.fetch("SELECT 1")))


@asynccontextmanager
async def deaf_to_the_end(url, said):
    """A URL of the same database through a proxy that passes on what the server says (to `said` too), but not that it hung up."""
    (socket_dir,) = parse_qs(urlsplit(url).query)["host"]
    writers = []

    async def pass_on(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            said.extend(data)

    async def serve(reader, writer):
        server_reader, server_writer = await asyncio.open_unix_connection(f"{socket_dir}/.s.PGSQL.5432")
        writers.extend((writer, server_writer))
        async with asyncio.TaskGroup() as group:
            group.create_task(pass_on(reader, server_writer))
            group.create_task(pass_on(server_reader, writer))

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"postgresql://rotord@127.0.0.1:{proxy.sockets[0].getsockname()[1]}{urlsplit(url).path}?sslmode=disable"
    finally:
        proxy.close()
        for writer in writers:
            writer.close()


async def test_a_servers_farewell_without_its_end_is_transient(database_url, db):
    said = bytearray()
    async with deaf_to_the_end(database_url, said) as url:
        connection = await open_connection(url)
        await db.execute("SELECT pg_terminate_backend($1, 5000)", connection.get_server_pid())
        while b"57P01" not in said:  # noqa: ASYNC110 - a state of the other side, which sends no event
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # from the proxy's socket to the client's, in this same loop
        error = await raised(connection.fetch("SELECT 1"))
        connection.terminate()

    assert "cannot switch to state" in str(error)
    assert transient(error)


async def test_a_primary_that_is_not_there_yet_is_transient(database_url, db):
    name = await db.fetchval("SELECT current_database()")
    await db.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    assert transient(await raised(open_connection(database_url)))


async def test_a_deadlock_is_transient(database_url):
    one, two = [await open_connection(database_url) for _ in range(2)]
    await one.execute("INSERT INTO rotord.clients (slug) VALUES ('a'), ('b')")
    lock = "SELECT FROM rotord.clients WHERE slug = $1 FOR UPDATE"
    for connection, name in ((one, "a"), (two, "b")):
        await connection.execute("BEGIN")
        await connection.execute(lock, name)

    async def tie():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(one.execute(lock, "b"))
            tasks.create_task(two.execute(lock, "a"))

    assert transient(await raised(tie()))
    one.terminate()
    two.terminate()


async def test_what_is_wrong_stays_wrong(database_url):
    connection = await open_connection(database_url)
    for statement, arguments in [
        ("SELECT 1 / 0", ()),
        ("SELEKT", ()),
        ("SELECT * FROM rotord.nothing", ()),
        ("SELECT $1::int", ("x",)),
        ("SELECT $1::int", ()),
        ("SELECT $1::text", ("\0",)),
        ("INSERT INTO rotord.clients (slug) VALUES ('A')", ()),
        ("INSERT INTO rotord.domains (name, client) VALUES ('a', 'a')", ()),
    ]:
        assert not transient(await raised(connection.fetch(statement, *arguments))), statement
    await connection.close()
    assert not transient(await raised(open_connection(database_url.replace("/test_", "/nothing_"))))
    assert not transient(ExceptionGroup("", [OSError(), ValueError()]))
