"""Pacing: the whole volume, evenly, never in a burst, and the same after a restart."""

from bisect import bisect_left
from datetime import UTC, datetime
from itertools import pairwise
from math import inf
from random import Random
from statistics import mean, pstdev
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotord.core.pacing import Pacer
from rotord.core.window import ALWAYS, WindowClock, parse_window

HOUR, DAY = 3600, 86400
MONDAY = datetime(2026, 11, 2, tzinfo=UTC).timestamp()
WORKING = parse_window("daily 09:00-18:00")
BERLIN = ZoneInfo("Europe/Berlin")


def clock_of(window=WORKING, zone="UTC"):
    return WindowClock(window, ZoneInfo(zone))


class World:
    """One entity with endless demand, its pacer, and its caps counted exactly over any hour and any 24 hours."""

    def __init__(self, per_hour, per_day, *, key="address:a@b.example", clock=None, closed=()):
        self.clock = clock or clock_of()
        self.per_hour, self.per_day = per_hour, per_day
        self.pacer = Pacer(key, per_hour, per_day, self.clock)
        self.closed = closed
        self.sent = []

    def state(self, now):
        since = self.pacer.counting_since(now)
        return len(self.sent) - bisect_left(self.sent, since), self.sent[-1] if self.sent else None

    def run(self, now, until):
        while True:
            at = self.pacer.next_at(*self.state(now), now)
            for limit, length in ((self.per_hour, HOUR), (self.per_day, DAY)):
                if limit is not None and len(self.sent) >= limit:
                    at = max(at, self.sent[-limit] + length)
            at = self.clock.opens_at(max(now, at))
            for begins, ends in self.closed:
                at = ends if begins <= at < ends else at
            if at >= until:
                return self.sent
            if at == now:
                self.sent.append(now)
            now = at

    def volume(self, days):
        return len(self.sent) / (days * self.per_day)


def gaps(sent):
    return [after - before for before, after in pairwise(sent) if after - before < 10 * HOUR]


def unevenness(sent):
    return pstdev(gaps(sent)) / mean(gaps(sent))


