"""A start waits for a database that answers and is not ready, and fails where nobody answers."""

import asyncio
from contextlib import AsyncExitStack
from urllib.parse import parse_qs, urlsplit

import pytest

from rotord.opening import StartError, open_database
from rotord.settings import Settings

STARTING_UP = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"


class Recovering:
    """PostgreSQL's port as it is after a crash: the first `refusals` connections are told to come later, the others are let through."""

    def __init__(self, url, refusals):
        self.parts = urlsplit(url)
        self.refusals = refusals
        self.seen = asyncio.Event()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        return self, f"postgresql://rotord@127.0.0.1:{port}{self.parts.path}?sslmode=disable"

    async def __aexit__(self, *_):
        self.server.close()

    async def answer(self, reader, writer):
        if self.refusals > 0:
            self.refusals -= 1
            await reader.read(1000)
            writer.write(b"E" + (len(STARTING_UP) + 4).to_bytes(4, "big") + STARTING_UP)
            writer.close()
            self.seen.set()
            return
        query = parse_qs(self.parts.query)
        inner = await asyncio.open_unix_connection(f"{query['host'][0]}/.s.PGSQL.{query.get('port', ['5432'])[0]}")
        async with asyncio.TaskGroup() as group:
            group.create_task(pipe(reader, inner[1]))
            group.create_task(pipe(inner[0], writer))


async def pipe(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


def settings(url):
    return Settings(database={"url": url}, providers={"box": {"kind": "sandbox"}})


async def test_a_database_that_is_starting_up_is_waited_for(database_url):
    async with Recovering(database_url, 1) as (server, url), AsyncExitStack() as stack:
        assert await open_database(settings(url), stack, asyncio.Event()) == (url, None)
        assert server.refusals == 0


async def test_who_waits_for_a_database_can_be_stopped(database_url):
    stop = asyncio.Event()
    async with Recovering(database_url, 100) as (server, url), AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        opened = group.create_task(open_database(settings(url), stack, stop))
        await server.seen.wait()
        stop.set()

    assert opened.result() is None


async def test_where_nobody_answers_the_start_fails(unused_tcp_port):
    async with AsyncExitStack() as stack:
        with pytest.raises(StartError, match=r"check database\.url"):
            await open_database(settings(f"postgresql://u@127.0.0.1:{unused_tcp_port}/d"), stack, asyncio.Event())
