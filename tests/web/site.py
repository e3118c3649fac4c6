"""The HTTP side on a free port of loopback, over a real database; and a raw client, which can be as rude as it likes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from rotord.core.unsubscribe import token
from rotord.http_side import HttpSide
from rotord.web.listener import Bounds, Listener, Routes, bind
from rotord.web.metrics import Counters

KEY = b"0123456789abcdef0123456789abcdef"
ONE_CLICK = {"List-Unsubscribe": "One-Click"}
FORM = {"unsubscribe": "page"}


@dataclass(slots=True)
class Site:
    """Where it answers, and a client without cookies."""

    port: int
    client: aiohttp.ClientSession
    counters: Counters
    leads: list[bool] = field(default_factory=lambda: [False])

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def link(self, outbox_id: int) -> str:
        return self.url(f"/u/{token(KEY, outbox_id)}")

    async def get(self, path: str, **options: Any) -> tuple[int, str]:
        async with self.client.get(self.url(path), **options) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def running_site(
    database_url: str, providers: Mapping[str, Any] | None = None, posting: Mapping[str, Any] | None = None
) -> AsyncIterator[Site]:
    bound = bind("127.0.0.1:0")
    counters = Counters("0.test")
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as client:
        site = Site(bound.getsockname()[1], client, counters)
        async with cancelled_at_end(HttpSide(bound, counters, providers or {}, posting).run(database_url, KEY, lambda: site.leads[0])):
            yield site


@asynccontextmanager
async def running_listener(routes: Routes, bounds: Bounds, answered: Callable[[str, int], None] = lambda *_: None) -> AsyncIterator[int]:
    bound = bind("127.0.0.1:0")
    async with cancelled_at_end(Listener(bound, routes, answered, bounds).run()):
        yield bound.getsockname()[1]


@asynccontextmanager
async def cancelled_at_end(work: Any) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        try:
            yield
        finally:
            task.cancel()


async def raw(port: int, sent: bytes, *, within_s: float = 5.0) -> bytes:
    """Send bytes and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(within_s):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        await hang_up(writer)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
