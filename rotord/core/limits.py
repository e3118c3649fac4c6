"""Hard caps that hold in any window, a bucket for seconds, a budget for months.

`RollingCap` keeps "never more than N in any 60 minutes nor M in any 24 hours" for one address, domain, client or provider. A place is
*held* from the choice of the message until its attempt is settled, then *booked* at the finish and free again one window later. The
receiver sees a message somewhere between begin and finish, so an unfinished attempt never leaves the window: whatever moment it is seen
at, at the begin of the last message of any window every other one of that window is still held or booked less than a window ago.
(Booking the begin instead let through 27 to 39 where 20 were allowed, with 5 % slow answers.)

Rebuilt from the ledger by `restore`, a cap decides as if it had never stopped.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from datetime import UTC, datetime
from itertools import chain
from math import ceil, floor, inf
from typing import TYPE_CHECKING, Final, NamedTuple

from rotord.core.model import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

HOUR = 3600.0
DAY = 86400.0
# Up to this many places a cap is exact; above it times are rounded up to COARSE_S, which keeps it safe, bounds its memory
# to 5,760 cells a day, and costs at most 15 s / 3600 s = 0.4 % of an hour's volume.
EXACT_UP_TO = 4000
# A domain whose hour or day is this full hands its turns over to the others, while they have room (deliverability: 90 %).
NEAR_LIMIT = 0.9
COARSE_S = 15.0
# A cap with room to spare forgets what is over at least this often; one that seems full forgets it at once.
TIDY_S = 3600.0
_COMPACT_AT = 64
# Addresses whose times are counted between two pauses: of forty each, a millisecond.
_LISTS_AT_ONCE = 400
# 0.9 * 10 is 9.000000000000002 on one side and 8.999999999999998 on the other; neither may cost a place.
_HAIR = 1e-9
_BULK = Kind.BULK


class RollingCap:
    """Places used and left, of one entity. `per_hour` and `per_day` may change at any time: the history of a day is always kept.

    `now` never goes back. `used_hour` and `used_day` are as of the last look and never too low; `use` looks. `held` is changed by `hold`
    and what ends it only.
    """

    __slots__ = (
        "_bulk_day",
        "_bulk_hour",
        "_coarse",
        "_counts",
        "_day",
        "_day_head",
        "_hour",
        "_hour_head",
        "_near_day",
        "_near_hour",
        "_spare",
        "_tidy_at",
        "_times",
        "held",
        "used_day",
        "used_hour",
    )

    def __init__(self, per_hour: int | None = None, per_day: int | None = None, reserve: float = 0.0) -> None:
        self.held = 0
        self.used_hour = 0
        self.used_day = 0
        self._times = array("d")
        self._counts = array("I")
        self._hour_head = 0
        self._day_head = 0
        self._tidy_at = inf
        # Places for bulk mail up to NEAR_LIMIT, as of the last look and never too many: while there are some, it is open to all.
        self._spare: float = 0
        self.set_limits(per_hour, per_day, reserve)

    def set_limits(self, per_hour: int | None, per_day: int | None, reserve: float = 0.0) -> None:
        """Change the caps; `reserve` (0 to 0.9) is the part of each that bulk mail may not use."""
        widest = max(per_hour or 0, per_day or 0)
        self._coarse = widest == 0 or widest > EXACT_UP_TO
        self._hour = inf if per_hour is None else per_hour
        self._day = inf if per_day is None else per_day
        self._bulk_hour = _part(self._hour, 1 - reserve)
        self._bulk_day = _part(self._day, 1 - reserve)
        self._near_hour, self._near_day = _part(self._bulk_hour, NEAR_LIMIT), _part(self._bulk_day, NEAR_LIMIT)
        self._count_spare()

    @property
    def per_hour(self) -> int | None:
        """The cap in any 60 minutes."""
        return None if self._hour == inf else int(self._hour)

    @property
    def per_day(self) -> int | None:
        """The cap in any 24 hours."""
        return None if self._day == inf else int(self._day)

    def hold(self, count: int = 1) -> None:
        """Take a place for an attempt that begins."""
        self.held += count
        self._spare -= count

    def release(self) -> None:
        """Give a held place back: the attempt is proven not accepted."""
        self.held -= 1
        self._spare += 1

    def book(self, at: float) -> None:
        """Turn a held place into a used one that counts from `at`, the finish."""
        self.held -= 1
        self._count(at, 1)

    def restore(self, at: float, count: int = 1) -> None:
        """Count `count` messages finished at `at` (also in the future: the deadline of an attempt that a crash cut off)."""
        self._spare -= count
        self._count(at, count)

    def _count(self, at: float, count: int) -> None:
        if self._coarse:
            at = -(-at // COARSE_S) * COARSE_S
        times = self._times
        if not times:
            self._tidy_at = at + HOUR
        if not times or at > times[-1]:
            times.append(at)
            self._counts.append(count)
        elif at == times[-1] and self._hour_head < len(times):
            self._counts[-1] += count
        else:
            self._insert(at, count)
            return
        self.used_hour += count
        self.used_day += count

    def restoring(self, times: Sequence[Sequence[float]], cells: Sequence[Sequence[float]]) -> Iterator[None]:
        """`restore` many, in any order: lists of times, and the same lists as `in_cells` has them (for whoever shares them).

        Pauses now and then: a provider's day is millions.
        """
        if not self._coarse:
            ordered = sorted(chain.from_iterable(times))
            self._extend(ordered, [1] * len(ordered))
            return
        counts: Counter[float] = Counter()
        for start in range(0, len(cells), _LISTS_AT_ONCE):
            if start:
                yield
            counts.update(chain.from_iterable(cells[start : start + _LISTS_AT_ONCE]))
        numbers = sorted(counts, reverse=True)
        self._extend([number * -COARSE_S for number in numbers], [counts[number] for number in numbers])

    def _extend(self, times: Sequence[float], counts: Sequence[int]) -> None:
        if self._times:  # what was sent elsewhere before
            for at, count in zip(times, counts, strict=True):
                self.restore(at, count)
            return
        if not times:
            return
        self._tidy_at = times[0] + HOUR
        self._times.extend(times)
        self._counts.extend(counts)
        total = sum(counts)
        self.used_hour += total
        self.used_day += total
        self._spare -= total

    def _insert(self, at: float, count: int) -> None:
        index = bisect_right(self._times, at)
        if index < self._day_head:
            return  # Older than what was over a day ago.
        self._times.insert(index, at)
        self._counts.insert(index, count)
        self.used_day += count
        if index < self._hour_head:
            self._hour_head += 1
        else:
            self.used_hour += count

    def use(self, now: float) -> tuple[int, int]:
        """Give the messages that count in the hour and in the day at `now`; those held not among them."""
        self._expire(now)
        return self.used_hour, self.used_day

    def room(self, now: float, kind: Kind) -> float:
        """Places left for `kind` at `now`; `inf` when nothing limits it. Never negative."""
        self._expire(now)
        hour, day = (self._bulk_hour, self._bulk_day) if kind is _BULK else (self._hour, self._day)
        return max(0.0, min(hour - self.used_hour, day - self.used_day) - self.held)

    def free_at(self, now: float, kind: Kind, share: float = 1.0) -> float:
        """When the next place is free: `now` at once, a time, or `inf` when only a settled attempt (or a person) can free one.

        `share`, NEAR_LIMIT or more, asks the same of that part of the caps: a domain "near its limit" is one whose 90 % are used.
        """
        if self._spare > 0 and now < self._tidy_at:
            return now
        hour, day = (self._bulk_hour, self._bulk_day) if kind is _BULK else (self._hour, self._day)
        # What is over may still be counted here, which only errs towards the longer look.
        taken = self.held + 1 - _HAIR
        if self.used_hour + taken <= hour * share and self.used_day + taken <= day * share and now < self._tidy_at:
            return now
        self._expire(now)
        hour_at = self._opens_at(now, _part(hour, share) - self.held, self.used_hour, self._hour_head, HOUR)
        day_at = self._opens_at(now, _part(day, share) - self.held, self.used_day, self._day_head, DAY)
        return max(hour_at, day_at)

    def _opens_at(self, now: float, limit: float, used: int, head: int, window: float) -> float:
        if used < limit:
            return now
        if limit < 1:
            return inf
        surplus = used - limit + 1
        while True:
            surplus -= self._counts[head]
            if surplus <= 0:
                return self._times[head] + window
            head += 1

    def _expire(self, now: float) -> None:
        self._tidy_at = now + TIDY_S
        times, counts = self._times, self._counts
        end = len(times)
        head = self._hour_head
        # The same sum as in `_opens_at`: a place is there at the very instant that was promised, whatever the rounding.
        while head < end and times[head] + HOUR <= now:
            self.used_hour -= counts[head]
            head += 1
        self._hour_head = head
        head = self._day_head
        while head < end and times[head] + DAY <= now:
            self.used_day -= counts[head]
            head += 1
        self._day_head = head
        if head > _COMPACT_AT and head > end // 2:
            del times[:head]
            del counts[:head]
            self._hour_head -= head
            self._day_head = 0
        self._count_spare()

    def _count_spare(self) -> None:
        hour, day = self._near_hour - self.used_hour, self._near_day - self.used_day
        self._spare = (hour if hour < day else day) - self.held


def in_cells(times: Iterable[float]) -> array[float]:
    """Number the cells, from the last to the first, to which a cap with many places rounds times up."""
    return array("d", [at // -COARSE_S for at in times])


# A step of time small enough to cost nothing and coarse enough that sums of it are exact at 2e9 seconds since 1970.
_TICKS = 2.0**20


class SecondBucket:
    """Begins of a provider with R a second: at most 10 R in any ten seconds, at most 1.2 R in any one (or the next whole number above R).

    One begin every `T` seconds, up to `b` at once after a pause (GCRA), lets through b - 1 + ceil(t / T) in any t seconds. With b = 0.2 R
    and T chosen so that the ten seconds come out at 10 R, the second comes out below 1.2 R, without keeping a list of times.
    """

    __slots__ = ("_ahead", "_every", "_next")

    def __init__(self, per_second: float) -> None:
        in_ten = max(1, floor(10 * per_second + _HAIR))
        burst = max(1, floor(0.2 * per_second + _HAIR))
        self._every = ceil(10 / (in_ten - burst + 1) * _TICKS) / _TICKS
        self._ahead = (burst - 1) * self._every
        self._next = -inf

    def free_at(self, now: float) -> float:
        """When one more may begin."""
        at = self._next - self._ahead
        return at if at > now else now

    def take(self, now: float) -> None:
        """Count one begin."""
        self._next = (self._next if self._next > now else now) + self._every

    def drain(self, now: float) -> None:
        """Start empty: after a restart the last second's use is not known exactly."""
        self._next = now + self._ahead + self._every


