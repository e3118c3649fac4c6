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
from datetime import UTC, datetime
from math import ceil, floor, inf

from rotord.core.model import Kind

HOUR = 3600.0
DAY = 86400.0
# Up to this many places a cap is exact; above it times are rounded up to COARSE_S, which keeps it safe, bounds its memory
# to 5,760 cells a day, and costs at most 15 s / 3600 s = 0.4 % of an hour's volume.
EXACT_UP_TO = 4000
COARSE_S = 15.0
_COMPACT_AT = 64


class RollingCap:
    """Places used and left, of one entity. `per_hour` and `per_day` may change at any time: the history of a day is always kept."""

    __slots__ = (
        "_coarse",
        "_counts",
        "_day_head",
        "_hour_head",
        "_limits",
        "_times",
        "held",
        "per_day",
        "per_hour",
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
        self.set_limits(per_hour, per_day, reserve)

    def set_limits(self, per_hour: int | None, per_day: int | None, reserve: float = 0.0) -> None:
        """Change the caps; `reserve` (0 to 0.9) is the part of each that bulk mail may not use."""
        self.per_hour = per_hour
        self.per_day = per_day
        widest = max(per_hour or 0, per_day or 0)
        self._coarse = widest == 0 or widest > EXACT_UP_TO
        self._limits = {
            Kind.TRANSACTIONAL: (_whole(per_hour), _whole(per_day)),
            Kind.BULK: (_share(per_hour, 1 - reserve), _share(per_day, 1 - reserve)),
        }

    def hold(self) -> None:
        """Take a place for an attempt that begins."""
        self.held += 1

    def release(self) -> None:
        """Give a held place back: the attempt is proven not accepted."""
        self.held -= 1

    def book(self, at: float) -> None:
        """Turn a held place into a used one that counts from `at`, the finish."""
        self.held -= 1
        self.restore(at)

    def restore(self, at: float, count: int = 1) -> None:
        """Count `count` messages finished at `at` (also in the future: the deadline of an attempt that a crash cut off)."""
        if self._coarse:
            at = ceil(at / COARSE_S) * COARSE_S
        times = self._times
        if not times or at > times[-1]:
            times.append(at)
            self._counts.append(count)
        elif at == times[-1]:
            self._counts[-1] += count
        else:
            self._insert(at, count)
        self.used_hour += count
        self.used_day += count

    def _insert(self, at: float, count: int) -> None:
        # Only a rebuild's deadlines lie ahead of the present, so what comes late is young and stands behind both heads.
        index = max(bisect_right(self._times, at), self._hour_head)
        self._times.insert(index, at)
        self._counts.insert(index, count)

    def room(self, now: float, kind: Kind) -> float:
        """Places left for `kind` at `now`; `inf` when nothing limits it. Never negative."""
        self._expire(now)
        hour, day = self._limits[kind]
        return max(0.0, min(hour - self.used_hour, day - self.used_day) - self.held)

    def free_at(self, now: float, kind: Kind, share: float = 1.0) -> float:
        """When the next place is free: `now` at once, a time, or `inf` when only a settled attempt (or a person) can free one.

        `share` asks the same of that part of the caps: a domain "near its limit" is one whose 90 % are used.
        """
        self._expire(now)
        hour, day = self._limits[kind]
        if share < 1.0:
            hour, day = _scaled(hour, share), _scaled(day, share)
        hour_at = self._opens_at(now, hour - self.held, self.used_hour, self._hour_head, HOUR)
        day_at = self._opens_at(now, day - self.held, self.used_day, self._day_head, DAY)
        return max(hour_at, day_at)

    def _opens_at(self, now: float, limit: float, used: int, head: int, window: float) -> float:
        if used < limit:
            return now
        if limit < 1:
            return inf
        surplus = used - limit + 1
        for index in range(head, len(self._times)):
            surplus -= self._counts[index]
            if surplus <= 0:
                return self._times[index] + window
        return inf

    def _expire(self, now: float) -> None:
        times, counts = self._times, self._counts
        end = len(times)
        head = self._hour_head
        while head < end and times[head] <= now - HOUR:
            self.used_hour -= counts[head]
            head += 1
        self._hour_head = head
        head = self._day_head
        while head < end and times[head] <= now - DAY:
            self.used_day -= counts[head]
            head += 1
        self._day_head = head
        if head > _COMPACT_AT and head > end // 2:
            del times[:head]
            del counts[:head]
            self._hour_head -= head
            self._day_head = 0


class SecondBucket:
    """At most 1.2 x the rate in any second, at most the rate in any ten, counting begins.

    A token bucket lets through `burst + rate * t` in t seconds. With burst 0.2 R and refill 0.98 R that is 1.18 R in one second and
    10 R in ten, so the promise holds without keeping a list of times.
    """

    __slots__ = ("_at", "_burst", "_refill", "_tokens")

    def __init__(self, per_second: float) -> None:
        self._burst = max(1.0, 0.2 * per_second)
        self._refill = max(per_second - self._burst / 10, per_second / 2)
        self._tokens = self._burst
        self._at = -inf

    def free_at(self, now: float) -> float:
        """When one more may begin."""
        self._fill(now)
        # A token is whole a hair below 1: sums of refills do not meet 1.0 exactly.
        return now if self._tokens >= 1 - 1e-9 else now + (1 - self._tokens) / self._refill

    def take(self, now: float) -> None:
        """Count one begin."""
        self._fill(now)
        self._tokens -= 1

    def drain(self, now: float) -> None:
        """Start empty: after a restart the last second's use is not known exactly."""
        self._at, self._tokens = now, 0.0

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._refill)
            self._at = now


class MonthBudget:
    """What a plan pays for in a calendar month, UTC. A request counts from its begin and stays counted unless it never left."""

    __slots__ = ("_month", "_next", "per_month", "used")

    def __init__(self, per_month: int) -> None:
        self.per_month = per_month
        self.used = 0
        self._month = (0, 0)
        self._next = -inf

    def restore(self, now: float, used: int) -> None:
        """Set the count of the month that `now` lies in."""
        self._turn(now)
        self.used = used

    def take(self, now: float) -> None:
        """Count one request."""
        self._turn(now)
        self.used += 1

    def free_at(self, now: float) -> float:
        """`now`, or the first second of the next month."""
        self._turn(now)
        return now if self.used < self.per_month else self._next

    def _turn(self, now: float) -> None:
        if now < self._next:
            return
        day = datetime.fromtimestamp(now, UTC)
        month = (day.year, day.month)
        following = datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=UTC)
        self._next = following.timestamp()
        if month != self._month:
            self._month = month
            self.used = 0


def _whole(limit: int | None) -> float:
    return inf if limit is None else float(limit)


def _share(limit: int | None, share: float) -> float:
    # 1e-9: 0.9 * 10 is 9.000000000000002 on one side and 8.999999999999998 on the other; neither may cost a place.
    return inf if limit is None else float(floor(limit * share + 1e-9))


def _scaled(limit: float, share: float) -> float:
    return limit if limit == inf else float(floor(limit * share + 1e-9))
