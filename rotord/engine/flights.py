"""Messages in the air: from a committed begin to a reply that is handed to the recorder. One task each, all in one TaskGroup.

The one rule: once the body may have left, only the provider's answer says what became of a message. A cut then is `uncertain`; a cut
before it is `not_sent`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import structlog

from rotord.core.model import Outcome, Reply
from rotord.core.records import Settlement
from rotord.core.settling import RetryPolicy, Way, next_step

if TYPE_CHECKING:
    import asyncio

    from rotord.core.pool import SenderPool
    from rotord.engine.clock import DatabaseClock
    from rotord.engine.planned import Planned
    from rotord.engine.recorder import Recorder
    from rotord.journal import Journal
    from rotord.providers.base import Slot

_log = structlog.get_logger(__name__)
# Nobody but us is to blame for these.
_LOST_LEASE = Reply(Outcome.NOT_SENT, text="the lease was lost before it was sent")
_TOO_LATE = Reply(Outcome.NOT_SENT, text="the daemon stood still between its begin and its sending")
_CUT_BEFORE = Reply(Outcome.NOT_SENT, text="stopped before it was sent")
_CUT_AFTER = Reply(Outcome.UNCERTAIN, text="stopped while waiting for the provider's answer")

#: told each landing: client, provider, outcome; neither waits nor fails
Observer: TypeAlias = Callable[[str, str, Outcome], None]


def unobserved(_client: str, _provider: str, _outcome: Outcome) -> None:
    """Count nothing."""


def _unnoted() -> None:
    """Keep no journal."""


class Flights:
    """Owns the places of the engine (`concurrency`) and the bytes in flight. A place is held until the reply is written."""

    def __init__(
        self,
        pool: SenderPool,
        recorder: Recorder,
        clock: DatabaseClock,
        policy: RetryPolicy,
        trusted: Callable[[], bool],
        journal: Journal | None = None,
    ) -> None:
        self._pool = pool
        self._recorder = recorder
        self._clock = clock
        self._policy = policy
        self._trusted = trusted
        self._journal = journal
        self._tasks: dict[int, tuple[asyncio.Task[None], Slot]] = {}
        self._sending: set[int] = set()
        self._grounded = False
        self.places_used = 0
        self.bytes_used = 0
        self.landed: Callable[[], None] = lambda: None
        self.observe: Observer = unobserved

    @property
    def count(self) -> int:
        """Messages on the wire."""
        return len(self._tasks)

    def take_place(self, size: int) -> None:
        """Hold a place and bytes for a message that is being prepared."""
        self.places_used += 1
        self.bytes_used += size

    def free_place(self, size: int) -> None:
        """Give both back: it did not begin, or its reply is written."""
        self.places_used -= 1
        self.bytes_used -= size

    def launch(self, group: asyncio.TaskGroup, flight: Planned, start_by: float) -> None:
        """Send a message that has begun, if its task gets to run by `start_by`."""
        task = group.create_task(self._fly(flight, start_by), name=f"delivery-{flight.candidate.id}")
        self._tasks[flight.attempt_id] = (task, flight.slot)

    def abort_unsent(self) -> None:
        """Cut what has not fully left: the right to send is gone. A task that has not run yet sends nothing and lands by itself."""
        self._grounded = True
        for attempt_id, (task, slot) in list(self._tasks.items()):
            if attempt_id in self._sending and not slot.body_left:
                task.cancel()

    async def _fly(self, flight: Planned, start_by: float) -> None:
        reply = _CUT_BEFORE
        try:
            if self._grounded or not self._trusted():
                flight.slot.give_back()
                reply = _LOST_LEASE
            elif self._clock.now() > start_by:
                flight.slot.give_back()
                reply = _TOO_LATE
            else:
                self._sending.add(flight.attempt_id)
                reply = await flight.slot.send(_unnoted if self._journal is None else partial(self._journal.leaving, flight.attempt_id))
        except BaseException:  # a bug too: what may have left is uncertain
            reply = _CUT_AFTER if flight.slot.body_left else _CUT_BEFORE
            raise
        finally:
            self._land(flight, reply)

    def _land(self, flight: Planned, reply: Reply) -> None:
        now, provider = self._clock.latest(), flight.assignment.provider
        self._pool.settle(flight.assignment, reply.outcome, now, reply.blame)
        candidate = flight.candidate
        step = next_step(
            reply,
            outbox_id=candidate.id,
            attempts=candidate.attempts + 1,
            first_at=flight.assignment.began_at if candidate.first_at is None else candidate.first_at,
            way=Way(flight.assignment.email, provider.limits.name, has_another=len(flight.assignment.domain.route.gates) > 1),
            now=now,
            policy=self._policy,
        )
        finished_at = None if reply is _CUT_AFTER else now  # the provider may take a cut one yet: it counts until its deadline
        settlement = Settlement(flight.attempt_id, candidate.id, reply, finished_at, step, candidate.bytes)
        if self._journal is not None:
            self._journal.answered(settlement)
        self._recorder.put(settlement)
        del self._tasks[flight.attempt_id]
        self._sending.discard(flight.attempt_id)
        self.observe(flight.assignment.client.value.slug, provider.limits.name, reply.outcome)
        if reply.outcome is not Outcome.ACCEPTED:
            _log.info(
                "message_not_accepted",
                message_id=candidate.id,
                attempt_id=flight.attempt_id,
                provider=provider.limits.name,
                outcome=reply.outcome.value,
                blame=reply.blame.value if reply.blame else None,
                code=reply.code,
                next=step.next.value,
            )
        self.landed()
