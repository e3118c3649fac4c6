"""The leader's folder: stored posts become events, events settle and move messages. It runs for a term and owns nothing.

A post that cannot be read is marked and stays stored: `rotord events replay` has it folded again. What the database refuses for its data
is folded alone, so that one post cannot stop the others.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from rotord.core.events import RefusedDataError
from rotord.core.rendering import outbox_id_of
from rotord.db.events import APPLY_BATCH, Folded, Told
from rotord.engine.retry import until_done
from rotord.engine.waiting import wait
from rotord.webhooks.base import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from rotord.core.events import Event
    from rotord.core.records import Term
    from rotord.webhooks.base import Parse

_log = structlog.get_logger(__name__)
#: how long an event may lie before it is folded while nothing else is to do
POLL_S: Final = 0.5
POSTS: Final = 200
#: of bodies at once; SendGrid's greatest is 768 kB, about 1,500 events
SIZE: Final = 1_000_000
#: of one statement (0.1 s of a busy machine): while it runs the lease, by which it is fenced, cannot be renewed
EVENTS: Final = 500
#: batches of notes taken after a batch of posts
APPLIES: Final = 20
TIDY_S: Final = 3600.0
WATCH_S: Final = 300.0


class EventStore(Protocol):
    """See `rotord.db.event_store`."""

    async def unfolded(self, limit: int, size: int) -> Sequence[Any]:
        """Read posts: id, provider, route, content_type, body, received_at in seconds since 1970."""

    async def fold(self, term: Term, told: Sequence[Told], posts: Sequence[Folded]) -> int | None:
        """See db.events.fold. Raises RefusedDataError for data that the database does not take."""

    async def apply(self, term: Term) -> tuple[int, int]:
        """See db.events.apply."""

    async def watch(self) -> None:
        """Raise or resolve the alert on providers that do not report."""

    async def tidy(self) -> None:
        """Make partitions."""


class Ingester:
    """`parsers` by (route, provider). One task runs `run` for each term."""

    def __init__(self, store: EventStore, parsers: Mapping[tuple[str, str], Parse]) -> None:
        self._store = store
        self._parsers = parsers

    async def run(self, term: Term, stop: asyncio.Event) -> None:
        """Fold until `stop`; a batch that was begun is finished."""
        await until_done(self._store.tidy, "tidy events")
        async with asyncio.TaskGroup() as group:
            group.create_task(_every(TIDY_S, self._store.tidy, "tidy events", stop), name="tidy-events")
            group.create_task(_every(WATCH_S, self._store.watch, "watch providers", stop), name="watch-providers")
            while not stop.is_set():
                if not await self.fold_some(term):
                    await wait(stop, POLL_S)

    async def fold_some(self, term: Term) -> bool:
        """Fold a batch of posts and take the notes; False when there was nothing to fold, or another leads."""
        rows = await until_done(lambda: self._store.unfolded(POSTS, SIZE), "read posts")
        read = []
        for row in rows:
            read.append(self._read(row))
            await asyncio.sleep(0)  # a batch is read for 0.1 s: meanwhile posts wait to be answered and messages to leave
        if read and not await self._fold(term, read):
            return False
        for _ in range(APPLIES):
            looked_at, settled = await until_done(lambda: self._store.apply(term), "apply events")
            if settled:
                _log.info("uncertain_settled_by_events", count=settled)
            if looked_at < APPLY_BATCH:
                break
        return bool(rows)

    async def _fold(self, term: Term, read: list[tuple[list[Told], Folded]]) -> bool:
        """Fold; False when another leads now."""
        told = [one for events, _ in read for one in events]
        posts = [post for _, post in read]
        try:
            # Posts are marked with the last of their events; what is cut off before is folded again, which changes nothing.
            for start in range(0, len(told) - EVENTS, EVENTS):
                part = told[start : start + EVENTS]
                await until_done(lambda part=part: self._store.fold(term, part, []), "fold")  # type: ignore[misc]
            rest = told[max(0, len(told) - 1) // EVENTS * EVENTS :]
            fresh = await until_done(lambda: self._store.fold(term, rest, posts), "fold")
        except RefusedDataError as error:
            if len(read) > 1:
                middle = len(read) // 2
                return await self._fold(term, read[:middle]) and await self._fold(term, read[middle:])
            fault = str(error)[:500]
            _log.warning("post_not_folded", post=posts[0].post, reason=fault)
            await until_done(lambda: self._store.fold(term, [], [posts[0]._replace(fault=fault)]), "fold")
            return True
        _log.debug("events_folded", posts=len(posts), events=len(told))
        return fresh is not None

    def _read(self, row: Any) -> tuple[list[Told], Folded]:
        post, provider, route, content_type, body, received_at = row
        parse = self._parsers.get((route, provider))
        if parse is None:
            return [], Folded(post, fault="no provider of that name is configured")
        try:
            parsed = parse(body, content_type)
        except UnreadableError as error:
            _log.warning("post_unreadable", provider=provider, post=post, reason=str(error))
            return [], Folded(post, fault=str(error))
        except Exception as error:  # noqa: BLE001 - a parser's own fault: it would meet this post first again, on every node, for ever
            _log.exception("post_not_read", provider=provider, post=post)
            return [], Folded(post, fault=f"not read: {type(error).__name__}")
        if parsed.unknown:
            _log.warning("events_unknown", provider=provider, post=post, names=sorted(set(parsed.unknown))[:10], count=len(parsed.unknown))
        dated = (event if event.occurred_at else replace(event, occurred_at=received_at) for event in parsed.events)
        known = [event for event in dated if 0 < event.occurred_at < 2**33]
        return [Told(post, provider, event, claimed(event)) for event in known], Folded(post, parsed.unknown)


async def _every(pause_s: float, call: Callable[[], Awaitable[None]], what: str, stop: asyncio.Event) -> None:
    while not await wait(stop, pause_s):
        await until_done(call, what)


def claimed(event: Event) -> int | None:
    """Say which row an event's Message-ID names, if that is one of ours: delayed bounces come without the attempt."""
    if event.attempt_id is not None:
        return None
    return event.outbox_id or outbox_id_of(event.message_id)
