"""The folder's store on PostgreSQL; see `rotord.engine.ingester.EventStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from rotord.core.alerting import Alert, Severity
from rotord.core.events import SILENT_SINCE_S, SILENT_UNTIL_S, EventKind, RefusedDataError, is_silent
from rotord.db import alerts, campaigns, events, forwards, posts, refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rotord.core.records import Term
    from rotord.db.events import Folded, Told

_log = structlog.get_logger(__name__)
#: the alert on a provider that should report and does not
SILENT: Final = "webhooks_silent"


class PostgresEvents:
    """Holds the pool, and the names of providers that should report. `posted`: the counter of posts."""

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        reporting: Sequence[str] = (),
        posted: Callable[[str, str, int], None] = lambda *_: None,
    ) -> None:
        self._posted = posted
        self._reporting = reporting
        self._pool = pool

    async def unfolded(self, limit: int, size: int) -> Sequence[asyncpg.Record]:
        """See db.posts."""
        return await posts.unfolded(self._pool, limit, size)

    async def fold(self, term: Term, told: Sequence[Told], read: Sequence[Folded]) -> int | None:
        """See db.events. What follows from a reply is done before its post counts as read, so that a crash between them loses nothing."""
        for one in told:
            if one.event.kind is EventKind.REPLIED and one.claimed is not None and not one.event.rehearsed:
                await campaigns.stop_on_reply(self._pool, one.claimed)
                await self._pass_on(one, one.claimed)
        try:
            return await events.fold(self._pool, term, told, read, self._foreign)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            raise RefusedDataError(str(error)) from error

    async def _pass_on(self, told: Told, replied_to: int) -> None:
        """See db.forwards."""
        made = await forwards.pass_on(self._pool, told.provider, told.event, replied_to)
        if isinstance(made, forwards.Refused):
            _log.warning("reply_not_forwarded", message_id=replied_to, post=told.post, reason=made.reason)
        elif made is not None:
            _log.info("reply_forwarded", message_id=replied_to, forwarded_as=made)

    def _foreign(self, provider: str, count: int) -> None:
        _log.warning("events_of_another_providers_messages", provider=provider, count=count)
        self._posted(provider, "foreign", count)

    async def apply(self, term: Term) -> tuple[int, int]:
        """See db.events."""
        return await events.apply(self._pool, term)

    async def watch(self) -> None:
        """Raise or resolve the alert on each provider that should report (core.events.is_silent); a quiet night resolves nothing."""
        rows = await events.silence(self._pool, self._reporting, SILENT_SINCE_S, SILENT_UNTIL_S)
        seen = {provider: (taken, told_of) for provider, taken, told_of in rows}
        verdicts = {name: is_silent(*seen.get(name, (0, 0))) for name in self._reporting}
        silent = [
            Alert(
                SILENT,
                provider,
                Severity.WARNING,
                "less than a fifth of the messages it took half an hour ago and before have come back as events",
                f"check that {provider} posts to /webhooks/{provider}, and its webhook_key; rotord_webhook_posts_total says what comes",
            )
            for provider, verdict in verdicts.items()
            if verdict
        ]
        unknown = [(SILENT, provider) for provider, verdict in verdicts.items() if verdict is None]
        await alerts.keep(self._pool, [SILENT], silent, unknown)

    async def tidy(self) -> None:
        """Make partitions, drop old counts."""
        await events.make_partitions(self._pool)
        await refusals.forget(self._pool)
