"""How a provider tells of what happened: signed posts, each tried again by its published timetable until it is taken, or for good.

A subclass says what a post's body is, how it is signed, which answers end it and after how long it comes again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import NamedTuple

import aiohttp

MINUTE, HOUR = 60.0, 3600.0
#: posts on their way at once: "expect several parallel posts"
_PARALLEL = 10


class Post(NamedTuple):
    body: bytes
    headers: dict[str, str]


@dataclass
class Delivery:
    """One post's life: `tries` are the answers it got, 0 for none. `done`: it was taken, or the receiver wants no more of it."""

    post: Post
    tries: list[int]
    done: bool = False
    given_up: bool = False


class Webhook:
    """`url` empty: nobody is told. `batch_s`: how long happenings are gathered before they go out; `duplicates`: each post twice."""

    batch_s = 0.0
    #: seconds between the tries, as published
    retry_after_s: tuple[float, ...] = ()
    timeout_s = 30.0

    def __init__(self, double, url, speed):
        self.double = double
        self.url = url
        self.speed = speed
        self.duplicates = False
        self.deliveries = []
        self._queue = asyncio.Queue()
        self._tasks = []

    # What a provider publishes

    def posts(self, happenings):
        """The posts that tell of these."""
        raise NotImplementedError

    def is_final(self, status):
        return 200 <= status < 300

    def retries(self, post):
        """After how many seconds this one comes again."""
        return self.retry_after_s

    # The posting

    def start(self, group):
        self._group = group
        self._tasks.append(group.create_task(self._run()))

    async def stop(self):
        for task in self._tasks:
            task.cancel()

    def tell(self, happening):
        if self.url:
            self._queue.put_nowait(happening)

    async def idle(self, within_s=10.0):
        """Until everything is told, or given up."""
        async with asyncio.timeout(within_s):
            await self._queue.join()

    async def deliver(self, post):
        """Post it by hand, once more than what happens by itself: a forged one, or one that was taken already."""
        async with self._session.post(self.url, data=post.body, headers=post.headers) as response:
            return response.status

    async def _run(self):
        limits = aiohttp.TCPConnector(limit=_PARALLEL)
        async with aiohttp.ClientSession(connector=limits, timeout=aiohttp.ClientTimeout(total=self.timeout_s)) as self._session:
            while True:
                happenings = [await self._queue.get()]
                await asyncio.sleep(self.batch_s / self.speed)
                while not self._queue.empty():
                    happenings.append(self._queue.get_nowait())
                posts = [post for post in self.posts(happenings) for _ in range(2 if self.duplicates else 1)]
                self._group.create_task(self._deliver_all([Delivery(post, []) for post in posts], len(happenings)))

    async def _deliver_all(self, deliveries, happenings):
        self._tasks.append(asyncio.current_task())
        self.deliveries += deliveries
        async with asyncio.TaskGroup() as group:
            for delivery in deliveries:
                group.create_task(self._deliver(delivery))
        for _ in range(happenings):
            self._queue.task_done()
        self._tasks.remove(asyncio.current_task())

    async def _deliver(self, delivery):
        for pause_s in (0.0, *self.retries(delivery.post)):
            await asyncio.sleep(pause_s / self.speed)
            try:
                status = await self.deliver(delivery.post)
            except (aiohttp.ClientError, TimeoutError):
                status = 0
            delivery.tries.append(status)
            if self.is_final(status):
                delivery.done = True
                return
        delivery.given_up = True


def now_text(at):
    """As SMTP2GO and SendGrid write a moment."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
