"""Rolling caps against a list of everything ever booked; the second's bucket and the month's budget against counting."""

from bisect import bisect_left
from collections import deque
from datetime import UTC, datetime
from math import floor, inf, nextafter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rotord.core.limits import CARRY_S, COARSE_S, DAY, EXACT_UP_TO, HOUR, MonthBudget, MonthUse, RollingCap, SecondBucket, in_cells
from rotord.core.model import Kind

AT = 1_795_000_000.0
ANY, BULK = Kind.TRANSACTIONAL, Kind.BULK


def most_in_any(times: list[float], window: float) -> int:
    """The most of sorted `times` in any half-open window [t, t + window)."""
    return max((bisect_left(times, at + window) - index for index, at in enumerate(times)), default=0)


# -- a cap's own promises ------------------------------------------------------------------------------------------------------------


FLOATS = st.floats(0, 60) | st.floats(0, 4000)
# When it is wanted after the one before, how long it lasts, when the receiver saw it in between, whether it is accepted.
WISH = st.tuples(
    FLOATS | st.sampled_from([0.0, HOUR, DAY / 3]), st.just(0.0) | st.floats(0, 5000), st.floats(0, 1), st.sampled_from("yyyn")
)


@settings(max_examples=120, deadline=None)
@given(st.lists(WISH, max_size=50), st.none() | st.integers(1, 5), st.integers(1, 12))
@example([(0.0, 1000.0, 1.0, "y"), (0.0, 1000.0, 1.0, "y"), (HOUR, 0.0, 0.0, "y"), (0.0, 0.0, 0.0, "y")], 2, 12)
def test_no_window_at_the_receiver_holds_more_than_the_cap(wishes, per_hour, per_day):
    cap = RollingCap(per_hour, per_day)
    flying: list[tuple[float, str]] = []
    seen: list[float] = []
    now = AT
    for gap, lasts, where, accepted in wishes:
        now += gap
        for flight in sorted(flying):
            if flight[0] <= now:
                flying.remove(flight)
                cap.book(flight[0]) if flight[1] == "y" else cap.release()
        if cap.free_at(now, ANY) <= now:
            cap.hold()
            flying.append((now + lasts, accepted))
            if accepted == "y":
                seen.append(now + lasts * where)

        assert cap.room(now, ANY) >= 0
        assert cap.held == len(flying)

    seen.sort()

    assert most_in_any(seen, HOUR) <= (per_hour or inf)
    assert most_in_any(seen, DAY) <= per_day


class Ledger:
    """The naive cap: a list of finishes, counted anew for every question."""

    def __init__(self, per_hour, per_day, reserve=0.0):
        self.limits(per_hour, per_day, reserve)
        self.held = 0
        self.finishes: list[float] = []

    def limits(self, per_hour, per_day, reserve):
        whole = [inf if limit is None else limit for limit in (per_hour, per_day)]
        kept = [limit if limit == inf else floor(limit * (1 - reserve) + 1e-9) for limit in whole]
        self._limits = {ANY: whole, BULK: kept}

    def room(self, now, kind):
        hour, day = self._limits[kind]
        used = [sum(at + window > now for at in self.finishes) for window in (HOUR, DAY)]
        return max(0, min(hour - used[0], day - used[1]) - self.held)

    def free_at(self, now, kind):
        if self.room(now, kind) > 0:
            return now
        times = sorted({now, *(at + window for at in self.finishes for window in (HOUR, DAY) if at + window > now)})
        return next((at for at in times if self.room(at, kind) > 0), inf)


LIMITS = st.tuples(st.integers(0, 8), st.none() | st.integers(1, 12), st.sampled_from([0, 0.3, 0.9]))
STEP = st.one_of(
    st.tuples(st.just("wait"), FLOATS | st.floats(0, 90_000) | st.just(HOUR)),
    st.tuples(st.just("hold"), st.sampled_from([ANY, BULK])),
    st.tuples(st.just("book"), st.none()),
    st.tuples(st.just("release"), st.none()),
    st.tuples(st.just("restore"), st.tuples(st.floats(-100_000, 8000), st.integers(1, 3))),
    st.tuples(st.just("limits"), LIMITS.filter(lambda limits: limits[:2] != (0, None))),
)


def take_step(step, value, cap, naive, now):
    """Do the same to the cap and to its model."""
    match step:
        case "hold" if cap.free_at(now, value) <= now:
            cap.hold()
            naive.held += 1
        case "book" if cap.held:
            cap.book(now)
            naive.held -= 1
            naive.finishes.append(now)
        case "release" if cap.held:
            cap.release()
            naive.held -= 1
        case "restore":
            cap.restore(now + value[0], value[1])
            naive.finishes += [now + value[0]] * value[1]
        case "limits":
            cap.set_limits(*value)
            naive.limits(*value)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=30), st.integers(1, 8), st.integers(1, 12), st.sampled_from([AT, 0.1]))
