"""Rows of schema.sql in memory, and the queue with its indexes: what has to hold whatever statement moves a row."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rotord.core.model import Kind
from rotord.core.pool import Lane

if TYPE_CHECKING:
    from uuid import UUID

    from rotord.core.model import Outcome


@dataclass(slots=True)
class Row:
    """rotord.queue."""

    id: int
    client: str
    stream: str
    kind: str
    campaign: str
    recipient: str
    rank: int
    due_at: float
    bytes: int
    pin: str = ""
    pin_kind: str = ""
    state: str = ""
    attempts: int = 0
    attempt: int | None = None
    cancelled: bool = False
    thread_key: str | None = None
    expires_at: float | None = None
    first_at: float | None = None
    message_id: str | None = None
    last_error: str | None = None
    avoid: str = ""

    @property
    def lane(self) -> Lane:
        return Lane(self.client, self.stream, Kind(self.kind), self.campaign, self.pin, self.pin_kind)


@dataclass(slots=True)
class Attempt:
    """rotord.attempts."""

    id: int
    outbox_id: int
    number: int
    epoch: int
    address: str
    domain: str
    client: str
    provider: str
    began_at: float
    deadline_at: float
    finished_at: float | None = None
    outcome: Outcome | None = None
    blame: str | None = None
    reply: str | None = None
    campaign: str = ""
    refused_late: int = 0  # the epoch in which it was learnt that an uncertain one was not accepted: its leader counts it on


@dataclass(frozen=True, slots=True)
class Settled:
    """rotord.message_state."""

    status: str
    sender: str | None = None
    message_id: str | None = None
    attempts: int = 0
    last_error: str | None = None


@dataclass(slots=True)
class Thread:
    sender: str
    last_message_id: str = ""
    references: list[str] = field(default_factory=list)


@dataclass(slots=True)
class LeaseRow:
    holder: UUID
    epoch: int
    expires_at: float
    swept_id: int = 0


class Queue:
    """rotord.queue and rotord.message_state: a message is in one of them."""

    def __init__(self) -> None:
        self.queue: dict[int, Row] = {}
        self.state: dict[int, Settled] = {}
        # The indexes: lane -> ready rows, (client, kind) -> scheduled rows, (client, key) -> a thread's rows, and what expires.
        self._lane_keys: dict[tuple[str, ...], int] = {}
        self._ready: dict[int, list[tuple[int, float, int]]] = {}
        self._scheduled: dict[tuple[str, str], list[tuple[float, int]]] = {}
        self._thread: dict[tuple[str, str], list[int]] = {}
        self._expires: list[tuple[float, int]] = []

    def add(self, row: Row) -> None:
        """A row that was inserted; its state is set."""
        self.queue[row.id] = row
        if row.thread_key is not None:
            self._thread.setdefault((row.client, row.thread_key), []).append(row.id)
        if row.expires_at is not None:
            insort(self._expires, (row.expires_at, row.id))
        self._enter(row)

    def _head(self, thread: tuple[str, str]) -> int | None:
        return next((outbox_id for outbox_id in self._thread.get(thread, []) if self.queue[outbox_id].state != "uncertain"), None)

    def lane_key(self, row: Row) -> int:
        return self._lane_keys.setdefault(tuple(map(str, row.lane)), len(self._lane_keys) + 1)

    def _index(self, row: Row) -> tuple[list[Any], tuple[Any, ...]] | None:
        if row.state == "queued":
            return self._ready.setdefault(self.lane_key(row), []), (row.rank, row.due_at, row.id)
        if row.state == "scheduled":
            return self._scheduled.setdefault((row.client, row.kind), []), (row.due_at, row.id)
        return None

    def _enter(self, row: Row) -> None:
        if (found := self._index(row)) is not None:
            insort(*found)

    def _leave(self, row: Row) -> None:
        if (found := self._index(row)) is not None:
            index, key = found
            del index[bisect_left(index, key)]

    def move(self, row: Row, state: str, **changes: Any) -> None:
        self._leave(row)
        row.state = state
        for name, value in changes.items():
            setattr(row, name, value)
        self._enter(row)

    def _end(self, row: Row, settled: Settled) -> tuple[str, str | None]:
        self._leave(row)
        del self.queue[row.id]
        if row.thread_key is not None:
            thread = self._thread[row.client, row.thread_key]
            thread.remove(row.id)
            if not thread:
                del self._thread[row.client, row.thread_key]
        if row.expires_at is not None:
            self._expires.remove((row.expires_at, row.id))
        assert row.id not in self.state, "the primary key"
        self.state[row.id] = settled
        return row.client, row.thread_key
