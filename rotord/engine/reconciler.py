"""The leader's look-ups: asks the providers after messages whose answer was lost, and settles what they have.

One loop a provider, one question at a time, so that a provider without a look-up, or one that is away, delays no other. A question is
politely asked: within the provider's rate, after the grace time, less and less often. What goes wrong with it only makes the next one
later; nothing of it ends the term. Owns the notes on what stands in the way, which are published with the providers' state.

    due -> found     settled as sent (or failed: taken and refused for good)
        -> missing   waits for its next turn; with `on_uncertain = 'resend'` it is queued again
        -> unclear   waits for its next turn
        -> trouble   nobody is asked for a while
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, assert_never

import structlog

from rotord.core.lookups import Found, Missing, Trouble, Unclear
from rotord.engine.retry import until_done
from rotord.engine.waiting import wait

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotord.core.lookups import Finding, Sought
    from rotord.engine.dispatcher import Dispatcher
    from rotord.engine.launch import TermParts
    from rotord.providers.base import LookUp

_log = structlog.get_logger(__name__)

#: Due messages are read so many at once; a look-up may take seconds, and what was read may be settled meanwhile.
BATCH: Final = 20
#: Looks for due ones this part of the grace time apart, within bounds: nobody notices 15 s after half an hour.
POLL_SHARE: Final = 0.1
POLL_LEAST_S: Final = 0.5
POLL_MOST_S: Final = 15.0
#: after trouble: doubling from the first to the last
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 900.0
#: what only a person can mend is tried again this often
LASTING_S: Final = 3600.0
#: so many answers in a row that say nothing are trouble: SMTP2GO shuts out who causes too many errors, with his mail
MOST_UNCLEAR: Final = 3


class Reconciler:
    """Runs for one term."""

    def __init__(self, parts: TermParts, dispatcher: Dispatcher, look_ups: Mapping[str, LookUp]) -> None:
        self._parts = parts
        self._dispatcher = dispatcher
        self._look_ups = look_ups
        #: by provider, why it cannot be asked now
        self.notes: dict[str, str] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Ask until `stop`. A question under way is cut off: it changes nothing."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._serve(look_up, stop), name=f"reconciler-{look_up.name}") for look_up in self._look_ups.values()
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def _serve(self, look_up: LookUp, stop: asyncio.Event) -> None:
        troubles = Troubles(look_up.name, self.notes)
        poll_s = min(max(look_up.timetable.grace_s * POLL_SHARE, POLL_LEAST_S), POLL_MOST_S)
        while not stop.is_set():
            due = await self._due(look_up)
            pause_s = 0.0 if len(due) == BATCH else poll_s
            for sought in due:
                finding = await look_up.ask(sought)
                await self._conclude(look_up, sought, finding)
                if troubled_s := troubles.after(finding):
                    pause_s = troubled_s
                    if isinstance(finding, Trouble) and troubles.may_be_its_own:
                        await self._missed(_log, sought, complete=False)
                    break
            await wait(stop, pause_s)

    async def _due(self, look_up: LookUp) -> list[Sought]:
        now = self._parts.clock.now()
        return await until_done(lambda: self._parts.store.due_look_ups(look_up.name, now, look_up.timetable, BATCH), "look-ups")

    async def _conclude(self, look_up: LookUp, sought: Sought, finding: Finding) -> None:
        bound = _log.bind(message_id=sought.outbox_id, attempt_id=sought.attempt_id, provider=look_up.name)
        match finding:
            case Found():
                if await until_done(lambda: self._parts.store.found(sought, finding), "look-up"):
                    bound.info("uncertain_found", status="failed" if finding.refused else "sent", words=finding.words)
            case Missing():
                await self._missed(bound, sought, complete=True)
            case Unclear(reason):
                bound.info("look_up_unclear", reason=reason)
                await self._missed(bound, sought, complete=False)
            case Trouble():
                pass  # it was not asked after
            case _:
                assert_never(finding)

    async def _missed(self, bound: structlog.stdlib.BoundLogger, sought: Sought, *, complete: bool) -> None:
        now = self._parts.clock.now()
        if await until_done(lambda: self._parts.store.missed(sought, now, complete=complete), "look-up"):
            bound.warning("uncertain_resent", look_ups=sought.look_ups + 1)
            self._dispatcher.wake()
        elif complete:
            bound.info("uncertain_not_found", look_ups=sought.look_ups + 1)


class Troubles:
    """How one provider's look-ups go; says how long to leave it alone, and notes why."""

    def __init__(self, name: str, notes: dict[str, str]) -> None:
        self._name = name
        self._notes = notes
        self._in_a_row = 0
        self._unclear = 0

    @property
    def may_be_its_own(self) -> bool:
        """True at each third time in a row: perhaps it is this one message that cannot be asked after, and others wait behind it."""
        return self._in_a_row % MOST_UNCLEAR == 0

    def after(self, finding: Finding) -> float:
        """Seconds during which nobody is to be asked."""
        match finding:
            case Unclear(reason):
                self._unclear += 1
                return 0.0 if self._unclear < MOST_UNCLEAR else self._pause(reason, None, lasting=False)
            case Trouble(reason, wait_s, lasting):
                return self._pause(reason, wait_s, lasting=lasting)
            case _:
                if self._notes.pop(self._name, None) is not None:
                    _log.info("look_ups_work_again", provider=self._name)
                self._in_a_row = self._unclear = 0
                return 0.0

    def _pause(self, reason: str, wait_s: float | None, *, lasting: bool) -> float:
        if self._notes.get(self._name) != reason:
            _log.warning("look_ups_do_not_work", provider=self._name, reason=reason)
            self._notes[self._name] = reason
        self._in_a_row += 1
        if lasting:
            return LASTING_S
        again_s = FIRST_PAUSE_S * 2.0 ** min(self._in_a_row - 1, 20)
        return min(LONGEST_PAUSE_S, again_s if wait_s is None else max(wait_s, FIRST_PAUSE_S))