@pytest.mark.parametrize(("per_hour", "per_day"), [(5, 20), (8, 40), (20, 100)])
def test_saturated_demand_fills_the_limits_evenly_and_the_jitter_does_not_die(per_hour, per_day):
    days = 30
    world = World(per_hour, per_day)
    sent = world.run(MONDAY, MONDAY + days * DAY)
    by_hour = [sum(int((at - MONDAY) % DAY // HOUR) == hour for at in sent) for hour in range(9, 18)]

    assert world.volume(days) >= 0.974
    assert max(by_hour) / mean(by_hour) <= 1.15
    assert 0.1 < unevenness(sent) < 0.5
    assert unevenness([at for at in sent if at >= MONDAY + 25 * DAY]) > 0.15
    assert min(gaps(sent)) >= 0.3 * mean(gaps(sent))


def test_outages_on_15_percent_of_days_cost_no_volume():
    days, random = 40, Random(7)
    closed = []
    for day in range(days):
        if random.random() < 0.15:
            begins = MONDAY + day * DAY + (9 + 6 * random.random()) * HOUR
            closed.append((begins, begins + random.uniform(0.5, 2.5) * HOUR))
    world = World(8, 40, closed=closed)
    sent = world.run(MONDAY, MONDAY + days * DAY)

    assert len(closed) >= 4
    assert world.volume(days) >= 0.97
    assert min(gaps(sent)) >= 0.2 * mean(gaps(sent))


def test_demand_that_comes_at_15_oclock_is_spread_over_the_rest_without_a_burst():
    world = World(20, 40)
    afternoon = MONDAY + 15 * HOUR
    sent = world.run(afternoon, MONDAY + DAY)
    even = 3 * HOUR / 39

    assert sent[0] == afternoon
    assert len(sent) == 39
    assert min(gaps(sent)) >= 0.3 * even
    assert max(gaps(sent)) <= 2 * even
    assert sent[-1] > MONDAY + 17.8 * HOUR


def test_catching_up_is_no_faster_than_the_hourly_limit_spread_evenly():
    sent = World(5, 40).run(MONDAY + 15 * HOUR, MONDAY + DAY)

    assert 12 <= len(sent) <= 16
    assert min(gaps(sent)) >= 0.7 * HOUR / (0.975 * 5)


@pytest.mark.parametrize("per_hour", [None, 1000])
def test_catching_up_is_no_faster_than_four_times_the_even_rate(per_hour):
    sent = World(per_hour, 40).run(MONDAY + 17 * HOUR, MONDAY + DAY)

    assert 14 <= len(sent) <= 20
    assert min(gaps(sent)) >= 0.7 * 9 * HOUR / 39 / 4


def test_after_idle_time_the_first_goes_at_once_and_the_next_keeps_its_distance():
    pacer = Pacer("a", 8, 40, clock_of())
    noon = MONDAY + 12 * HOUR

    assert pacer.next_at(3, MONDAY + 9.5 * HOUR, noon) <= noon
    assert pacer.next_at(4, noon, noon) >= noon + 0.7 * 6 * HOUR / 36


def test_mail_that_was_not_paced_takes_its_place_in_the_plan():
    pacer = Pacer("a", None, 40, clock_of())
    ten = MONDAY + 10 * HOUR

    assert pacer.next_at(20, ten, ten) > MONDAY + 13 * HOUR
    assert pacer.next_at(39, ten, ten) > MONDAY + DAY + 9 * HOUR
    assert pacer.next_at(45, ten, ten) == pacer.next_at(39, ten, ten)


def test_night_mail_counts_for_the_day_to_come_but_a_weekend_ago_does_not():
    clock = clock_of(parse_window("mon-fri 09:00-18:00"))
    pacer = Pacer("a", None, 40, clock)
    friday_close, monday_open = MONDAY - 3 * DAY + 18 * HOUR, MONDAY + 9 * HOUR
    saturday = friday_close + 20 * HOUR

    assert pacer.counting_since(MONDAY + 20 * HOUR) == MONDAY + 18 * HOUR
    assert pacer.counting_since(MONDAY + DAY + 12 * HOUR) == MONDAY + 18 * HOUR
    assert pacer.counting_since(MONDAY) == monday_open - DAY
    assert pacer.counting_since(saturday) == friday_close
    assert pacer.next_at(5, saturday, saturday) == pacer.next_at(0, saturday, MONDAY)


def test_night_mail_moves_the_day_by_its_places_and_no_further():
    for number in range(20):
        pacer = Pacer(f"address:{number}", None, 40, clock_of())

        assert pacer.next_at(0, MONDAY + 3 * HOUR, MONDAY + 4 * HOUR) == pacer.next_at(0, None, MONDAY)


def test_the_grid_does_not_depend_on_the_order_of_the_questions():
    pacer = Pacer("a", None, 400, clock_of())
    upwards = [pacer.next_at(sent, None, MONDAY) for sent in range(390)]
    alone = [Pacer("a", None, 400, clock_of()).next_at(sent, None, MONDAY) for sent in range(0, 390, 13)]

    assert upwards == sorted(upwards)
    assert upwards[::13] == alone


def test_hours_alone_are_spread_over_the_window():
    world = World(10, None)
    world.run(MONDAY, MONDAY + DAY)

    assert len(world.sent) in {87, 88}


def test_a_window_shorter_than_an_hour_carries_the_whole_hour():
    world = World(8, None, clock=clock_of(parse_window("daily 09:00-09:30")))
    world.run(MONDAY, MONDAY + 10 * DAY)

    assert len(world.sent) >= 75


def test_one_a_day_leaves_out_a_day_in_forty():
    pacer = Pacer("a", None, 1, clock_of())
    days = [MONDAY + day * DAY + 9 * HOUR for day in range(80)]
    empty = [at for at in days if pacer.next_at(0, None, at) >= at + DAY]

    assert len(empty) == 2
    assert pacer.next_at(0, None, empty[0]) < empty[0] + 2 * DAY
    assert pacer.next_at(1, empty[0] - DAY, empty[0] - DAY) > empty[0] + DAY


def test_without_a_place_left_nothing_is_ever_due():
    assert Pacer("a", 0, 40, clock_of()).next_at(0, None, MONDAY) == inf
    assert Pacer("a", None, 0, clock_of()).next_at(0, None, MONDAY) == inf


def test_without_a_limit_there_is_nothing_to_pace():
    with pytest.raises(ValueError, match="no limit"):
        Pacer("a", None, None, clock_of())


def test_a_pause_at_noon_carries_no_message_and_costs_none():
    clock = clock_of(parse_window("daily 08:00-12:00,13:00-17:00"), "Europe/Berlin")
    world = World(None, 80, clock=clock)
    sent = world.run(MONDAY, MONDAY + 5 * DAY)
    noon = [at for at in sent if datetime.fromtimestamp(at, BERLIN).hour == 12]

    assert noon == []
    assert len(sent) == 5 * 78


def test_addresses_of_one_client_do_not_march_in_step():
    clock = clock_of()
    firsts = {Pacer(f"address:{number}", 8, 40, clock).next_at(0, None, MONDAY) for number in range(50)}

    assert len(firsts) == 50
    assert pstdev(firsts) > 60


limits = st.tuples(st.none() | st.integers(1, 3000), st.none() | st.integers(1, 30000)).filter(any)
shapes = st.sampled_from(
    [WORKING, ALWAYS, *map(parse_window, ("mon-fri 08:00-12:00,13:00-17:00", "fri-sun 22:00-06:00", "tue 12:00-12:10"))]
)
zones = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
# Three weeks about the end of summer time in both Berlin and New York.
moments = st.floats(MONDAY - 21 * DAY, MONDAY + 7 * DAY)


@settings(max_examples=200)
@given(limits, shapes, zones, moments, st.integers(0, 3000), st.none() | st.floats(0, 3 * DAY))
def test_the_answer_lies_in_the_window_and_holds_until_its_time_has_come(pair, window, zone, now, sent, ago):
    clock = clock_of(window, zone)
    pacer = Pacer("key", *pair, clock)
    last_at = None if ago is None else now - ago
    since = pacer.counting_since(now)
    at = pacer.next_at(sent, last_at, now)

    assert since <= now
    assert window.is_open(at, ZoneInfo(zone))
    assert at >= clock.day_at(now).opens

    waited = max(now, at)
    same_count = pacer.counting_since(waited) == since

    assert pacer.next_at(sent if same_count else 0, last_at, waited) <= waited


@settings(max_examples=60)
@given(limits, shapes, zones, moments, st.lists(st.tuples(st.floats(0, 20 * HOUR), st.booleans()), max_size=40))
def test_a_process_that_starts_again_decides_the_same(pair, window, zone, now, steps):
    world = World(*pair, clock=clock_of(window, zone))
    for wait, sends in steps:
        now = world.pacer.next_at(*world.state(now), now) if sends else now + wait
        now = max([now, *world.sent[-1:]])
        reborn = Pacer("address:a@b.example", *pair, clock_of(window, zone))

        assert reborn.counting_since(now) == world.pacer.counting_since(now)
        assert reborn.next_at(*world.state(now), now) == world.pacer.next_at(*world.state(now), now)
        if sends:
            world.sent.append(now)


@settings(max_examples=40)
@given(st.integers(1, 200), st.integers(1, 2000), shapes, zones, st.integers(0, 10))
def test_over_forty_days_the_plan_is_used_and_never_exceeded(per_hour, per_day, window, zone, start):
    clock = clock_of(window, zone)
    pacer = Pacer("key", per_hour, per_day, clock)
    day, planned, most = clock.day_at(MONDAY + start * DAY), 0, 0.0
    for _ in range(40):
        # The last place of a day is the last count for which it still has an answer of its own.
        low, high = 0, 2001
        while low < high:
            middle = (low + high) // 2
            own = pacer.next_at(middle, None, day.opens) < day.closes
            low, high = (middle + 1, high) if own else (low, middle)
        planned += low
        most += min(per_day, per_hour * max(day.open_s / HOUR, 1))
        day = clock.day_after(day)

    assert planned <= most
    assert planned >= 0.97 * most - 10