def test_room_and_the_time_of_the_next_place_are_exact(steps, per_hour, per_day, now):
    cap, naive = RollingCap(per_hour, per_day), Ledger(per_hour, per_day)
    for number, (step, value) in enumerate(steps):
        if step == "wait":
            now += value
        take_step(step, value, cap, naive, now)
        kind = (ANY, BULK)[number % 2]
        at = cap.free_at(now, kind)

        assert at == naive.free_at(now, kind)
        assert cap.room(now, kind) == naive.room(now, kind)

        if now < at < inf:
            assert naive.room(nextafter(at, 0), kind) == 0

        if number % 3 == 0:
            assert cap.use(now) == tuple(sum(at + window > now for at in naive.finishes) for window in (HOUR, DAY))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 2000), st.integers(1, 900)), max_size=20), st.sampled_from([EXACT_UP_TO + 1, 6000]))
def test_a_coarse_cap_is_never_late_and_at_most_a_cell_early(bookings, per_hour):
    cap, naive = RollingCap(per_hour, None), Ledger(per_hour, None)
    now = AT
    for gap, count in bookings:
        now += gap
        room = cap.room(now, ANY)

        assert room <= naive.room(now, ANY)
        assert naive.room(now - COARSE_S, ANY) - sum(at > now - COARSE_S for at in naive.finishes) <= room

        sent = int(min(count, room))
        if sent:
            cap.restore(now, sent)
            naive.finishes += [now] * sent


def test_a_coarse_cap_loses_at_most_half_a_percent_of_the_greedy_optimum():
    per_hour = 6000
    cap = RollingCap(per_hour, None)
    sent = 0
    hours = 12
    for tick in range(hours * 720):
        now = AT + tick * 5
        if room := int(cap.room(now, ANY)):
            cap.restore(now, room)
            sent += room

    assert sent >= 0.995 * hours * per_hour
    assert sent <= hours * per_hour
    assert len(cap._times) <= DAY / COARSE_S


def test_a_cap_without_limits_forgets_yesterday():
    cap = RollingCap()
    whole = AT - AT % COARSE_S
    for minute in range(3 * 24 * 60):
        now = whole + 60 * minute

        assert cap.free_at(now, BULK) == now
        assert cap.room(now, BULK) == inf

        cap.restore(now)

    assert len(cap._times) <= 2.1 * DAY / 60
    assert cap.use(now) == (60, 1440)


def test_a_limit_that_is_set_later_knows_what_was_sent_before():
    cap = RollingCap()
    for minute in range(50):
        cap.restore(AT + 60 * minute)
    now = AT + 3000
    cap.set_limits(40, None)

    assert cap.room(now, ANY) == 0
    assert (cap.per_hour, cap.per_day) == (40, None)

    cap.set_limits(60, 55)

    assert cap.room(now, ANY) == 5
    assert (cap.per_hour, cap.per_day) == (60, 55)


def test_a_reserve_keeps_its_part_of_every_cap_from_bulk_mail_alone():
    cap = RollingCap(10, 100, reserve=0.3)
    for _ in range(7):
        cap.hold()

    assert cap.free_at(AT, BULK) == inf
    assert cap.room(AT, BULK) == 0
    assert cap.free_at(AT, ANY) == AT
    assert cap.room(AT, ANY) == 3


def test_a_cap_of_which_a_share_is_asked_is_near_its_limit_earlier():
    cap = RollingCap(10, None)
    cap.restore(AT)
    cap.restore(AT + 1, 8)
    now = AT + 2

    assert cap.free_at(now, ANY) == now
    assert cap.free_at(now, ANY, 0.9) == AT + HOUR
    assert cap.free_at(now, ANY, 0.8) == AT + 1 + HOUR