#: what begins so shortly before a month's end may reach its provider after it, and counts in both
CARRY_S: Final = 600.0


class MonthUse(NamedTuple):
    """How many requests count in a month, and how many of them in the next one too."""

    used: int = 0
    late: int = 0


class MonthBudget:
    """What a plan pays for in a calendar month, UTC. A request counts from its begin, whatever became of it; late ones in both months.

    Spread, day d of a month of D days may bring the month's use to d/D of the plan (rounded up): never ahead of an even use, and what
    earlier days left is there for the rest of the month. It follows from the month's count alone, so a restart changes nothing.
    """

    __slots__ = ("_carried", "_next", "_since", "is_spread", "per_month", "used")

    def __init__(self, per_month: int, *, is_spread: bool = False) -> None:
        self.per_month = per_month
        self.is_spread = is_spread
        self.used = 0
        self._carried = 0  # of those, how many count in the next month too
        self._since = -inf
        self._next = -inf

    def restore(self, now: float, use: MonthUse) -> None:
        """Set the count of the month that `now` lies in."""
        self._turn(now)
        self.used, self._carried = use

    def take(self, now: float) -> None:
        """Count one request."""
        self._turn(now)
        self.used += 1
        self._carried += now >= self._next - CARRY_S

    def give_back(self, taken_at: float) -> None:
        """Undo a `take`: the request was never made. One that did not count in this month gives nothing to it."""
        if taken_at >= self._since - CARRY_S:
            self.used -= 1
            self._carried -= taken_at >= self._next - CARRY_S

    def free_at(self, now: float) -> float:
        """`now`, or the first second of the next month; spread: or of the day whose share begins."""
        self._turn(now)
        if self.used >= self.per_month:
            return self._next
        if not self.is_spread:
            return now
        days = round((self._next - self._since) / DAY)
        return max(now, self._since + self.used * days // self.per_month * DAY)

    def _turn(self, now: float) -> None:
        if now < self._next:
            return
        day = datetime.fromtimestamp(now, UTC)
        self._since = datetime(day.year, day.month, 1, tzinfo=UTC).timestamp()
        self.used = self._carried if self._since == self._next else 0
        self._next = datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=UTC).timestamp()
        self._carried = 0


def _part(limit: float, share: float) -> float:
    return limit if limit == inf or share == 1.0 else floor(limit * share + _HAIR)
