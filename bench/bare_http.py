"""The least that a drain through an HTTP API can be: the daemon's own SQL (bench/bare.py) and its aiohttp call with ready bytes.

    python -m bench.bare_http DATABASE_URL API_URL SLOTS

The body is one that the daemon made, the same for all.
"""

from __future__ import annotations

import sys
import time

import aiohttp
import uvloop
from yarl import URL

from bench.bare import Loop
from bench.place import HTML, TEXT
from rotord.core.model import Message, Sender
from rotord.core.rendering import Stamp, head
from rotord.db.connect import open_pool
from rotord.providers.base import Envelope
from rotord.providers.http import ApiConfig
from rotord.providers.sendgrid import SendgridApi


async def main(database: str, url: str, slots: int) -> None:
    sender = Sender("a1@d1.example", "Acme GmbH")
    message = Message(1, "client-0", "r1@example.org", "Your order of last week, number 1", "<1.0@d1.example>", "Jane Doe", TEXT, HTML)
    top = head(message, sender, Stamp(1 << 60, time.time(), "https://rotor.example.com/u/" + "A" * 32))
    request = SendgridApi(ApiConfig("main", url, "SG.key")).request(Envelope(1 << 60, sender, message, head=top))
    place, headers = URL(request.url, encoded=True), {**request.headers, "Content-Type": request.content_type}
    async with (
        await open_pool(database) as db,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=slots + 1), cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None)
        ) as session,
    ):

        async def post() -> str:
            async with session.post(place, data=request.body, headers=headers, allow_redirects=False) as answer:
                await answer.read()
                return answer.headers["X-Message-Id"]

        await Loop(db, slots, post).run()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
