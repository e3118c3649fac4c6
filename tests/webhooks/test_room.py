"""All bodies of a route share its room until they are stored: a post that finds none is told to come again."""

import asyncio
import time

import pytest

from rotord.posting import by_route
from rotord.web.listener import Bounds
from rotord.web.ports import Stored
from rotord.web.webhooks import WebhookRoute
from tests.web.site import KEY, raw, running_listener

POSTING = by_route({"smtp2go": ("smtp2go", "secret"), "smtp": ("smtp", "secret")}, KEY)


def post(path, size):
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
    return head.encode() + b"x" * size


@pytest.mark.parametrize(("route", "provider"), [("webhooks", "smtp2go"), ("inbound", "smtp")])
async def test_posts_fill_their_routes_room_until_they_are_stored(route, provider):
    arrived, may_store = asyncio.Event(), asyncio.Event()

    async def store(_post):
        arrived.set()
        await may_store.wait()
        return Stored.STORED

    handler = WebhookRoute(POSTING[route], store, lambda *_: None, time.time, time.monotonic, route, room=150)

    async def status(size):
        return int((await raw(port, post(f"/{route}/{provider}", size))).split()[1])

    async with running_listener({f"/{route}/": handler.methods}, Bounds()) as port, asyncio.TaskGroup() as group:
        first = group.create_task(status(90))
        await arrived.wait()
        refused = await status(61)
        may_store.set()

        assert (refused, await first) == (503, 200)
        assert await status(150) == 200
