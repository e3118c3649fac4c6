"""The one axis of time: the database's clock, carried on by the node's monotonic one. And the attempt ids that are made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotord.db.ledger import ID_SHIFT

if TYPE_CHECKING:
    from collections.abc import Callable


class DatabaseClock:
    """Seconds since 1970 on the database's clock. Never ahead of it: anchored when the answer had come back."""

    def __init__(self, database_now: float, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._offset = database_now - monotonic()

    def now(self) -> float:
        """The time. A step of the node's wall clock does not touch it."""
        return self._offset + self._monotonic()


class AttemptIds:
    """Milliseconds << 20 plus a sequence, above everything already in the ledger: ordered and unique, since there is one leader."""

    def __init__(self, ids_from: int) -> None:
        self._next = ids_from

    def take(self, now: float) -> int:
        """The id of an attempt that begins now."""
        attempt_id = max(self._next, int(now * 1000) << ID_SHIFT)
        self._next = attempt_id + 1
        return attempt_id
