"""The one axis of time: the database's clock, carried on by the node's monotonic one. And the attempt ids that are made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotord.db.ledger import ID_SHIFT

if TYPE_CHECKING:
    from collections.abc import Callable


class DatabaseClock:
    """Seconds since 1970 on the database's clock, which answered at some moment between the question and now: so there are two edges.

    What opens is measured by the earlier one, what is booked by the later one. Two terms that are off by different amounts would else see
    a window that is shorter by the difference.
    """

    def __init__(self, database_now: float, asked_at: float, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._offset = database_now - monotonic()
        self._latest_offset = database_now - asked_at

    def now(self) -> float:
        """The time, never ahead of the database's. A step of the node's wall clock does not touch it."""
        return self._offset + self._monotonic()

    def latest(self) -> float:
        """The time, never behind the database's: when something that has just happened is sure to have happened."""
        return self._latest_offset + self._monotonic()


class AttemptIds:
    """Milliseconds << 20 plus a sequence, above everything already in the ledger: ordered and unique, since there is one leader."""

    def __init__(self, ids_from: int) -> None:
        self._next = ids_from

    def take(self, now: float) -> int:
        """The id of an attempt that begins now."""
        attempt_id = max(self._next, int(now * 1000) << ID_SHIFT)
        self._next = attempt_id + 1
        return attempt_id
