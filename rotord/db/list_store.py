"""The stores of the exchange with providers' lists (`rotord.engine.list_sync.ListStore`): one that does it, one that only weighs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotord.core.alerting import Alert, Severity
from rotord.db import alerts, list_sync

if TYPE_CHECKING:
    from rotord.core.suppression_lists import ListKey, Page, Span
    from rotord.db.executor import Executor
    from rotord.db.list_sync import Carried, Due, Pull, PushKey

#: the alert on a provider whose lists cannot be read or added to
UNREAD: Final = "suppression_lists_unread"


class PostgresLists:
    """See db.list_sync."""

    def __init__(self, db: Executor) -> None:
        self._db = db

    async def carried(self, provider: str) -> list[Carried]:
        """List the domains that go by a provider."""
        return await list_sync.carried(self._db, provider)

    async def begin(self, provider: str, key: ListKey, every_s: float) -> Pull | None:
        """Begin a pass or go on with one."""
        return await list_sync.begin(self._db, provider, key, every_s)

    async def take(self, provider: str, key: ListKey, span: Span, page: Page) -> int:
        """Suppress whom a page lists."""
        return await list_sync.take(self._db, provider, key, span, page)

    async def pull_fault(self, provider: str, key: ListKey, fault: str, *, anew: bool) -> None:
        """Write down a fault."""
        await list_sync.pull_fault(self._db, provider, key, fault, anew=anew)

    async def due(self, key: PushKey, limit: int) -> Due | None:
        """Read what waits to be added."""
        return await list_sync.due(self._db, key, limit)

    async def pushed(self, key: PushKey, upto: int, fault: str = "") -> None:
        """Write down how far it was."""
        await list_sync.pushed(self._db, key, upto, fault)

    async def failing(self, provider: str, reason: str) -> None:
        """Raise the alert: when there is time, for the provider itself still keeps its list."""
        text = f"its own suppression lists are not exchanged with ours: {reason}"
        remedy = "rotord suppress sync plan shows how it stands; suppressions.sync_minutes = 0 turns the exchange off"
        await alerts.raise_alert(self._db, Alert(UNREAD, provider, Severity.INFO, text, remedy))

    async def works(self, provider: str) -> None:
        """Resolve it."""
        await alerts.resolve(self._db, UNREAD, provider, "they are exchanged again")


class Weighing(PostgresLists):
    """Writes nothing: counts what is new, and hands out nothing to add but notes how much there is."""

    def __init__(self, db: Executor) -> None:
        super().__init__(db)
        self.waiting: list[tuple[PushKey, int]] = []

    async def begin(self, provider: str, key: ListKey, every_s: float) -> Pull | None:  # noqa: ARG002 - it is asked for now
        """Say what a pass would read."""
        return await list_sync.look(self._db, provider, key)

    async def take(self, provider: str, key: ListKey, span: Span, page: Page) -> int:
        """Count whom a page would suppress."""
        return await list_sync.take(self._db, provider, key, span, page, in_earnest=False)

    async def pull_fault(self, provider: str, key: ListKey, fault: str, *, anew: bool) -> None:
        """Keep it to the report."""

    async def due(self, key: PushKey, limit: int) -> Due | None:  # noqa: ARG002 - all of it
        """Note how much there is."""
        if count := await list_sync.waiting(self._db, key):
            self.waiting.append((key, count))
        return None
