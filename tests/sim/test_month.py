"""A month's plan that is spread over its days, and the turn of the month, through kills and lost answers, by the receiver's log."""

from __future__ import annotations

import random
from bisect import bisect_left
from datetime import UTC, datetime

import pytest

from rotord.core.limits import CARRY_S, DAY
from rotord.core.model import Address, Client, Domain, ProviderLimits

from .scenario import MONTHS_END, Event, Scenario
from .world import Result, World, simulate

PLAN = 620  # 20 a day of December
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
JANUARY = datetime(2027, 1, 1, tzinfo=UTC).timestamp()


def a_months_mail(seed: int, days: float) -> Scenario:
    """From the last noon of November; twice as much mail as the plan allows, and each day two kills and two lost answers."""
    draw = random.Random(f"month/{seed}")
    mail = {"client": "acme", "stream": "main", "kind": "bulk"}
    events = [
        Event(draw.uniform(0, days * DAY), "insert", {**mail, "recipient": f"r{number}@example.org"}) for number in range(round(40 * days))
    ]
    for number in range(round(2 * days)):
        events.append(Event((number + draw.random()) * DAY / 2, "kill", {"node": 0, "back_in": draw.uniform(0.5, 40)}, "send"))
        events.append(Event((number + draw.random()) * DAY / 2, "lose_answers", {"node": 0, "count": 1}, "begin"))
    # The worst that can be: the turns of both months find as much mail as can be on the wire.
    for turn in (DECEMBER, JANUARY):
        rush = [{**mail, "recipient": f"rush{number}@example.org"} for number in range(40)]
        events += [Event(turn - MONTHS_END - draw.uniform(0, 2), "insert", columns) for columns in rush if turn - MONTHS_END < days * DAY]
    return Scenario(
        seed,
        MONTHS_END,
        days * 24.0,
        1,
        (ProviderLimits("plan", per_month=PLAN, is_month_spread=True, max_in_flight=50),),
        (Client("acme"),),
        (Domain("acme.example", "acme", "main", ("plan",)),),
        tuple(Address(f"a{number}@acme.example", "acme.example", per_day=400) for number in range(4)),
        tuple(sorted(events, key=lambda event: event.at)),
        slow=0.3,
    )


def requests_of(scenario: Scenario) -> list[float]:
    """When the receiver had each request."""
    times: list[float] = []

    def judge(world: World) -> Result:
        assert world.counts.kills >= scenario.hours / 24
        assert world.crashes == []
        times.extend(sorted(world.receivers["plan"].requests))
        return Result(scenario.seed, len(times), world.counts, 0, "")

    simulate(scenario, judge=judge)
    return times


def december_is_even(times: list[float], days: int) -> None:
    """By the end of each of its first `days` days December's use is what the plan gives: never more, and what is wanted is used."""
    before, first = (bisect_left(times, at) for at in (DECEMBER - CARRY_S, DECEMBER))
    for day in range(1, days + 1):
        end, share = bisect_left(times, DECEMBER + day * DAY), PLAN * day // 31
        # November's last minutes count too; a request that a kill cut off before it left counts and was never seen.
        assert end - first <= share <= end - before + 3 * day, f"{end - first} and {first - before} late ones by the end of day {day}"


@pytest.mark.timeout(120)
def test_a_month_turns_and_its_first_day_has_its_share():
    december_is_even(requests_of(a_months_mail(1, 1.6)), 1)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_a_whole_month_and_its_turn():
    times = requests_of(a_months_mail(2, 33.5))
    late, december, january, end = (bisect_left(times, at) for at in (DECEMBER - CARRY_S, DECEMBER, JANUARY, JANUARY + 2 * DAY))
    print(f"December {january - december} and {december - late} late ones of {PLAN}, January's first two days {end - january}")

    december_is_even(times, 31)
    assert 0 < end - january <= 2 * PLAN // 31
