"""From reserved to launched: bodies are read and rendered, the begin is committed, and what it let through takes off.

Promises: a row that cannot be rendered fails alone; when the answer to a begin is lost, its reservations stay (limbo) until the attempts
are read back; whatever else goes wrong gives every reservation back. Owns nothing between two calls.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from rotord.core.mime import RenderError
from rotord.core.records import Begin, Verdict
from rotord.db.queue import FencedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rotord.core.pool import SenderPool
    from rotord.core.records import Payload, Term
    from rotord.engine.clock import DatabaseClock
    from rotord.engine.flights import Flights
    from rotord.engine.limbo import Limbo
    from rotord.engine.planned import Planned
    from rotord.engine.preparation import Preparation
    from rotord.engine.store import Store
    from rotord.providers.base import Provider

_log = structlog.get_logger(__name__)
# A send starts at most this long after its begin was asked for (the answer may take COMMAND_TIMEOUT_S), so that it is over by the
# attempt's deadline, which the database counts from the commit: after a crash the message counts from there.
START_WITHIN_S = 10.0
# At most this many bodies are in memory at once before they are rendered.
PAYLOAD_CHUNK = 16 * 1024 * 1024
# So many are rendered (0.1 ms each) before others have their turn on the loop.
RENDERED_AT_ONCE = 25


@dataclass(frozen=True, slots=True)
class TermParts:
    """What the loops of one term share. Each is written by the one who owns it."""

    store: Store
    term: Term
    pool: SenderPool
    flights: Flights
    clock: DatabaseClock
    limbo: Limbo


class Launcher:
    """Used by the dispatcher's turns, and beside them for large messages."""

    def __init__(self, parts: TermParts, providers: Mapping[str, Provider], preparation: Preparation) -> None:
        self._store = parts.store
        self._term = parts.term
        self._pool = parts.pool
        self._flights = parts.flights
        self._clock = parts.clock
        self._limbo = parts.limbo
        self._providers = providers
        self._preparation = preparation

    def drop(self, planned: Planned) -> None:
        """Undo a reservation whose message did not begin."""
        planned.slot.give_back()
        self._pool.cancel(planned.assignment)
        self._flights.free_place(planned.candidate.bytes)

    async def prepare(self, planned: Sequence[Planned]) -> list[Planned]:
        """Read the bodies and render them; a row that cannot be rendered fails alone. What is returned is ready to begin."""
        ready: list[Planned] = []
        waiting = list(planned)
        try:
            while waiting:
                chunk = _chunk(waiting)
                payloads = {payload.id: payload for payload in await self._store.payloads([plan.candidate.id for plan in chunk])}
                for number, plan in enumerate(chunk, start=1):
                    is_ready = await self._prepare(plan, payloads.pop(plan.candidate.id, None))
                    waiting.remove(plan)
                    if is_ready:
                        ready.append(plan)
                    if number % RENDERED_AT_ONCE == 0:
                        await asyncio.sleep(0)
        except BaseException:
            for plan in [*waiting, *ready]:
                self.drop(plan)
            raise
        return ready

    async def _prepare(self, plan: Planned, payload: Payload | None) -> bool:
        if payload is None:
            self.drop(plan)
            return False
        try:
            provider = self._providers[plan.assignment.provider.limits.name]
            await self._preparation.prepare(plan, payload, writes_mail=provider.writes_mail)
        except RenderError as error:
            _log.warning("message_not_renderable", message_id=plan.candidate.id, reason=str(error))
            await self._store.fail_row(plan.candidate.id, str(error))
            self.drop(plan)
            return False
        return True

    async def begin(self, group: asyncio.TaskGroup, prepared: Sequence[Planned]) -> None:
        """Begin what was prepared and let it take off. Raises FencedError when the lease is lost: then nothing has begun."""
        if not prepared:
            return
        begins = [self._begin_row(plan) for plan in prepared]
        start_by = self._clock.now() + START_WITHIN_S
        try:
            verdicts = await self._store.begin(self._term, begins)
        except FencedError:
            for plan in prepared:
                self.drop(plan)
            raise
        except BaseException:
            # It may have been committed. The slots are free again, the limits stay reserved until the ledger says which are there.
            for plan in prepared:
                plan.slot.give_back()
                self._limbo.add(plan.attempt_id, plan.candidate, plan.assignment, self._clock.now())
            raise
        for plan in prepared:
            verdict = verdicts.get(plan.candidate.id)
            if verdict is Verdict.SENDING:
                self._flights.launch(group, plan, start_by)
            else:
                if verdict is not None:
                    _log.info("message_not_begun", message_id=plan.candidate.id, verdict=verdict.value)
                self.drop(plan)

    def _begin_row(self, plan: Planned) -> Begin:
        assignment = plan.assignment
        provider = assignment.provider.limits.name
        return Begin(
            plan.candidate.id,
            plan.attempt_id,
            assignment.email,
            assignment.domain.value.name,
            assignment.client.value.slug,
            provider,
            self._providers[provider].attempt_timeout_s + START_WITHIN_S,
            plan.message_id,
            assignment.began_at,
        )


def _chunk(waiting: Sequence[Planned]) -> list[Planned]:
    """The first messages whose bodies fit into memory together; at least one."""
    size = 0
    for count, plan in enumerate(waiting):
        size += plan.candidate.bytes
        if size > PAYLOAD_CHUNK and count > 0:
            return list(waiting[:count])
    return list(waiting)
