"""Providers by weight, past the paused and the full; what each may be asked for now."""

from collections import Counter
from datetime import UTC, datetime
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotord.core.breaker import FIRST_PAUSE_S
from rotord.core.limits import DAY, HOUR, MonthUse
from rotord.core.model import Blame, Outcome, ProviderLimits
from rotord.core.routing import ProviderGate, Route

AT = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()


def gate(name="a", slots=10**6, **limits):
    made = ProviderGate(ProviderLimits(name, **limits))
    made.slots = slots
    return made


def send(route, count, now=AT):
    sent = []
    for _ in range(count):
        picked = route.pick(now)
        if picked is None:
            break
        picked.take(now)
        route.charge(picked)
        picked.cap.book(now)
        sent.append(picked.limits.name)
    return sent


def test_two_providers_carry_messages_by_weight_in_the_order_of_the_list():
    route = Route([gate("a", weight=3), gate("b", weight=1)])
    sent = send(route, 400)

    assert Counter(sent) == {"a": 300, "b": 100}
    assert sent[0] == "a"


def test_a_full_or_paused_provider_or_one_without_slots_is_skipped_and_does_not_catch_up():
    first, second, third = gate("a", per_hour=5), gate("b"), gate("c", slots=0)
    route = Route([first, second, third])

    assert Counter(send(route, 45)) == {"a": 5, "b": 40}
    assert route.opens_at(AT) == AT  # the third lacks only a slot, which any answer may free
    assert Route([first]).opens_at(AT) == AT + HOUR

    second.paused = True

    assert send(route, 1) == []
    assert route.open_gates(AT) == []

    second.paused = False
    third.slots = 10**6

    assert Counter(send(route, 30, AT + 1)) == {"b": 15, "c": 15}
    # Three open ones share what comes, to a turn, though one of them was closed for an hour.
    assert all(2 <= count <= 4 for count in Counter(send(route, 9, AT + HOUR)).values())


def test_a_single_provider_needs_no_turns_and_a_stranger_pays_none():
    route = Route([gate("a"), gate("b")])
    route.charge(gate("c"))
    route.refund(gate("c"))

    assert send(route, 2) == ["a", "b"]
    assert send(Route([gate("a")]), 3) == ["a"] * 3
    assert Route([]).pick(AT) is None
    assert Route([]).opens_at(AT) == inf


@pytest.mark.parametrize(
    ("limits", "opens_at"),
    [
        ({"per_hour": 2}, AT + HOUR),
        ({"per_day": 2}, AT + DAY),
        ({"per_month": 2}, datetime(2026, 12, 1, tzinfo=UTC).timestamp()),
        ({"per_second": 2}, AT + 1),
    ],
)
def test_each_limit_of_a_provider_closes_it_until_its_time(limits, opens_at):
    one = gate(**limits)
    route = Route([one])
    for now in (AT, AT + 0.5 * ("per_second" in limits)):
        assert one.limits_open_at(now) == now

        one.take(now)
        one.cap.book(AT)

    assert one.limits_open_at(now) == pytest.approx(opens_at)
    assert not one.is_open(now)
    assert route.opens_at(now) == one.limits_open_at(now)


def test_a_request_that_was_not_made_gives_its_place_back():
    one = gate(per_hour=1, per_month=1)
    one.take(AT)

    assert one.limits_open_at(AT) == inf

    one.give_back(AT)

    assert one.is_open(AT)
    assert one.month.used == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.5, 1.0, 2.0, 4.0]), min_size=2, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30),
)
def test_open_providers_share_by_weight_whatever_was_closed_before(weights, history):
    gates = [gate(str(index), weight=weight) for index, weight in enumerate(weights)]
    route = Route(gates)
    for index, is_paused in history:
        gates[index % len(gates)].paused = is_paused
        send(route, 3)
    for one in gates:
        one.paused = False
    # One turn evens out what is left of the past.
    send(route, 3 * len(gates))
    count = int(40 * sum(weights))
    sent = Counter(send(route, count))
    for index, weight in enumerate(weights):
        assert abs(sent[str(index)] - 40 * weight) <= 1 + weight / min(weights)


def test_the_provider_that_failed_a_message_takes_it_again_only_when_no_other_is_open():
    first, second = gate("a", weight=9), gate("b")
    route = Route([first, second])

    assert route.pick(AT) is first
    assert route.pick(AT, "a") is second
    assert route.pick(AT, "gone") is first

    second.paused = True

    assert route.pick(AT, "a") is first

    first.slots = 0

    assert route.pick(AT, "a") is None
    assert Route([gate("a")]).pick(AT, "a") is not None


def test_a_provider_that_fails_is_passed_over_until_its_probe_which_is_one_message():
    first, second = gate("a"), gate("b")
    route = Route([first, second])
    for _ in range(4):
        first.breaker.ended(Outcome.DEFERRED, Blame.PROVIDER, AT, AT)
    probe_at = AT + FIRST_PAUSE_S

    assert send(route, 3) == ["b", "b", "b"]
    assert Route([first]).opens_at(AT) == probe_at
    assert Counter(send(route, 6, probe_at)) == {"a": 1, "b": 5}

    first.give_back(probe_at)

    assert first.is_open(probe_at)


def test_the_preferred_provider_carries_all_it_has_room_for_and_equals_take_turns():
    route = Route(
        [gate("dear", preference=9.0), gate("cheap", preference=1.0, per_hour=5), gate("b", preference=4.0), gate("c", preference=4.0)]
    )
    sent = send(route, 25)

    assert sent[:5] == ["cheap"] * 5
    assert Counter(sent[5:]) == {"b": 10, "c": 10}

    cheap = route.gates[1]

    assert route.pick(AT + HOUR) is cheap
    assert route.pick(AT + HOUR, avoid="cheap") is not cheap


def test_a_spread_plan_leaves_the_rest_of_its_day_to_the_others():
    # the 30th of November, half of which is gone: all but one day's share of 30 is used
    spread, other = gate("a", per_month=30, is_month_spread=True, preference=0.0), gate("b", preference=1.0)
    spread.month.restore(AT, MonthUse(28))
    sent = send(Route([spread, other]), 5)

    assert sent == ["a", "a", "b", "b", "b"]
    assert spread.limits_open_at(AT) == datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    assert send(Route([spread, other]), 3, datetime(2026, 12, 1, tzinfo=UTC).timestamp()) == ["a", "b", "b"]