@pytest.mark.parametrize("limits", [(8, 40), (20, 100), (5, 20), (None, 30), (7, None)])
def test_greedy_admission_sends_what_the_rolling_limits_allow(limits):
    """The optimum is an independent greedy over the two queues; an outage a day, a sending window of nine hours."""
    per_hour, per_day = limits
    cap = RollingCap(*limits)
    best = 0
    sent = 0
    hour, day = deque(maxlen=per_hour or 10**6), deque(maxlen=per_day or 10**6)
    for date in range(6):
        for tick in range(9 * 360):
            now = AT + DAY * date + 10 * tick
            if 300 * date < tick < 300 * date + 400:
                continue
            if (len(hour) < hour.maxlen or hour[0] + HOUR <= now) and (len(day) < day.maxlen or day[0] + DAY <= now):
                best += 1
                hour.append(now)
                day.append(now)
            if cap.free_at(now, ANY) <= now:
                cap.hold()
                cap.book(now)
                sent += 1

    assert best * 0.97 <= sent <= best


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 3000), st.booleans()), max_size=40), st.permutations(range(40)), st.integers(1, 9), st.integers(1, 30)
)
def test_a_cap_rebuilt_from_the_ledger_in_any_order_decides_as_if_it_had_never_stopped(bookings, order, per_hour, per_day):
    cap = RollingCap(per_hour, per_day)
    ledger: list[float] = []
    now = AT
    for gap, is_accepted in bookings:
        now += gap
        if cap.free_at(now, ANY) <= now:
            cap.hold()
            if is_accepted:
                cap.book(now)
                ledger.append(now)
            else:
                cap.release()
    rebuilt = RollingCap(per_hour, per_day)
    for index in order:
        if index < len(ledger):
            rebuilt.restore(ledger[index])
    for _ in range(30):
        assert rebuilt.free_at(now, ANY) == cap.free_at(now, ANY)
        assert rebuilt.room(now, ANY) == cap.room(now, ANY)

        now = cap.free_at(now, ANY)
        for one in (cap, rebuilt):
            one.hold()
            one.book(now)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 90_000), max_size=60), st.integers(0, 60), st.none() | st.integers(1, 9), st.none() | st.integers(1, 9000))
def test_times_restored_at_once_count_as_one_by_one(times, first, per_hour, per_day):
    one_by_one, at_once = RollingCap(per_hour, per_day), RollingCap(per_hour, per_day)
    for at in times:
        one_by_one.restore(AT + at)
    parts = [[AT + at for at in times[:first]], [AT + at for at in times[first:]]]
    for some in (parts[:1], parts[1:]):
        for _ in at_once.restoring(some, [in_cells(part) for part in some]):
            pass
    for now in [AT, *(AT + at + 1 for at in sorted(times)), AT + 2 * DAY]:
        assert at_once.use(now) == one_by_one.use(now)
        assert at_once.free_at(now, ANY) == one_by_one.free_at(now, ANY)


def test_an_attempt_that_a_crash_cut_off_counts_until_its_deadline_left_the_window():
    cap = RollingCap(1, None)
    cap.restore(AT + 600)

    assert cap.free_at(AT, ANY) == AT + 600 + HOUR


def test_what_is_told_late_is_forgotten_in_its_time():
    cap = RollingCap(3, 4)
    cap.restore(AT)
    cap.restore(AT + HOUR + 10)
    cap.use(AT + HOUR + 10)
    cap.restore(AT + 5)  # behind the hour, within the day
    cap.restore(AT - 5, 2)  # older than what the hour forgot

    assert cap.use(AT + HOUR + 10) == (1, 5)

    cap.restore(AT - DAY)  # over

    assert cap.use(AT + HOUR + 10) == (1, 5)

    cap.use(AT + DAY + 6)
    cap.restore(AT + 2)  # older than what was forgotten

    assert cap.use(AT + DAY + 6) == (0, 1)


# -- seconds -------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(st.floats(0.2, 12), st.floats(0.2, 1000), st.sampled_from([0.2, 0.25, 1.0, 1.5, 5.0, 10.0, 50.0, 1000.0])),
    st.lists(st.one_of(st.just(0.0), st.floats(0, 0.3), st.floats(0, 12)), min_size=1, max_size=8),
    st.booleans(),
)
def test_a_bucket_keeps_its_seconds_and_its_ten_seconds(per_second, pauses, is_drained):
    bucket = SecondBucket(per_second)
    now = AT
    if is_drained:
        bucket.drain(now)
    begun: list[float] = []
    for index in range(int(min(400, 40 + 13 * per_second))):
        if index % 40 == 0:
            now += pauses[index // 40 % len(pauses)]
        now = bucket.free_at(now)
        bucket.take(now)
        begun.append(now)

    assert most_in_any(begun, 1.0) <= max(1.2 * per_second + 1e-9, floor(per_second) + 1)
    assert most_in_any(begun, 10.0) <= max(1, 10 * per_second + 1e-6)


@pytest.mark.parametrize("per_second", [0.2, 0.5, 1, 2, 3.3, 5, 7.7, 10, 12.5, 50, 333, 1000])
def test_a_bucket_lets_through_97_percent_of_its_rate(per_second):
    bucket = SecondBucket(per_second)
    now = AT
    while now < AT + 60:
        bucket.take(now)
        begun = now
        now = bucket.free_at(now)
    count = 1
    bucket = SecondBucket(per_second)
    now = AT
    bucket.take(now)
    while (now := bucket.free_at(now)) < AT + 60:
        bucket.take(now)
        count += 1

    assert begun < AT + 60
    assert count >= 0.97 * 6 * floor(10 * per_second)


def test_a_bucket_that_begins_drained_gives_no_burst():
    bucket = SecondBucket(50)

    assert bucket.free_at(AT) == AT

    bucket.drain(AT)

    assert AT < bucket.free_at(AT) <= AT + 0.03


# -- months --------------------------------------------------------------------------------------------------------------------------


def at(*when: int) -> float:
    return datetime(*when, tzinfo=UTC).timestamp()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 20 * DAY), max_size=40), st.integers(0, 4))
