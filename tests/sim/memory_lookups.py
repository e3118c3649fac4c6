"""The reconciler's statements in memory, as rotord.db.reconcile has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rotord.core.lookups import Sought
from rotord.core.model import Outcome
from rotord.db.reconcile import MOST_RESENDS

from .memory_rows import Attempt, Queue, Row, Settled

if TYPE_CHECKING:
    from rotord.core.lookups import Found, Timetable


class LookUpTables(Queue):
    """Beside the queue: for each attempt how often it was asked after, and when last."""

    attempts: dict[int, Attempt]
    outbox: dict[int, dict[str, Any]]
    threads: dict[tuple[str, str], Any]
    clock: Any

    def __init__(self) -> None:
        super().__init__()
        self.look_ups: dict[int, tuple[int, float]] = {}

    def due_look_ups(self, provider: str, now: float, timetable: Timetable, limit: int) -> list[Sought]:
        due = []
        for row in self.queue.values():
            attempt = self.attempts.get(row.attempt or -1)
            if row.state != "uncertain" or attempt is None or attempt.provider != provider:
                continue
            over_at = attempt.deadline_at if attempt.finished_at is None else min(attempt.finished_at, attempt.deadline_at)
            number, last_at = self.look_ups.get(attempt.id, (0, 0.0))
            due_at = timetable.due_at(over_at, number, last_at)
            if due_at is not None and due_at <= now:
                recipient, message_id = self.outbox[row.id]["recipient"], row.message_id or ""
                sought = Sought(row.id, attempt.id, message_id, attempt.address, recipient, attempt.began_at, over_at, number)
                due.append((last_at, row.id, sought))
        return [sought for _, _, sought in sorted(due, key=lambda one: one[:2])[:limit]]

    def found(self, sought: Sought, what: Found) -> bool:
        words = f"found by its look-up: {what.words}"
        attempt = self.attempts[sought.attempt_id]
        if attempt.outcome is Outcome.UNCERTAIN:
            attempt.outcome, attempt.blame, attempt.reply = Outcome.REJECTED if what.refused else Outcome.ACCEPTED, None, words
            if attempt.finished_at is None:
                attempt.finished_at = min(attempt.deadline_at, self.clock())
        row = self._uncertain(sought)
        if row is None:
            return False
        status, error = ("failed", words) if what.refused else ("sent", None)
        self._end(row, Settled(status, attempt.address, row.message_id, row.attempts, error))
        return True

    def missed(self, sought: Sought, now: float, *, complete: bool) -> bool:
        row = self._uncertain(sought)
        if row is None:
            return False
        message = self.outbox[row.id]
        uncertain = sum(a.outbox_id == row.id and a.outcome is Outcome.UNCERTAIN for a in self.attempts.values())
        self.look_ups[sought.attempt_id] = (self.look_ups.get(sought.attempt_id, (0, 0.0))[0] + 1, now)
        late = row.expires_at is not None and row.expires_at <= now
        if not complete or message.get("on_uncertain") != "resend" or row.cancelled or late or uncertain > MOST_RESENDS:
            return False
        thread = (row.client, row.thread_key or "")
        chain = self.threads.get(thread)
        changes = {"pin": chain.sender, "pin_kind": "thread"} if chain and row.pin_kind != "sender" else {}
        words = "may arrive twice: its answer was lost, its provider's look-up did not find it, and on_uncertain is resend"
        self.move(row, "queued", due_at=self.clock(), last_error=words, **changes)
        return True

    def _uncertain(self, sought: Sought) -> Row | None:
        row = self.queue.get(sought.outbox_id)
        return row if row is not None and row.attempt == sought.attempt_id and row.state == "uncertain" else None
