"""What the bare loops share: the daemon's own SQL in batches of what slots and places are free, with ready bytes, and nothing decided.

Every statement is the project's constant. No limits, no rendering, no reading of answers, no journal, no lease that is renewed. As in the
daemon a slot is held from the claim to the answer, a place until the answer is written. Ends when the queue is empty.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import UUID

from rotord.db import queue, settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

HOLDER = UUID("11111111-1111-1111-1111-111111111111")
LEASE = """
INSERT INTO rotord.lease (name, holder, epoch, elected_at, expires_at) VALUES ('main', $1, 1, now(), now() + interval '1 day')
ON CONFLICT (name) DO UPDATE SET holder = $1, epoch = 1, expires_at = now() + interval '1 day'
"""
PLACES = 200
GATHER_S, ENOUGH = 0.003, 100


class Loop:
    """`post` sends one message and returns the receiver's id for it."""

    def __init__(self, db: asyncpg.Pool, slots: int, post: Callable[[], Awaitable[str]]) -> None:
        self.db, self.post, self.slots, self.places = db, post, slots, PLACES
        self.wake, self.answered = asyncio.Event(), asyncio.Event()
        self.done: list[tuple[int, int, str]] = []
        self.ended = False

    async def run(self) -> None:
        await self.db.execute(LEASE, HOLDER)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.record())
            async with asyncio.TaskGroup() as sends:
                await self.claim(sends)
            self.ended = True
            self.answered.set()

    async def send(self, attempt: int, message: int) -> None:
        theirs = await self.post()
        self.slots += 1
        self.done.append((attempt, message, theirs))
        self.answered.set()
        self.wake.set()

    async def claim(self, group: asyncio.TaskGroup) -> None:
        now = time.time()
        lanes = {row[0]: (-(2**31), 0.0, 0) for row in await self.db.fetch(queue.LANES, -(2**63), queue.LANES_AT_ONCE)}
        attempt = int(now * 1000) << 20
        while True:
            while not (free := min(self.places, self.slots)):
                self.wake.clear()
                await self.wake.wait()
            share = -(-free // len(lanes))
            cursors = list(lanes.values())
            rows = await self.db.fetch(
                queue.CANDIDATES, list(lanes), [share] * len(lanes), *([cursor[n] for cursor in cursors] for n in range(3))
            )
            rows = rows[:free]
            if not rows:
                return
            for row in rows:
                lanes[row[1]] = (row[2], row[3], row[0])
            ids = [row[0] for row in rows]
            self.places -= len(ids)
            self.slots -= len(ids)
            payloads = await self.db.fetch(queue.PAYLOADS, ids)
            clients = {row[0]: row[1] for row in payloads}
            attempts = list(range(attempt, attempt + len(ids)))
            attempt += len(ids)
            same = [[value] * len(ids) for value in ("a1@d1.example", "d1.example", "main", 70.0, now)]
            owners, headers = [clients[id_] for id_ in ids], [f"<{id_}.0@d1.example>" for id_ in ids]
            await self.db.fetch(queue.BEGIN, HOLDER, 1, ids, attempts, *same[:2], owners, *same[2:4], headers, same[4])
            for number, id_ in zip(attempts, ids, strict=True):
                group.create_task(self.send(number, id_))

    async def record(self) -> None:
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
