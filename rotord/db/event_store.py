"""The folder's store on PostgreSQL; see `rotord.engine.ingester.EventStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from rotord.core.events import RefusedDataError
from rotord.db import events, posts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotord.core.records import Term
    from rotord.db.events import Folded, Told


class PostgresEvents:
    """Holds the pool, and nothing else."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def unfolded(self, limit: int, size: int) -> Sequence[asyncpg.Record]:
        """See db.posts."""
        return await posts.unfolded(self._pool, limit, size)

    async def fold(self, term: Term, told: Sequence[Told], read: Sequence[Folded]) -> int | None:
        """See db.events."""
        try:
            return await events.fold(self._pool, term, told, read)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            raise RefusedDataError(str(error)) from error

    async def apply(self, term: Term) -> tuple[int, int]:
        """See db.events."""
        return await events.apply(self._pool, term)

    async def tidy(self) -> None:
        """Make partitions, forget old posts."""
        await events.make_partitions(self._pool)
        await posts.forget(self._pool)
