"""Posts on their way into the database: those that come while one commit is under way share the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from rotord.db import posts
from rotord.db.connect import transient
from rotord.db.posts import NewPost
from rotord.web.ports import Post, Stored, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotord.db.executor import Executor

#: posts and bytes of one commit
BATCH: Final = 200
BATCH_BYTES: Final = 8_000_000
#: of what waits; beyond it a provider is told to come again
MOST_BYTES: Final = 64_000_000
#: for a post's commit; below the 10 s after which SMTP2GO hangs up
COMMIT_S: Final = 8.0


class PostBox:
    """`put` is what handlers call; one task runs `run`. `failed` is told each commit that did not come about."""

    def __init__(self, db: Executor, failed: Callable[[Exception], None]) -> None:
        self._db = db
        self._failed = failed
        self._waiting: deque[tuple[Post, asyncio.Future[Stored]]] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()

    async def put(self, post: Post) -> Stored:
        """Store a post, committed when this returns. Raises UnavailableError."""
        if self._bytes + len(post.body) > MOST_BYTES:
            raise UnavailableError
        answer: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._waiting.append((post, answer))
        self._bytes += len(post.body)
        self._wake.set()
        return await answer

    async def run(self) -> None:
        """Commit until cancelled."""
        while True:
            await self._wake.wait()
            batch = self._take()
            if not self._waiting:
                self._wake.clear()
            if batch:
                await self._commit(batch)

    def _take(self) -> list[tuple[Post, asyncio.Future[Stored]]]:
        batch: list[tuple[Post, asyncio.Future[Stored]]] = []
        size = 0
        while self._waiting and len(batch) < BATCH and (not batch or size + len(self._waiting[0][0].body) <= BATCH_BYTES):
            post, answer = self._waiting.popleft()
            self._bytes -= len(post.body)
            if not answer.cancelled():  # who asked has gone
                size += len(post.body)
                batch.append((post, answer))
        return batch

    async def _commit(self, batch: list[tuple[Post, asyncio.Future[Stored]]]) -> None:
        rows = [NewPost(p.provider, p.route, p.token, p.digest, p.content_type, p.body) for p, _ in batch]
        try:
            async with asyncio.timeout(COMMIT_S):
                kept = await posts.store(self._db, rows)
        except Exception as error:
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(UnavailableError())
            if not transient(error):
                raise
            self._failed(error)
            return
        for (_, answer), verdict in zip(batch, kept, strict=True):
            if not answer.done():
                answer.set_result(Stored(verdict.value))