def test_a_month_never_holds_more_than_its_budget(gaps, per_month):
    budget = MonthBudget(per_month)
    now = at(2027, 10, 17)
    counts: dict[tuple[int, int], int] = {}
    for gap in gaps:
        now += gap
        month = datetime.fromtimestamp(now, UTC)
        free_at = budget.free_at(now)
        if counts.get((month.year, month.month), 0) < per_month:
            assert free_at == now

            budget.take(now)
            arrives = datetime.fromtimestamp(now + CARRY_S, UTC)
            for key in {(month.year, month.month), (arrives.year, arrives.month)}:
                counts[key] = counts.get(key, 0) + 1
        else:
            following = datetime.fromtimestamp(free_at, UTC)
            last = datetime.fromtimestamp(free_at - 1, UTC)

            assert (following.day, following.hour, following.minute, following.second) == (1, 0, 0, 0)
            assert (last.year, last.month) == (month.year, month.month)

    assert all(count <= per_month for count in counts.values())


def test_a_budget_turns_with_the_year():
    budget = MonthBudget(2)
    budget.restore(at(2026, 12, 31, 23, 49), MonthUse(1))
    budget.take(at(2026, 12, 31, 23, 49, 59))

    assert budget.free_at(at(2026, 12, 31, 23, 49, 59)) == at(2027, 1, 1)
    assert budget.free_at(at(2027, 1, 1)) == at(2027, 1, 1)
    assert budget.used == 0


@pytest.mark.parametrize("is_restored", [False, True])
def test_what_begins_in_a_months_last_ten_minutes_counts_in_the_next_month_too(is_restored):
    late = at(2026, 12, 31, 23, 59, 59)
    budget = MonthBudget(3)
    budget.take(at(2026, 12, 31, 23, 49, 59))
    budget.take(late)
    if is_restored:
        budget = MonthBudget(3)
        budget.restore(late, MonthUse(2, late=1))

    assert budget.free_at(at(2027, 1, 1)) == at(2027, 1, 1)
    assert budget.used == 1
    budget.give_back(late)
    assert budget.used == 0


def test_a_request_given_back_after_the_month_has_turned_gives_the_new_month_nothing():
    budget = MonthBudget(1)
    began = at(2026, 12, 31, 23, 49, 59)
    budget.take(began)
    budget.take(at(2027, 1, 1))
    budget.give_back(began)

    assert budget.free_at(at(2027, 1, 1)) == at(2027, 2, 1)

    budget.give_back(at(2027, 1, 1))

    assert budget.free_at(at(2027, 1, 1)) == at(2027, 1, 1)


@settings(max_examples=40, deadline=None)
@given(
    per_month=st.integers(1, 3000),
    days=st.lists(st.integers(0, 400), min_size=62, max_size=62),
    restart_on=st.integers(0, 61),
)
def test_a_spread_plan_is_never_ahead_of_an_even_use_and_wastes_nothing_over_two_months(per_month, days, restart_on):
    """December and January, by the day: each day as much as wanted or allowed; the month's turn gives a new plan."""
    begins = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    budget, used = MonthBudget(per_month, is_spread=True), 0
    for number, wanted in enumerate(days):
        now, of_month = begins + number * DAY, number % 31 + 1
        used = 0 if of_month == 1 else used
        if number == restart_on:
            budget = MonthBudget(per_month, is_spread=True)
            budget.restore(now, MonthUse(used))
        allowed = -(-per_month * of_month // 31)
        for _ in range(wanted):
            if budget.free_at(now) > now:
                break
            budget.take(now)
            used += 1

        assert used <= allowed
        assert (budget.free_at(now + DAY - 1) > now + DAY - 1) == (used == allowed)

        opens_at = budget.free_at(now)
        if used == allowed:  # exactly at a midnight, and then one more may begin
            assert (opens_at - begins) % DAY == 0
            assert opens_at <= begins + (31 if number < 31 else 62) * DAY
        if of_month < 31 and used == allowed == per_month:
            assert opens_at == begins + (31 if number < 31 else 62) * DAY


def test_a_spread_plan_opens_at_midnight_utc_of_the_day_whose_share_begins():
    first = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    budget = MonthBudget(60, is_spread=True)
    budget.restore(first + 5 * DAY, MonthUse(12))

    assert budget.free_at(first + 6 * DAY - 1) == first + 6 * DAY

    budget.restore(first + 6 * DAY, MonthUse(60))

    assert budget.free_at(first + 6 * DAY) == datetime(2026, 12, 1, tzinfo=UTC).timestamp()
