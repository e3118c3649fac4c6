"""The tables of schema.sql in memory, and the engine's statements on them: what each does is what the SQL of the same name does.

Every method is one statement: it happens at one moment, wholly or not at all. test_store_suite.py holds this and the real database to the
same tests. `locked` are queue rows that somebody else's open transaction holds: SKIP LOCKED passes over them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rotord.core.limits import CARRY_S, MonthUse
from rotord.core.model import Blame, Outcome
from rotord.core.past import LedgerRow
from rotord.core.records import Candidate, Cursor, LaneRow, Next, Payload, Ripened, Term, Unfinished, Verdict
from rotord.db.ledger import ID_SHIFT
from rotord.db.queue import FencedError
from rotord.db.settle import RIPEN_BATCH

from .memory_fleet import FleetTables
from .memory_lookups import LookUpTables
from .memory_rows import Attempt, LeaseRow, Row, Settled, Thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from uuid import UUID

    from rotord.core.records import Begin, LaneRequest, Settlement

BATCH = 1000
_LAW = {"hard_bounce", "manual"}


class Tables(LookUpTables, FleetTables):
    """`clock` is the database's. `notify` is told the channel of each notification."""

    def __init__(self, clock: Callable[[], float]) -> None:
        LookUpTables.__init__(self)
        FleetTables.__init__(self)
        self.clock = clock
        self.outbox: dict[int, dict[str, Any]] = {}
        self.attempts: dict[int, Attempt] = {}
        self.threads: dict[tuple[str, str], Thread] = {}
        self.suppressions: list[tuple[str | None, str, str, float]] = []
        self.lease: LeaseRow | None = None
        self.locked: set[int] = set()

    # -- what people and apps do -------------------------------------------------------------------------------------------------

    def insert(self, **columns: Any) -> int:
        """One INSERT into rotord.outbox and what its trigger does."""
        message = {"stream": "main", "kind": "bulk", "campaign": None, "sender": None, "thread_key": None, "priority": 0} | columns
        outbox_id = len(self.outbox) + 1
        self.outbox[outbox_id] = message
        now = self.clock()
        thread = (message["client"], message["thread_key"])
        chain = self.threads.get(thread)
        row = Row(
            outbox_id,
            message["client"],
            message["stream"],
            message["kind"],
            message["campaign"] or "",
            message["recipient"].lower(),
            -message["priority"],
            message.get("send_after", now),
            message.get("bytes", 4200),
            pin=message["sender"] or (chain.sender if chain else ""),
            pin_kind="sender" if message["sender"] else "thread" if chain else "",
            thread_key=message["thread_key"],
            expires_at=message.get("expires_at"),
        )
        waits = row.thread_key is not None and self._head(thread) is not None
        row.state = "waiting" if waits else "scheduled" if row.due_at > now else "queued"
        self.add(row)
        self.notify("rotord_outbox")
        return outbox_id

    def cancel(self, outbox_id: int) -> None:
        """UPDATE rotord.outbox SET cancelled_at, and what its trigger does."""
        self.outbox[outbox_id].setdefault("cancelled_at", self.clock())
        row = self.queue.get(outbox_id)
        if row is None:
            return
        if row.state in {"sending", "uncertain"}:
            row.cancelled = True
            return
        newest = self.attempts.get(row.attempt or -1)
        self._end(row, Settled("cancelled", newest.address if newest else None, row.message_id, row.attempts, row.last_error))
        if row.thread_key is not None:
            self._promote_head(row.client, row.thread_key)
            self.notify("rotord_outbox")

    def suppress(self, recipient: str, client: str | None, reason: str) -> None:
        self.suppressions.append((client, recipient.lower(), reason, self.clock()))

    # -- lease -------------------------------------------------------------------------------------------------------------------

    def win(self, holder: UUID, ttl_s: float) -> Term | None:
        now = self.clock()
        previous = None if self.lease is None else self.lease.holder
        if self.lease is None:
            self.lease = LeaseRow(holder, 1, now + ttl_s)
        elif self.lease.expires_at > now:
            return None
        else:
            self.lease = LeaseRow(holder, self.lease.epoch + 1, now + ttl_s, self.lease.swept_id)
        return Term(holder, self.lease.epoch, now, max(self.attempts, default=0) + 1, previous)

    def renew(self, term: Term, ttl_s: float) -> bool:
        if not self._holds(term):
            return False
        assert self.lease is not None
        self.lease.expires_at = self.clock() + ttl_s
        return True

    def resign(self, term: Term) -> None:
        if self.lease is not None and (self.lease.holder, self.lease.epoch) == (term.holder, term.epoch):
            self.lease.expires_at = self.clock()
            self.notify("rotord_lease")

    def _holds(self, term: Term) -> bool:
        lease = self.lease
        return lease is not None and (lease.holder, lease.epoch) == (term.holder, term.epoch) and lease.expires_at > self.clock()

    # -- a term's beginning ------------------------------------------------------------------------------------------------------

    def cut_off(self, epoch: int) -> list[Unfinished]:
        lease = self.lease
        if lease is None:
            return []
        return [
            Unfinished(a.id, a.outbox_id)
            for a in self.attempts.values()
            if a.id >= lease.swept_id and a.epoch == epoch and a.outcome is None
        ]

    def recover(self, term: Term) -> int:
        lease = self.lease
        if lease is None or (lease.holder, lease.epoch) != (term.holder, term.epoch):
            return 0
        cut = [a for a in self.attempts.values() if a.id >= lease.swept_id and a.epoch < term.epoch and a.outcome is None]
        for attempt in cut:
            attempt.outcome = Outcome.UNCERTAIN
            attempt.reply = "its daemon stopped before the answer was recorded"
            row = self.queue.get(attempt.outbox_id)
            if row is not None and row.attempt == attempt.id and row.state == "sending":
                row.last_error = attempt.reply
                self.move(row, "uncertain")
                self._chain(row)
        lease.swept_id = term.ids_from
        return len(cut)

    def recent(self, now: float) -> list[LedgerRow]:
        since = (int(now * 1000) - 97_200_000) << ID_SHIFT  # 27 hours, as rotord.db.ledger
        rows = [
            LedgerRow(
                *(a.address, a.domain, a.client, a.provider, a.began_at, _counts_at(a)),
                outcome=a.outcome,
                blame=Blame(a.blame) if a.blame else None,
                campaign=a.campaign,
            )
            for a in self.attempts.values()
            if a.id >= since
        ]
        return sorted(rows, key=lambda row: row.counts_at)

    def counted_on(self, now: float) -> list[LedgerRow]:
        """As `recent`, with what the present leader counts on: refusals that another node learnt after this one had read the ledger."""
        epoch = self.lease.epoch if self.lease is not None else 0
        late = [a for a in self.attempts.values() if a.refused_late and a.refused_late == epoch]
        rows = [
            LedgerRow(a.address, a.domain, a.client, a.provider, a.began_at, a.deadline_at, Outcome.UNCERTAIN, campaign=a.campaign)
            for a in late
        ]
        return sorted([*self.recent(now), *rows], key=lambda row: row.counts_at)

    def month_use(self, now: float) -> dict[str, MonthUse]:
        first = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        following = (first + timedelta(days=31)).replace(day=1)
        since, late = (int((month.timestamp() - CARRY_S) * 1000) << ID_SHIFT for month in (first, following))
        used = Counter(attempt.provider for attempt in self.attempts.values() if attempt.id >= since)
        carried = Counter(attempt.provider for attempt in self.attempts.values() if attempt.id >= late)
        return {provider: MonthUse(count, carried[provider]) for provider, count in used.items()}

    # -- from the queue to the wire ----------------------------------------------------------------------------------------------

    def lanes(self) -> list[LaneRow]:
        return [LaneRow(key, self.queue[rows[0][2]].lane, Cursor(*rows[0])) for key, rows in sorted(self._ready.items()) if rows]

    def candidates(self, requests: Sequence[LaneRequest]) -> list[Candidate]:
        found = []
        for request in requests:
            rows = self._ready.get(request.key, [])
            start = bisect_right(rows, tuple(request.after))
            for _, _, outbox_id in rows[start : start + request.limit]:
                row = self.queue[outbox_id]
                found.append(
                    Candidate(
                        row.id,
                        request.key,
                        row.rank,
                        row.due_at,
                        row.bytes,
                        row.attempts,
                        row.first_at,
                        row.message_id,
                        row.thread_key,
                        row.avoid,
                    )
                )
        return found

    def payloads(self, ids: Sequence[int]) -> list[Payload]:
        return [self._payload(outbox_id, self.outbox[outbox_id]) for outbox_id in ids if outbox_id in self.outbox]

    def _payload(self, outbox_id: int, message: dict[str, Any]) -> Payload:
        chain = self.threads.get((message["client"], message["thread_key"]))
        return Payload(
            outbox_id,
            message["client"],
            message["recipient"],
            message.get("recipient_name"),
            message.get("subject", "s"),
            message.get("body_text", "b"),
            message.get("body_html"),
            message["stream"],
            message["campaign"],
            message["kind"],
            message.get("reply_to"),
            message.get("headers", {}),
            message.get("attachments", []),
            message.get("metadata", {}),
            chain.last_message_id if chain else "",
            list(chain.references) if chain else [],
        )

    def begin(self, term: Term, begins: Sequence[Begin]) -> dict[int, Verdict]:
        if not self._holds(term):
            raise FencedError
        return self.begin_unfenced(term, begins)

    def begin_unfenced(self, term: Term, begins: Sequence[Begin]) -> dict[int, Verdict]:
        return {
            begin.outbox_id: self._begin(term, begin, row)
            for begin in begins
            if (row := self.queue.get(begin.outbox_id)) is not None and row.state == "queued" and row.id not in self.locked
        }

    def _begin(self, term: Term, begin: Begin, row: Row) -> Verdict:
        now = self.clock()
        verdict = self._judge(row, now)
        if verdict is Verdict.WAITING:
            self.move(row, "waiting")
            return verdict
        if verdict is not Verdict.SENDING:
            self._end(row, Settled(verdict.value, None, row.message_id, row.attempts, row.last_error))
            return verdict
        began_at = min(begin.began_at, now)
        row.attempt, row.attempts = begin.attempt_id, row.attempts + 1
        row.first_at = began_at if row.first_at is None else row.first_at
        row.message_id = row.message_id or begin.message_id
        self.move(row, "sending")
        assert begin.attempt_id not in self.attempts, "the primary key"
        self.attempts[begin.attempt_id] = Attempt(
            begin.attempt_id,
            row.id,
            row.attempts,
            term.epoch,
            begin.address,
            begin.domain,
            row.client,
            begin.provider,
            began_at,
            now + begin.timeout_s,
            campaign=row.campaign,
        )
        if row.thread_key is not None:
            self.threads.setdefault((row.client, row.thread_key), Thread(begin.address)).sender = begin.address
        return verdict

    def _judge(self, row: Row, now: float) -> Verdict:
        if row.cancelled:
            return Verdict.CANCELLED
        if row.expires_at is not None and row.expires_at <= now:
            return Verdict.EXPIRED
        covered = any(
            recipient == row.recipient and client in {None, row.client} and (row.kind == "bulk" or reason in _LAW)
            for client, recipient, reason, _ in self.suppressions
        )
        if covered:
            return Verdict.SUPPRESSED
        thread = [self.queue[other] for other in self._thread.get((row.client, row.thread_key or ""), [])]
        waits = any(other.state == "sending" or (other.id < row.id and other.state != "uncertain") for other in thread if other is not row)
        return Verdict.WAITING if waits else Verdict.SENDING

    # -- from the wire back ------------------------------------------------------------------------------------------------------

    def read_back(self, attempt_ids: Sequence[int]) -> list[Unfinished]:
        return [Unfinished(a.id, a.outbox_id) for attempt_id in attempt_ids if (a := self.attempts.get(attempt_id)) is not None]

    def settle(self, settlements: Sequence[Settlement]) -> list[tuple[str, str]]:
        """The first of two statements: the threads to `promote` in the second."""
        threads = set()
        for settlement in settlements:
            attempt = self.attempts.get(settlement.attempt_id)
            states = {"sending", "uncertain"}
            if settlement.step.next is Next.SENT and attempt is not None and attempt.outcome is Outcome.UNCERTAIN:
                states |= {"queued", "waiting"}
            if attempt is not None and attempt.outcome in {None, Outcome.UNCERTAIN}:
                if attempt.outcome is Outcome.UNCERTAIN and settlement.step.next in {Next.RETRY, Next.FAILED} and self.lease is not None:
                    attempt.refused_late = self.lease.epoch
                attempt.outcome, attempt.finished_at = settlement.reply.outcome, settlement.finished_at
                attempt.blame = settlement.reply.blame.value if settlement.reply.blame else None
                attempt.reply = settlement.reply.text
            row = self.queue.get(settlement.outbox_id)
            if row is None or row.attempt != settlement.attempt_id or row.state not in states:
                continue
            if self._settle(row, settlement, attempt) and row.thread_key is not None:
                threads.add((row.client, row.thread_key))
        return sorted(threads)

    def _settle(self, row: Row, settlement: Settlement, attempt: Attempt | None) -> bool:
        """Move one row on; True when the next of its thread may go."""
        following = settlement.step.next
        error = settlement.reply.text
        if following is Next.UNCERTAIN:
            if row.state == "uncertain":
                return False
            row.last_error = error
            self.move(row, "uncertain")
            self._chain(row)
            return True
        if following is Next.RETRY and not row.cancelled:
            pin = settlement.step.pin if not row.pin else ""
            changes = {"pin": pin, "pin_kind": "retry"} if pin else {}
            self.move(row, "scheduled", due_at=settlement.step.due_at, last_error=error, avoid=settlement.step.avoid, **changes)
            return False
        sender = attempt.address if attempt else None
        status = "cancelled" if following is Next.RETRY else following.value
        self._end(row, Settled(status, sender, row.message_id, row.attempts, None if following is Next.SENT else error))
        if following is Next.SENT:
            self._chain(row)
        return True

    def _chain(self, row: Row) -> None:
        thread = self.threads.get((row.client, row.thread_key or ""))
        if thread is not None and row.message_id is not None and row.message_id not in thread.references:
            thread.last_message_id = row.message_id
            thread.references = [*thread.references[-19:], row.message_id]

    # -- rows that wait ----------------------------------------------------------------------------------------------------------

    def promote(self, threads: Iterable[tuple[str, str]]) -> None:
        for thread in threads:
            row = self.queue.get(self._head(thread) or -1)
            if row is None or row.state != "waiting":
                continue
            chain = self.threads.get(thread)
            changes = {"pin": chain.sender, "pin_kind": "thread"} if chain and row.pin_kind != "sender" else {}
            self.move(row, "scheduled" if row.due_at > self.clock() else "queued", **changes)

    def _promote_head(self, client: str, thread_key: str) -> None:
        self.promote([(client, thread_key)])

    def stranded(self) -> list[tuple[str, str]]:
        return [thread for thread in self._thread if (head := self._head(thread)) is not None and self.queue[head].state == "waiting"]

    def ripen(self, now: float) -> Ripened:
        ripe = []
        for rows in self._scheduled.values():
            due = rows[: min(RIPEN_BATCH, bisect_right(rows, (now, 2**63)))]
            ripe += [outbox_id for _, outbox_id in due if outbox_id not in self.locked]
        for outbox_id in ripe:
            self.move(self.queue[outbox_id], "queued")
        return Ripened(len(ripe), min((rows[0][0] for rows in self._scheduled.values() if rows), default=None))

    def expire(self) -> list[tuple[str, str | None]]:
        """The first of two statements."""
        late = []
        for _, outbox_id in self._expires[: bisect_right(self._expires, (self.clock(), 2**63))]:
            row = self.queue[outbox_id]
            if row.state in {"queued", "scheduled", "waiting"} and outbox_id not in self.locked and len(late) < BATCH:
                late.append(row)
        return [self._end(row, Settled("expired", None, row.message_id, row.attempts, row.last_error)) for row in late]

    def repin(self, lane_key: int, pin: str) -> int:
        rows = [self.queue[outbox_id] for _, _, outbox_id in self._ready.get(lane_key, []) if outbox_id not in self.locked][:BATCH]
        for row in rows:
            self.move(row, "queued", pin=pin, pin_kind=row.pin_kind if pin else "")
            thread = self.threads.get((row.client, row.thread_key or ""))
            if pin and thread is not None:
                thread.sender = pin
        return len(rows)

    def fail_lane(self, lane_key: int, reason: str) -> list[tuple[str, str | None]]:
        """The first of two statements."""
        rows = [self.queue[outbox_id] for _, _, outbox_id in self._ready.get(lane_key, []) if outbox_id not in self.locked][:BATCH]
        return [self._fail(row, reason) for row in rows]

    def fail_row(self, outbox_id: int, reason: str) -> list[tuple[str, str | None]]:
        """The first of two statements."""
        row = self.queue.get(outbox_id)
        return [] if row is None or row.state != "queued" else [self._fail(row, reason)]

    def _fail(self, row: Row, reason: str) -> tuple[str, str | None]:
        return self._end(row, Settled("failed", None, row.message_id, row.attempts, reason))


def _counts_at(attempt: Attempt) -> float:
    return attempt.deadline_at if attempt.finished_at is None else min(attempt.finished_at, attempt.deadline_at)
