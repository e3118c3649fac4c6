"""The least that a drain through an HTTP API can be: the daemon's own SQL and its aiohttp call with ready bytes, and nothing decided.

    python -m bench.bare_http DATABASE_URL API_URL SLOTS

Every statement is the project's constant, in batches of whatever places are free, as the daemon has them; the body is one that the daemon
made, the same for all. No limits, no rendering, no reading of answers, no journal, no lease that is renewed. Ends when the queue is empty.
"""

from __future__ import annotations

import asyncio
import sys
import time
from uuid import UUID

import aiohttp
import uvloop
from yarl import URL

from bench.place import HTML, TEXT
from rotord.core.model import Message, Sender
from rotord.core.rendering import render
from rotord.db import queue, settle
from rotord.db.connect import open_pool
from rotord.providers.base import Envelope
from rotord.providers.http import ApiConfig
from rotord.providers.sendgrid import SendgridApi

HOLDER = UUID("11111111-1111-1111-1111-111111111111")
LEASE = """
INSERT INTO rotord.lease (name, holder, epoch, elected_at, expires_at) VALUES ('main', $1, 1, now(), now() + interval '1 day')
ON CONFLICT (name) DO UPDATE SET holder = $1, epoch = 1, expires_at = now() + interval '1 day'
"""
GATHER_S, ENOUGH = 0.003, 100


class Loop:
    """The bare loop; `places` are held from the claim to the written answer, as the daemon's are."""

    def __init__(self, db, session, url, slots):
        self.db, self.session, self.places = db, session, slots
        sender, message = Sender("a1@d1.example", "Acme GmbH"), Message(
            1, "client-0", "r1@example.org", "Your order of last week, number 1", "<1.0@d1.example>", "Jane Doe", TEXT, HTML
        )  # fmt: skip
        mime = render(message, sender, attempt_id=1 << 60, date=time.time(), unsubscribe_url="https://rotor.example.com/u/" + "A" * 32)
        request = SendgridApi(ApiConfig("main", url, "SG.key")).request(Envelope(1 << 60, sender, message, mime))
        self.url, self.body = URL(request.url, encoded=True), request.body
        self.headers = {**request.headers, "Content-Type": request.content_type}
        self.wake, self.answered = asyncio.Event(), asyncio.Event()
        self.done = []
        self.ended = False

    async def send(self, attempt, message):
        async with self.session.post(self.url, data=self.body, headers=self.headers, allow_redirects=False) as answer:
            await answer.read()
            self.done.append((attempt, message, answer.headers["X-Message-Id"]))
        self.answered.set()

    async def claim(self, group):
        now = time.time()
        lanes = {row[0]: (-(2**31), 0.0, 0) for row in await self.db.fetch(queue.LANES, -(2**63), queue.LANES_AT_ONCE)}
        attempt = int(now * 1000) << 20
        while True:
            if self.places == 0:
                self.wake.clear()
                await self.wake.wait()
            share = -(-self.places // len(lanes))
            cursors = list(lanes.values())
            rows = await self.db.fetch(
                queue.CANDIDATES, list(lanes), [share] * len(lanes), *([cursor[n] for cursor in cursors] for n in range(3))
            )
            rows = rows[: self.places]
            if not rows:
                return
            for row in rows:
                lanes[row[1]] = (row[2], row[3], row[0])
            ids = [row[0] for row in rows]
            self.places -= len(ids)
            payloads = await self.db.fetch(queue.PAYLOADS, ids)
            clients = {row[0]: row[1] for row in payloads}
            attempts = list(range(attempt, attempt + len(ids)))
            attempt += len(ids)
            same = [[value] * len(ids) for value in ("a1@d1.example", "d1.example", "main", 70.0, now)]
            owners, headers = [clients[id_] for id_ in ids], [f"<{id_}.0@d1.example>" for id_ in ids]
            await self.db.fetch(queue.BEGIN, HOLDER, 1, ids, attempts, *same[:2], owners, *same[2:4], headers, same[4])
            for number, id_ in zip(attempts, ids, strict=True):
                group.create_task(self.send(number, id_))

    async def record(self):
        while True:
            if not self.done:
                if self.ended:
                    return
                self.answered.clear()
                await self.answered.wait()
                continue
            if len(self.done) < ENOUGH:
                await asyncio.sleep(GATHER_S)
            batch, self.done = self.done, []
            count = len(batch)
            same = [[value] * count for value in ("accepted", "", "202", "accepted", time.time(), "sent", None, "", "")]
            attempts, messages, theirs = ([row[n] for row in batch] for n in range(3))
            await self.db.fetch(settle.SETTLE, attempts, messages, *same[:4], theirs, *same[4:])
            self.places += count
            self.wake.set()


async def main(database, url, slots):
    async with (
        await open_pool(database) as db,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=slots + 1), cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None)
        ) as session,
        asyncio.TaskGroup() as group,
    ):
        await db.execute(LEASE, HOLDER)
        loop = Loop(db, session, url, slots)
        group.create_task(loop.record())
        async with asyncio.TaskGroup() as sends:
            await loop.claim(sends)
        loop.ended = True
        loop.answered.set()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
