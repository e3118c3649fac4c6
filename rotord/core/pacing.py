"""Even spread with jitter: when the next message of one address, domain or client may begin, if its client is paced.

A day is planned at 97.5 % of what its limits allow, the fractions carried from day to day. At exactly 100 % message i
of today could never precede message i of yesterday (a rolling cap forbids it), so all times would creep to the latest
jitter ever drawn, and the spread would die; one spare place in forty breaks that ratchet.

The plan lies on a grid of equal slots over the day's open time, one message in the middle part of each. Whoever is
behind the grid (an outage, late demand) spreads what is left over the time that is left, from the last message on.

It decides from its arguments alone: what it keeps is only remembered arithmetic, and its jitter is a hash. A process
that starts again with the same ledger goes on with the same times. It never lifts a cap: core.limits stays the judge.
"""

from __future__ import annotations

from math import inf
from struct import Struct
from typing import TYPE_CHECKING, Final

from rotord.core.backoff import jitter_bytes, jitter_unit

if TYPE_CHECKING:
    from rotord.core.window import SendingDay, WindowClock

_HOUR_S: Final = 3600
_DAY_S: Final = 86400
# The planned part of a limit, 39 of 40: as integers, so that carrying over thousands of days loses nothing.
_PLANNED, _OF = 39, 40
# A slot's message lies at 0.1 + 0.2 * (one draw a day) + 0.6 * (one draw a slot) of it, so neighbours are 0.4 apart or more.
_EDGE, _BY_DAY, _BY_SLOT = 0.1, 0.2, 0.6
_NEAREST: Final = 1.0 - _BY_SLOT
# Sixteen draws of 4 bytes in one hash.
_DRAWS: Final = 16
_DRAW: Final = Struct(">I")
_TO_UNIT: Final = 2.0**-32
# Catching up is never faster than four times the day's even rate, whatever the hourly limit would let through.
_HURRY: Final = 4.0


class Pacer:
    """The pace of one entity with these limits. When they change (a warm-up step), make a new one."""

    __slots__ = (
        "_answer",
        "_asked",
        "_block",
        "_by_day",
        "_clock",
        "_closes",
        "_counted_from",
        "_day",
        "_draws",
        "_fastest_s",
        "_key",
        "_open_s",
        "_opens",
        "_ordinal",
        "_per_day",
        "_per_hour",
        "_plan",
        "_since",
        "_slot_s",
    )

    def __init__(self, key: str, per_hour: int | None, per_day: int | None, clock: WindowClock) -> None:
        if per_hour is None and per_day is None:
            raise ValueError(f"{key} has no limit that could be spread")
        self._key = key
        self._per_hour = per_hour
        self._per_day = per_day
        self._clock = clock
        # What `_begin_day` finds out about the day in hand; there is none yet.
        self._day: SendingDay
        self._plan = self._ordinal = 0
        self._since, self._opens, self._closes, self._counted_from = inf, inf, -inf, inf
        self._open_s = self._slot_s = self._fastest_s = self._by_day = 0.0
        # The last sixteen draws and which they are; the last question and its answer.
        self._block, self._draws = -1, b""
        self._asked: tuple[int, float | None] | None = None
        self._answer = inf

    def counting_since(self, now: float) -> float:
        """Say from when on messages count as `sent`; never after `now`.

        It is the close of the day before and, from 24 h before this day opens, at most those 24 h ago: what a night's
        transactional mail takes from the rolling caps, it takes from the plan; what a weekend's took, is free again.
        """
        if not self._since <= now < self._closes:
            self._begin_day(now)
        return self._counted_from if now >= self._counted_from else self._since

    def next_at(self, sent: int, last_at: float | None, now: float) -> float:
        """Say when the next message may begin at the earliest: at once when that is not after `now`.

        `sent` messages of every kind began since `counting_since(now)`, the latest ever at `last_at`. With these two
        unchanged the answer stays the same while `now` moves up to it. inf: a limit is 0.
        """
        if not self._since <= now < self._closes:
            self._begin_day(now)
        if now < self._counted_from:
            sent = 0  # What begins before that takes nothing from this day.
        if self._asked != (sent, last_at):
            self._asked = (sent, last_at)
            self._answer = self._next_at(sent, last_at)
        return self._answer

    def _begin_day(self, now: float) -> None:
        day = self._day = self._clock.day_at(now)
        self._since, self._opens, self._closes = day.since, day.opens, day.closes
        self._counted_from = max(day.since, day.opens - _DAY_S)
        self._asked, self._block = None, -1
        self._ordinal = day.date.toordinal()
        self._by_day = _BY_DAY * jitter_unit(self._key, self._ordinal)
        self._open_s = day.open_s
        self._plan = self._plan_of(day)
        if self._plan:
            self._slot_s = self._open_s / self._plan
            of_the_hour = _HOUR_S * _OF / (_PLANNED * self._per_hour) if self._per_hour is not None else 0.0
            self._fastest_s = min(self._slot_s, max(self._slot_s / _HURRY, of_the_hour))

    def _next_at(self, sent: int, last_at: float | None) -> float:
        left = self._plan - sent
        if left <= 0:
            return self._first_after()
        block, index = divmod(sent, _DRAWS)
        if block != self._block:
            self._block, self._draws = block, jitter_bytes(self._key, self._ordinal, block)
        unit: float = _DRAW.unpack_from(self._draws, 4 * index)[0] * _TO_UNIT
        due = self._slot_s * (sent + _EDGE + self._by_day + _BY_SLOT * unit)
        if last_at is not None and last_at > self._opens:
            last = self._day.position(last_at)
            # On the grid this is the slot's own length: the last message lies half a slot before its end on average.
            gap = max((self._open_s - last) / (left + 0.5), self._fastest_s)
            behind = last + gap * (1.0 - _BY_SLOT / 2 + _BY_SLOT * unit)
            due = behind if due < last else max(due, last + _NEAREST * gap)
        return self._day.instant(due) if due < self._open_s else self._first_after()

    def _first_after(self) -> float:
        if 0 in (self._per_hour, self._per_day):
            return inf
        day = self._day
        # At most two steps: a plan of less than one a day leaves out a date in forty, never two openings in a row.
        while not (plan := self._plan_of(day := self._clock.day_after(day))):
            pass
        ordinal = day.date.toordinal()
        by_day = _BY_DAY * jitter_unit(self._key, ordinal)
        unit: float = _DRAW.unpack_from(jitter_bytes(self._key, ordinal, 0))[0] * _TO_UNIT
        return day.instant(day.open_s / plan * (_EDGE + by_day + _BY_SLOT * unit))

    def _plan_of(self, day: SendingDay) -> int:
        """How many messages that day plans: 97.5 % of what it can carry, so that the sum over days has no rounding."""
        # In message-seconds. A window shorter than an hour still carries the whole hour's limit.
        most = [_HOUR_S * self._per_day] if self._per_day is not None else []
        if self._per_hour is not None:
            most.append(self._per_hour * max(int(day.open_s), _HOUR_S))
        planned = _PLANNED * min(most)
        ordinal = day.date.toordinal()
        return planned * (ordinal + 1) // (_OF * _HOUR_S) - planned * ordinal // (_OF * _HOUR_S)
