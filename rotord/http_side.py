"""The HTTP side, put together: which route is answered by what, and how the database looks from there.

`rotord.db`'s rows become `rotord.web.ports`' values; the database's absence becomes UnavailableError.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from rotord.db import migrate, posts, pulse, unsubscribe
from rotord.db.connect import open_pool, transient
from rotord.post_box import PostBox
from rotord.refusals import Refusals
from rotord.web.cached import Cached
from rotord.web.health import HealthRoutes, LoopLag
from rotord.web.listener import Listener
from rotord.web.metrics import Counters, MetricsRoute
from rotord.web.ports import Addressee, Depth, Pulse, Slots, Source, UnavailableError
from rotord.web.unsubscribe import UnsubscribeRoute
from rotord.web.webhooks import WebhookRoute

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

    from rotord.providers.base import Provider
    from rotord.web.listener import Routes
    from rotord.web.webhooks import Source as PostSource

_log = structlog.get_logger(__name__)
#: connections of its own, so that the lease is renewed however many ask; two stored 170 unsubscribes a second (2 busy cores, fsync on)
CONNECTIONS: Final = 3  # one of them is the post box's
#: for a commit with its wait for a connection: a mailbox provider waits longer than that
ANSWER_S: Final = 10.0
#: who asks whether we are ready seldom waits longer
PULSE_S: Final = 2.0
#: how old an answer of /readyz may be, and the queue's length in /metrics (to count two million rows costs the database 0.6 s)
PULSE_KEPT_S: Final = 1.0
DEPTH_KEPT_S: Final = 10.0


class HttpSide:
    """One for the process: a bound socket and what answers on it. One task runs `run`."""

    def __init__(
        self,
        bound: socket.socket,
        counters: Counters,
        providers: Mapping[str, Provider],
        posting: Mapping[str, Mapping[str, PostSource]] | None = None,
    ) -> None:
        """`posting`: by route, the providers that post there."""
        self._bound = bound
        self._counters = counters
        self._providers = providers
        self._posting = posting or {}

    async def run(self, url: str, key: bytes, leads: Callable[[], bool]) -> None:
        """Answer until cancelled. `key` makes and verifies unsubscribe links; `leads` says whether this node leads."""
        lag = LoopLag(asyncio.get_running_loop().time)
        async with await open_pool(url, min_size=0, max_size=CONNECTIONS, application_name="rotord-http") as pool:
            data = WebData(pool, self._counters.database_failed)
            box = PostBox(pool, data.lost)
            refusals = Refusals(pool)
            routes = {**self._routes(data, key, lag, leads), **self._post_routes(box, refusals)}
            async with asyncio.TaskGroup() as group:
                group.create_task(lag.run(), name="loop-lag")
                group.create_task(box.run(), name="post-box")
                group.create_task(refusals.run(), name="refusals")
                group.create_task(Listener(self._bound, routes, self._counters.answered).run(), name="listener")

    def _routes(self, data: WebData, key: bytes, lag: LoopLag, leads: Callable[[], bool]) -> Routes:
        clock = asyncio.get_running_loop().time
        pulse_kept, depth_kept = Cached(data.pulse, PULSE_KEPT_S, clock), Cached(data.depth, DEPTH_KEPT_S, clock)
        health = HealthRoutes(lag, pulse_kept, leads)
        metrics = MetricsRoute(self._counters, lag, pulse_kept, depth_kept, self._slots, leads)
        return {
            "/healthz": {"GET": health.alive},
            "/readyz": {"GET": health.ready},
            "/metrics": {"GET": metrics.show},
            "/u/": UnsubscribeRoute((key,), data.addressee, data.unsubscribe, self._counters.unsubscribed).methods,
        }

    def _post_routes(self, box: PostBox, refusals: Refusals) -> Routes:
        clock = asyncio.get_running_loop().time

        def posted(provider: str, outcome: str) -> None:
            self._counters.posted(provider, outcome)
            refusals.note(provider, outcome)

        return {
            f"/{route}/": WebhookRoute(sources, box.put, posted, time.time, clock, route).methods
            for route, sources in self._posting.items()
        }

    def _slots(self) -> dict[str, Slots]:
        found = {name: provider.status() for name, provider in self._providers.items()}
        return {name: Slots(status.up, status.ready, status.in_flight, status.capacity) for name, status in found.items()}


class WebData:
    """Holds the listener's pool. `failed` is told each question that went unanswered."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], failed: Callable[[], None]) -> None:
        self._pool = pool
        self._failed = failed
        self._migrations = migrate.shipped()

    async def addressee(self, outbox_id: int) -> Addressee | None:
        """See db.unsubscribe."""
        with self._answering("addressee"):
            async with asyncio.timeout(ANSWER_S):
                row = await unsubscribe.addressee(self._pool, outbox_id)
        return None if row is None else Addressee(row["client"], row["recipient"])

    async def unsubscribe(self, outbox_id: int, source: Source) -> Addressee | None:
        """See db.unsubscribe."""
        with self._answering("unsubscribe"):
            async with asyncio.timeout(ANSWER_S):
                row = await unsubscribe.unsubscribe(self._pool, outbox_id, source.value)
        if row is None:
            return None
        _log.info("unsubscribed", message_id=outbox_id, source=source.value)
        return Addressee(row["client"], row["recipient"])

    async def depth(self) -> Depth:
        """See db.pulse."""
        with self._answering("depth"):
            async with asyncio.timeout(ANSWER_S):
                return Depth(*await pulse.depth(self._pool), *await posts.standing(self._pool))

    async def pulse(self) -> Pulse:
        """Say how the database stands; whatever keeps it from answering, it is not there."""
        try:
            async with asyncio.timeout(PULSE_S):
                state, epoch = await pulse.standing(self._pool, self._migrations)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            self._failed()
            _log.debug("database_unavailable", during="pulse", error=repr(error))
            return Pulse(database=False)
        return Pulse(database=True, schema=state.standing.value, usable=state.usable, epoch=epoch)

    def lost(self, error: Exception) -> None:
        """Note a commit of posts that did not come about."""
        self._failed()
        _log.warning("database_unavailable", during="store posts", error=repr(error))

    @contextmanager
    def _answering(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not transient(error):
                raise
            self._failed()
            _log.warning("database_unavailable", during=what, error=repr(error))
            raise UnavailableError from error
