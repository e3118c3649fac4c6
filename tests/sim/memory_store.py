"""The engine's Store over tables in memory, and the wire between a node and that database.

A statement takes effect when it arrives, whatever has become of who asked: a node that was killed, or that gave up waiting, has its
statement executed all the same. `Wire` says for each one how long it is under way and whether it, or its answer, is lost.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from rotord.core.past import past_of
from rotord.db.connect import COMMAND_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from rotord.core.limits import MonthUse
    from rotord.core.lookups import Found, Sought, Timetable
    from rotord.core.past import Past
    from rotord.core.records import (
        Begin,
        Candidate,
        Fleet,
        LaneRequest,
        LaneRow,
        Payload,
        ProviderReport,
        Ripened,
        Settlement,
        Term,
        Unfinished,
        Verdict,
    )

    from .memory_tables import Tables

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trip:
    """What happens to one statement: `out_s` until it arrives (None: never), `back_s` until its answer does.

    The caller's time-out ends both. `cut_s`: the connection is reset then. What had been asked by then arrives all the same.
    """

    out_s: float | None = 0.0
    back_s: float | None = 0.0
    cut_s: float | None = None


class Wire(Protocol):
    """`trip` is asked at each statement; it may raise what a connection raises."""

    def trip(self, name: str) -> Trip: ...


class Direct:
    """No distance, no faults."""

    def trip(self, name: str) -> Trip:
        return Trip()


class MemoryStore:
    """`rotord.engine.store.Store`. One for each node; they share the tables."""

    def __init__(self, tables: Tables, wire: Wire) -> None:
        self.tables = tables
        self._wire = wire

    async def _run(self, name: str, statement: Callable[..., T], *arguments: Any, timeout_s: float = COMMAND_TIMEOUT_S) -> T:
        trip = self._wire.trip(name)
        if trip.out_s == 0.0 and trip.back_s == 0.0 and trip.cut_s is None:
            return statement(*arguments)
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        _travel(trip, answer, lambda: statement(*arguments))
        _limit(trip, answer, name, timeout_s)
        return await answer

    async def win(self, holder: UUID, ttl_s: float, node: str) -> Term | None:
        return await self._run("win", self.tables.win, holder, ttl_s)

    async def renew(self, term: Term, ttl_s: float, timeout_s: float) -> bool:
        return await self._run("renew", self.tables.renew, term, ttl_s, timeout_s=timeout_s)

    async def resign(self, term: Term) -> None:
        await self._run("resign", self.tables.resign, term)

    async def cut_off(self, epoch: int) -> list[Unfinished]:
        return await self._run("cut_off", self.tables.cut_off, epoch)

    async def recover(self, term: Term) -> int:
        return await self._run("recover", self.tables.recover, term)

    async def fleet(self) -> Fleet:
        return await self._run("fleet", self.tables.fleet)

    async def fleet_changes(self, mark: str) -> Fleet:
        return await self._run("fleet_changes", self.tables.fleet_changes, mark)

    async def past(self, now: float) -> Past:
        return past_of(await self._run("past", self.tables.recent, now))

    async def month_use(self, now: float) -> dict[str, MonthUse]:
        return await self._run("month_use", self.tables.month_use, now)

    async def lanes(self) -> list[LaneRow]:
        return await self._run("lanes", self.tables.lanes)

    async def candidates(self, requests: Sequence[LaneRequest]) -> list[Candidate]:
        return await self._run("candidates", self.tables.candidates, requests)

    async def payloads(self, ids: Sequence[int]) -> list[Payload]:
        return await self._run("payloads", self.tables.payloads, ids)

    async def begin(self, term: Term, begins: Sequence[Begin]) -> dict[int, Verdict]:
        return await self._run("begin", self.tables.begin, term, begins)

    async def read_back(self, attempt_ids: Sequence[int]) -> list[Unfinished]:
        return await self._run("read_back", self.tables.read_back, attempt_ids)

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        await self._promote(await self._run("settle", self.tables.settle, list(settlements)))

    async def ripen(self, now: float) -> Ripened:
        return await self._run("ripen", self.tables.ripen, now)

    async def expire(self) -> int:
        return await self._ended(await self._run("expire", self.tables.expire))

    async def promote_stranded(self) -> int:
        threads = await self._run("stranded", self.tables.stranded)
        await self._promote(threads)
        return len(threads)

    async def repin(self, lane_key: int, pin: str) -> int:
        return await self._run("repin", self.tables.repin, lane_key, pin)

    async def fail_lane(self, lane_key: int, reason: str) -> int:
        return await self._ended(await self._run("fail_lane", self.tables.fail_lane, lane_key, reason))

    async def fail_row(self, outbox_id: int, reason: str) -> None:
        await self._ended(await self._run("fail_row", self.tables.fail_row, outbox_id, reason))

    async def due_look_ups(self, provider: str, now: float, timetable: Timetable, limit: int) -> list[Sought]:
        return await self._run("due_look_ups", self.tables.due_look_ups, provider, now, timetable, limit)

    async def found(self, sought: Sought, what: Found) -> bool:
        return await self._run("found", self.tables.found, sought, what)

    async def missed(self, sought: Sought, now: float, *, complete: bool) -> bool:
        return await self._run("missed", partial(self.tables.missed, complete=complete), sought, now)

    async def publish(self, reports: Sequence[ProviderReport]) -> None:
        """Nobody reads it here."""

    async def roll_up(self, now: float) -> None:
        """Nobody reads statistics here."""

    async def tidy(self, now: float) -> None:
        """Nothing to do: months are counted from the attempts, which stay."""

    async def analyze(self) -> Sequence[str]:
        """Nobody plans anything here."""
        return ()

    async def _ended(self, rows: Sequence[tuple[str, str | None]]) -> int:
        await self._promote([(client, key) for client, key in rows if key is not None])
        return len(rows)

    async def _promote(self, threads: Sequence[tuple[str, str]]) -> None:
        if threads:
            await self._run("promote", self.tables.promote, threads)


def _travel(trip: Trip, answer: asyncio.Future[Any], statement: Callable[[], Any]) -> None:
    """Execute the statement when it arrives, and let its answer come back if nobody has given up."""
    loop = asyncio.get_running_loop()

    def arrive() -> None:
        try:
            deliver, what = answer.set_result, statement()
        except Exception as error:  # noqa: BLE001 - it travels back
            deliver, what = answer.set_exception, error
        if trip.back_s is not None:
            loop.call_later(trip.back_s, _unless_done, answer, deliver, what)

    if trip.out_s is not None:
        loop.call_later(trip.out_s, arrive)


def _limit(trip: Trip, answer: asyncio.Future[Any], name: str, timeout_s: float) -> None:
    """Let the connection be cut, or the caller's time run out."""
    loop = asyncio.get_running_loop()
    if trip.cut_s is not None:
        loop.call_later(trip.cut_s, _unless_done, answer, answer.set_exception, ConnectionResetError(name))
    elif trip.out_s is None or trip.back_s is None or trip.out_s + trip.back_s > timeout_s:
        loop.call_later(timeout_s, _unless_done, answer, answer.set_exception, TimeoutError(name))


def _unless_done(answer: asyncio.Future[Any], deliver: Callable[[Any], None], what: Any) -> None:
    if not answer.done():
        deliver(what)
