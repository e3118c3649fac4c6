"""The least that a drain through SMTP can be: aiosmtplib fed with one mail that the daemon made, over and over, and no database.

python -m bench.bare_smtp PORT CONNECTIONS
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop
from aiosmtplib import SMTP

from bench.place import HTML, TEXT
from rotord.core.model import Message, Sender
from rotord.core.rendering import render


async def session(port: int, mime: bytes) -> None:
    client = SMTP(hostname="127.0.0.1", port=port, use_tls=False, start_tls=False)
    await client.connect()
    while True:
        await client.sendmail("a1@d1.example", ["r1@example.org"], mime)


async def main(port: int, connections: int) -> None:
    message = Message(1, "client-0", "r1@example.org", "Your order of last week", "<1.0@d1.example>", "Jane Doe", TEXT, HTML)
    mime = render(message, Sender("a1@d1.example", "Acme GmbH"), attempt_id=1 << 60, date=time.time())
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(session(port, mime))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
