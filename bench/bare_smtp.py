"""The least that a drain through SMTP can be: aiosmtplib with one mail that the daemon made, over and over.

    python -m bench.bare_smtp PORT CONNECTIONS [DATABASE_URL]

With a database it runs the daemon's own SQL (bench/bare.py); without one there is nothing beside the sending.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop
from aiosmtplib import SMTP

from bench.bare import Loop
from bench.place import HTML, TEXT
from rotord.core.model import Message, Sender
from rotord.core.rendering import Stamp, render
from rotord.db.connect import open_pool


async def main(port: int, connections: int, database: str = "") -> None:
    message = Message(1, "client-0", "r1@example.org", "Your order of last week", "<1.0@d1.example>", "Jane Doe", TEXT, HTML)
    mime = render(message, Sender("a1@d1.example", "Acme GmbH"), Stamp(1 << 60, time.time()))
    idle = [SMTP(hostname="127.0.0.1", port=port, use_tls=False, start_tls=False) for _ in range(connections)]
    for client in idle:
        await client.connect()

    async def post() -> str:
        client = idle.pop()
        _, words = await client.sendmail("a1@d1.example", ["r1@example.org"], mime)
        idle.append(client)
        return words

    async def for_ever() -> None:
        while True:
            await post()

    if database:
        async with await open_pool(database) as db:
            await Loop(db, connections, post).run()
    else:
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(for_ever())


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
