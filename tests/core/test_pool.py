"""The pool's promises one by one: whose turn it is, what a blocked one costs, pins, pauses, gates, and a rebuilt pool's choices."""

import gc
from collections import Counter
from dataclasses import replace
from itertools import groupby
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotord.core.limits import DAY, HOUR, RollingCap
from rotord.core.model import Address, Blame, Campaign, Client, Domain, Health, Kind, Outcome, Pacing, ProviderLimits, Status
from rotord.core.past import LedgerRow, past_of
from rotord.core.pool import Assignment, Fail, Lane, Move, Open, SenderPool
from rotord.core.rebuilding import rebuild
from rotord.core.rotation import StrideRing
from rotord.core.senders import LOOKS, AddressState, ClientState, DomainState, Gate, Place, Wait

AT = 1_795_000_000.0
BULK, TRANSACTIONAL = Kind.BULK, Kind.TRANSACTIONAL
LANE = Lane("acme", "main", BULK)
RELAY = ProviderLimits("relay")


def fleet(*, client=None, domains=2, addresses=3, providers=(RELAY,), thread_wait_s=DAY, domain=None, address=None):
    pool = SenderPool(providers, thread_wait_s)
    pool.put_client(Client("acme", **(client or {})))
    names = tuple(limits.name for limits in providers)
    for d in range(domains):
        pool.put_domain(Domain(f"d{d}.example", "acme", "main", names, **(domain or {})))
        for a in range(addresses):
            pool.put_address(Address(f"a{a}@d{d}.example", f"d{d}.example", "", **(address or {"per_day": 40})))
    for gate in pool.providers.values():
        gate.slots = 10**6
    return pool


def send(pool, count, now=AT, lane=LANE, outcome=Outcome.ACCEPTED):
    """Choose and settle at once, until something says no."""
    sent = []
    for _ in range(count):
        chosen = pool.choose(lane, now)
        if not isinstance(chosen, Assignment):
            break
        pool.settle(chosen, outcome, now)
        sent.append(chosen)
    return sent


def emails(sent):
    return [assignment.email for assignment in sent]


def change(pool, email, **values):
    pool.put_address(replace(pool.addresses[email].value, **values))


# -- the windows, as the receiver sees them --------------------------------------------------------------------------------------------


def most_in_any(times, window):
    times = sorted(times)
    most = start = 0
    for end, at in enumerate(times):
        while at - times[start] >= window:
            start += 1
        most = max(most, end - start + 1)
    return most


LEVELS = {
    "client": {"per_hour": 20, "per_day": 150},
    "domain": {"per_hour": 11, "per_day": 80},
    "address": {"per_hour": 5, "per_day": 30},
    "provider": {"per_hour": 12, "per_day": 90},
    "campaign": {"per_hour": 7, "per_day": 50},
}
CAMPAIGNS = ("", "spring", "autumn")


def names(assignment):
    return {
        "client": assignment.client.value.slug,
        "domain": assignment.domain.value.name,
        "address": assignment.email,
        "provider": assignment.provider.limits.name,
    }


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9), st.floats(0, 0.4))
def test_no_window_of_any_level_is_overrun_at_the_receiver(seed, failing):
    """Answers take up to ten minutes; the receiver saw each message at some moment between its begin and its finish."""
    random = Random(seed)
    providers = [ProviderLimits("m", **LEVELS["provider"]), ProviderLimits("n", **LEVELS["provider"])]
    pool = fleet(client=LEVELS["client"], domain=LEVELS["domain"], address=LEVELS["address"], providers=providers)
    pool.set_campaigns([Campaign("acme", name, **LEVELS["campaign"]) for name in CAMPAIGNS[1:]])
    seen: dict[tuple[str, str], list[float]] = {}
    flying = []
    now = AT
    for _ in range(900):
        now += random.expovariate(1 / 120)
        for flight in [flight for flight in flying if flight[0] <= now]:
            flying.remove(flight)
            pool.settle(flight[1], flight[2], flight[0])
        campaign = random.choice(CAMPAIGNS)
        chosen = pool.choose(LANE._replace(campaign=campaign), now)
        if isinstance(chosen, Assignment):
            finish = now + random.choice([0.0, 1.0, 600.0]) * random.random()
            outcome = Outcome.DEFERRED if random.random() < failing else random.choice([Outcome.ACCEPTED, Outcome.UNCERTAIN])
            flying.append((finish, chosen, outcome))
            at = now + (finish - now) * random.choice([0.0, random.random(), 1.0])
            whose = names(chosen) | ({"campaign": campaign} if campaign else {})
            for level, name in whose.items():
                if level == "provider" or outcome is not Outcome.DEFERRED:
                    seen.setdefault((level, name), []).append(at)

    assert len(seen) > 8

    for (level, _), times in seen.items():
        assert most_in_any(times, HOUR) <= LEVELS[level]["per_hour"]
        assert most_in_any(times, DAY) <= LEVELS[level]["per_day"]


# -- rotation ------------------------------------------------------------------------------------------------------------------------


def jain(shares):
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


def longest_run(names):
    return max(len(list(run)) for _, run in groupby(names))


@pytest.mark.parametrize("seed", range(5))
def test_shares_of_quota_are_even_with_a_quarter_of_sticky_messages(seed):
    """Quotas 5 to 60, half of the addresses on probation weigh a quarter; threads live where quota is (deliverability: Jain >= 0.99)."""
    random = Random(seed)
    pool = fleet(domains=0)
    quotas = {}
    for d in range(4):
        pool.put_domain(Domain(f"d{d}.example", "acme", "main", ("relay",)))
        for a in range(10):
            email = f"a{a}@d{d}.example"
            quotas[email] = random.randint(5, 60)
            pool.put_address(Address(email, f"d{d}.example", "", per_day=quotas[email]))
    count = int(0.6 * sum(quotas.values()))
    sent = []
    free = []
    for number in range(count):
        lane = LANE
        if random.random() < 0.25:
            pin = random.choices(list(quotas), list(quotas.values()))[0]
            lane = Lane("acme", "main", BULK, "", pin, "thread")
        found = emails(send(pool, 1, AT + 30 * number, lane))
        sent += found
        if not lane.pin:
            free += found
    counts = Counter(sent)

    assert len(sent) >= 0.99 * count
    assert jain([counts[email] / quota for email, quota in quotas.items()]) >= 0.99
    assert longest_run(free) <= 4


def test_an_address_on_probation_gets_a_quarter_of_its_turns():
    pool = fleet(domains=1, addresses=2, address={"per_day": 1000})
    change(pool, "a0@d0.example", health=Health.PROBATION)
    counts = Counter(emails(send(pool, 500)))

    assert abs(counts["a0@d0.example"] - 100) <= 2


def test_a_domain_hands_over_at_90_percent_of_its_limits_and_is_used_up_at_the_end():
    pool = fleet(domain={"per_hour": 20}, address={"per_day": 1000})
    pool.put_domain(replace(pool.domains["d1.example"].value, per_hour=100))
    for address in list(pool.domains["d1.example"].addresses):
        change(pool, address, per_day=160)
    sent = [assignment.domain.value.name for assignment in send(pool, 1000)]

    assert sent[:36].count("d0.example") == 18
    assert sent[:108].count("d0.example") == 18
    assert Counter(sent) == {"d0.example": 20, "d1.example": 100}
    assert pool.choose(LANE, AT) == Wait(Gate.SLOTS, AT + HOUR, "stream", "acme/main")

    # The hour is over: both have their turns again, and neither catches up.
    again = [assignment.domain.value.name for assignment in send(pool, 36, AT + HOUR)]

    assert again.count("d0.example") == 18
    assert longest_run(again) <= 2


def test_one_blocked_domain_costs_the_others_nothing():
    pool = fleet(domains=3, address={"per_day": 1000})
    pool.put_domain(replace(pool.domains["d1.example"].value, health=Health.COOLING, health_until=AT + HOUR))
    counts = Counter(assignment.domain.value.name for assignment in send(pool, 60))

    assert counts == {"d0.example": 30, "d2.example": 30}

    back = [assignment.domain.value.name for assignment in send(pool, 60, AT + HOUR)]

    assert 18 <= back.count("d1.example") <= 21
    assert longest_run(back) <= 2


def test_routes_share_a_pool_and_one_whose_provider_was_away_does_not_catch_up():
    pool = fleet(domains=0, providers=(ProviderLimits("m"), ProviderLimits("n")))
    for name, providers in (("d0.example", ("m",)), ("d1.example", ("n",)), ("d2.example", ("n", "m"))):
        pool.put_domain(Domain(name, "acme", "main", providers))
        pool.put_address(Address(f"a@{name}", name, "", per_day=1000))

    assert Counter(emails(send(pool, 30))) == {"a@d0.example": 10, "a@d1.example": 10, "a@d2.example": 10}

    pool.providers["n"].slots = 0

    assert Counter(emails(send(pool, 100))) == {"a@d0.example": 50, "a@d2.example": 50}
    assert pool.lane(LANE, AT) == Open(pool.providers["m"].slots)

    pool.providers["n"].slots = 10**6
    back = emails(send(pool, 30))

    assert 9 <= back.count("a@d1.example") <= 11
    assert longest_run(back) <= 2
    assert pool.providers_of(LANE) == {"m", "n"}


def test_when_every_route_is_closed_the_wait_ends_with_the_first():
    pool = fleet(domains=0, providers=(ProviderLimits("m", per_hour=1), ProviderLimits("n", per_hour=1)))
    for name, providers in (("d0.example", ("m",)), ("d1.example", ("n",))):
        pool.put_domain(Domain(name, "acme", "main", providers))
        pool.put_address(Address(f"a@{name}", name, "", per_hour=2))
    send(pool, 1, AT)
    send(pool, 1, AT + 60)

    assert pool.choose(LANE, AT + 60).until == AT + HOUR
    assert pool.lane(LANE, AT + 60) == Wait(Gate.SLOTS, AT + HOUR, "stream", "acme/main")


def test_a_domain_is_looked_at_when_one_of_its_held_addresses_is_settled_though_it_waits_for_another():
    pool = fleet(domains=1, addresses=1, address={"per_hour": 1})
    pool.put_address(Address("b@d0.example", "d0.example", "", per_day=1))
    by_name = {}
    for _ in range(2):
        chosen = pool.choose(LANE, AT)
        by_name[chosen.email] = chosen
    pool.settle(by_name["b@d0.example"], Outcome.ACCEPTED, AT)

    assert pool.choose(LANE, AT).until == AT + DAY

    pool.settle(by_name["a0@d0.example"], Outcome.ACCEPTED, AT + 1)

    assert pool.choose(LANE, AT + 1).until == AT + 1 + HOUR
    assert emails(send(pool, 5, AT + 1 + HOUR)) == ["a0@d0.example"]


def test_a_crowd_of_blocked_ones_is_passed_over_in_steps():
    pool = fleet(domains=LOOKS + 9, addresses=1, domain={"per_hour": 1})
    for domain in pool.domains.values():
        domain.cap.restore(AT)

    assert pool.choose(LANE, AT).until == inf

    for _ in range(5):
        waits = pool.choose(LANE, AT)

    assert waits.until == AT + HOUR

    pool = fleet(domains=1, addresses=LOOKS + 9, address={"per_hour": 1})
    for address in pool.addresses.values():
        address.cap.restore(AT)
    while (waits := pool.choose(LANE, AT)).until == AT:
        pass

    assert waits.until == AT + HOUR


# -- isolation -----------------------------------------------------------------------------------------------------------------------


def test_mail_leaves_only_through_addresses_of_its_client_and_stream():
    pool = fleet(address={"per_day": 3})
    pool.put_client(Client("bolt"))
    pool.put_domain(Domain("b.example", "bolt", "main", ("relay",)))
    pool.put_domain(Domain("news.example", "acme", "news", ("relay",)))
    pool.put_address(Address("x@b.example", "b.example", "", per_day=2))
    pool.put_address(Address("x@news.example", "news.example", "", per_day=2))

    assert len(send(pool, 100)) == 18
    assert emails(send(pool, 100, lane=Lane("acme", "news", BULK))) == ["x@news.example"] * 2
    assert emails(send(pool, 100, lane=Lane("bolt", "main", TRANSACTIONAL))) == ["x@b.example"] * 2
    assert pool.choose(Lane("acme", "other", BULK), AT) == Wait(Gate.SLOTS, inf, "stream", "acme/other")
    assert pool.lane(Lane("acme", "other", BULK), AT).gate is Gate.NO_ADDRESS
    assert pool.providers_of(Lane("acme", "other", BULK)) == set()
    assert pool.providers_of(Lane("nobody", "main", BULK)) == set()


def test_a_domain_that_changes_its_stream_takes_its_addresses_along():
    pool = fleet(domains=1, addresses=1)
    send(pool, 10)
    pool.put_domain(Domain("d0.example", "acme", "news", ("relay",)))

    assert pool.lane(LANE, AT).gate is Gate.NO_ADDRESS
    assert len(send(pool, 100, lane=Lane("acme", "news", BULK))) == 30

    pool.put_client(Client("bolt"))
    pool.put_domain(Domain("d0.example", "bolt", "main", ("relay",)))

    assert list(pool.clients["acme"].domains) == []
    assert emails(send(pool, 1, AT + DAY, Lane("bolt", "main", BULK))) == ["a0@d0.example"]


def test_what_is_removed_is_gone_and_what_comes_back_has_still_sent_what_it_sent():
    pool = fleet(domains=1, addresses=1, client={"per_day": 30}, address={"per_day": 8})
    held = pool.choose(LANE, AT)
    send(pool, 5)
    values = (pool.clients["acme"].value, pool.domains["d0.example"].value, pool.addresses["a0@d0.example"].value)
    pool.remove_client("acme")

    assert (pool.clients, pool.domains, pool.addresses) == ({}, {}, {})
    assert pool.lane(LANE, AT).gate is Gate.NO_ADDRESS

    pool.remove_client("acme")
    pool.remove_domain("d0.example")
    pool.remove_address("a0@d0.example")
    pool.settle(held, Outcome.ACCEPTED, AT)
    pool.put_client(values[0])
    pool.put_domain(values[1])
    pool.put_address(replace(values[2], used_day=3, used_day_at=AT))

    assert len(send(pool, 100, AT + 1)) == 2


def test_an_address_that_comes_back_while_its_last_place_is_in_the_air_is_looked_at_when_it_lands():
    pool = fleet(domains=1, addresses=1, address={"per_hour": 1})
    held = pool.choose(LANE, AT)
    value = pool.addresses["a0@d0.example"].value
    pool.remove_address(value.email)
    pool.put_address(value)

    assert pool.choose(LANE, AT).until == inf

    pool.settle(held, Outcome.DEFERRED, AT)

    assert len(send(pool, 5)) == 1


def test_an_address_that_moves_to_another_domain_keeps_its_count():
    pool = fleet(domains=2, addresses=1, address={"per_day": 3})
    send(pool, 4)
    change(pool, "a0@d0.example", domain="d1.example")

    assert list(pool.domains["d0.example"].addresses) == []
    assert Counter(emails(send(pool, 100))) == {"a0@d0.example": 1, "a0@d1.example": 1}


def test_what_was_sent_elsewhere_counts_for_address_domain_and_client():
    pool = fleet(domains=1, addresses=0, client={"per_day": 12}, domain={"per_day": 11})
    pool.put_address(Address("x@d0.example", "d0.example", "", per_day=10, used_day=4, used_day_at=AT - HOUR))
    pool.put_address(Address("y@d0.example", "d0.example", ""))

    assert Counter(emails(send(pool, 100))).total() == 7
    assert pool.clients["acme"].cap.room(AT, BULK) == 1


# -- reservations --------------------------------------------------------------------------------------------------------------------


def rooms(pool, now=AT):
    return {name: state.cap.room(now, BULK) for states in (pool.clients, pool.domains, pool.addresses) for name, state in states.items()}


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_what_is_proven_not_accepted_gives_its_places_back(outcome):
    pool = fleet(client={"per_day": 50}, domain={"per_day": 20}, providers=(ProviderLimits("relay", per_day=100),))
    before = rooms(pool)
    chosen = pool.choose(LANE, AT)

    assert sum(before.values()) - sum(rooms(pool).values()) == 3

    pool.settle(chosen, outcome, AT + 5)

    assert (rooms(pool, AT + 5) == before) == outcome.proves_not_accepted
    assert pool.providers["relay"].cap.room(AT + 5, BULK) == 99


def test_a_cancelled_choice_leaves_no_trace():
    pool, other = (fleet(client={"per_day": 50}, providers=(ProviderLimits("relay", per_day=100, per_month=200),)) for _ in range(2))
    before = rooms(pool)
    for _ in range(5):
        pool.cancel(pool.choose(LANE, AT))

    assert rooms(pool) == before
    assert pool.providers["relay"].cap.room(AT, BULK) == 100
    assert pool.providers["relay"].month.used == 0
    assert emails(send(pool, 20)) == emails(send(other, 20))


def test_a_place_given_back_opens_what_waited_for_the_day():
    pool = fleet(domains=1, addresses=1, address={"per_day": 2})
    chosen = [pool.choose(LANE, AT), pool.choose(LANE, AT)]
    pool.settle(chosen[0], Outcome.ACCEPTED, AT)

    assert pool.choose(LANE, AT).until == AT + DAY

    pool.settle(chosen[1], Outcome.REJECTED, AT)

    assert len(send(pool, 3)) == 1


def test_a_raised_limit_opens_at_once():
    pool = fleet(domains=1, addresses=1, address={"per_day": 1}, domain={"per_day": 3})
    send(pool, 2)
    change(pool, "a0@d0.example", per_day=10)

    assert len(send(pool, 10)) == 2

    pool.put_domain(replace(pool.domains["d0.example"].value, per_day=None))

    assert len(send(pool, 10)) == 7


@pytest.mark.parametrize("end", ["settle", "cancel"])
def test_what_ends_between_a_change_of_the_fleet_and_the_next_decision_is_counted(end):
    pool = fleet(domains=1, addresses=1, address={"per_day": 2})
    chosen = pool.choose(LANE, AT)
    pool.put_domain(replace(pool.domains["d0.example"].value, stream="news"))
    if end == "settle":
        pool.settle(chosen, Outcome.DEFERRED, AT)
    else:
        pool.cancel(chosen)
    pool.put_domain(replace(pool.domains["d0.example"].value, stream="main"))

    assert len(send(pool, 5)) == 2

    chosen = pool.choose(LANE, AT + DAY)
    pool.put_domain(replace(pool.domains["d0.example"].value, providers=()))
    pool.settle(chosen, Outcome.ACCEPTED, AT + DAY)

    assert pool.choose(LANE, AT + DAY) == Wait(Gate.SLOTS, inf, "stream", "acme/main")


def test_a_late_domain_whose_last_places_are_in_the_air_is_looked_at_when_they_land():
    pool = fleet(domains=1, addresses=1, domain={"per_hour": 10}, address={"per_day": 1000})
    flying = [pool.choose(LANE, AT) for _ in range(10)]

    assert pool.choose(LANE, AT).until == inf

    pool.settle(flying.pop(), Outcome.ACCEPTED, AT + 1)

    assert pool.choose(LANE, AT + 1).until == AT + 1 + HOUR

    pool.cancel(flying.pop())

    assert len(send(pool, 5, AT + 1)) == 1

    for assignment in flying:
        pool.settle(assignment, Outcome.ACCEPTED, AT + 2)

    assert pool.choose(LANE, AT + 2).until == AT + 1 + HOUR


def test_a_late_domain_follows_a_change_of_its_weight():
    pool = fleet(domain={"per_hour": 10}, address={"per_day": 1000})
    send(pool, 19)
    change(pool, "a0@d0.example", per_day=2000)

    assert len(send(pool, 5)) == 1


# -- providers -----------------------------------------------------------------------------------------------------------------------


def test_two_providers_of_a_route_are_used_by_weight_and_a_full_or_paused_one_is_skipped():
    pool = fleet(providers=(ProviderLimits("m", weight=2), ProviderLimits("n", per_hour=100)), address={"per_day": 1000})

    def used(count, now=AT):
        return Counter(assignment.provider.limits.name for assignment in send(pool, count, now))

    assert used(90) == {"m": 60, "n": 30}

    pool.set_paused(frozenset({("provider", "m")}))

    assert used(90) == {"n": 70}
    assert pool.choose(LANE, AT).until == AT + HOUR

    pool.set_paused(frozenset())

    assert used(90) == {"m": 90}


def test_a_provider_with_a_rate_a_second_takes_its_rate_and_says_when():
    pool = fleet(providers=(ProviderLimits("relay", per_second=2),), address={"per_day": 1000})

    assert len(send(pool, 10)) == 1
    assert pool.choose(LANE, AT).until == pytest.approx(AT + 0.5)

    sent = sum(len(send(pool, 1, AT + tick / 100)) for tick in range(1, 6001))

    assert 0.97 * 120 <= sent <= 120


# -- the client's gates --------------------------------------------------------------------------------------------------------------


def test_pauses_of_every_kind_hold_what_they_name_and_nothing_else():
    pool = fleet()
    campaign = Lane("acme", "main", BULK, "spring")
    for paused, lane, scope in (
        (("all", ""), LANE, "all"),
        (("stream", "acme/main"), LANE, "stream"),
        (("campaign", "acme/spring"), campaign, "campaign"),
    ):
        pool.set_paused(frozenset({paused}))

        assert pool.choose(lane, AT).gate is Gate.PAUSED
        assert pool.lane(lane, AT).scope == scope
        assert isinstance(pool.lane(LANE, AT), Open) == (scope == "campaign")

    pool.set_paused(frozenset({("stream", "acme/news"), ("campaign", "acme/other")}))

    assert isinstance(pool.choose(campaign, AT), Assignment)

    for status, gate in ((Status.PAUSED, Gate.PAUSED), (Status.DISABLED, Gate.DISABLED)):
        pool.put_client(Client("acme", status=status))

        assert pool.choose(LANE, AT) == Wait(gate, inf, "client", "acme")

    pool.put_client(Client("acme"))

    assert isinstance(pool.choose(LANE, AT), Assignment)
    assert pool.choose(Lane("nobody", "main", BULK), AT).gate is Gate.NO_ADDRESS


def test_a_campaigns_window_holds_its_bulk_mail_and_no_other():
    pool = fleet(client={"timezone": "Europe/Berlin"})
    pool.set_campaigns([Campaign("acme", "spring", "daily 00:00-00:01"), Campaign("acme", "odd", "whenever")])
    spring = LANE._replace(campaign="spring")

    held = pool.choose(spring, AT)
    assert isinstance(held, Wait)
    assert (held.gate, held.scope, held.name) == (Gate.WINDOW, "campaign", "acme/spring")
    assert isinstance(pool.choose(spring, held.until), Assignment)
    assert pool.choose(LANE._replace(campaign="odd"), AT).until == inf
    assert all(isinstance(pool.choose(lane, AT), Assignment) for lane in (LANE, spring._replace(kind=TRANSACTIONAL)))
    pool.put_client(Client("acme", timezone="UTC"))
    assert pool.choose(spring, AT).until - held.until == HOUR
    pool.set_campaigns([])
    assert isinstance(pool.choose(spring, AT), Assignment)


def test_a_campaigns_caps_hold_all_its_lanes_and_no_other_mail():
    pool = fleet()
    pool.set_campaigns([Campaign("acme", "spring", per_hour=3)])
    lanes = [LANE._replace(campaign="spring", **other) for other in ({}, {"kind": TRANSACTIONAL}, {"pin": "a0@d0.example"})]
    first, second, third = (pool.choose(lane, AT) for lane in lanes)

    for lane in lanes:
        assert pool.choose(lane, AT) == pool.lane(lane, AT) == Wait(Gate.HOUR, inf, "campaign", "acme/spring")
    assert len(send(pool, 5, lane=LANE)) == len(send(pool, 5, lane=LANE._replace(campaign="autumn"))) == 5

    pool.settle(first, Outcome.REJECTED, AT)
    assert pool.lane(lanes[0], AT) == pool.lane(lanes[2], AT) == Open(1)
    pool.cancel(second)
    pool.settle(third, Outcome.UNCERTAIN, AT + 5)
    assert len(send(pool, 5, AT + 5, lanes[1])) == 2
    assert pool.lane(lanes[0], AT + 5) == Wait(Gate.HOUR, AT + 5 + HOUR, "campaign", "acme/spring")
    assert pool.lane(lanes[0], AT + 5 + HOUR) == Open(3)


def test_caps_that_come_in_the_middle_of_a_day_count_what_was_sent_before():
    pool = fleet()
    spring = LANE._replace(campaign="spring")
    send(pool, 4, AT, spring)
    pool.set_campaigns([Campaign("acme", "spring", per_hour=6, per_day=9)])

    assert len(send(pool, 9, AT + 60, spring)) == 2
    # What was sent before there was a cap is known to 15 s.
    assert AT + HOUR <= pool.choose(spring, AT + 60).until <= AT + 15 + HOUR
    assert len(send(pool, 9, AT + 2 * HOUR, spring)) == 3
    assert pool.choose(spring, AT + 4 * HOUR).until > AT + DAY - 1
    pool.set_campaigns([])
    assert len(send(pool, 9, AT + 4 * HOUR, spring)) == 9


def test_campaigns_that_sent_nothing_for_a_day_are_forgotten_and_those_on_the_wire_are_not():
    pool = fleet(address={})
    flying = pool.choose(LANE._replace(campaign="flying"), AT)
    for number in range(1500):
        send(pool, 1, AT + number * HOUR, LANE._replace(campaign=f"sent {number}"))
        if number == 0:
            old = pool.gates.count("acme", "sent 0")
    end = AT + 1499.5 * HOUR
    pool.set_campaigns([Campaign("acme", "flying", per_hour=1)])

    assert pool.gates.count("acme", "sent 0") is not old
    assert pool.gates.count("acme", "sent 1490").use(end) == (0, 1)
    assert pool.gates.count("acme", "flying") is flying.campaign
    pool.settle(flying, Outcome.ACCEPTED, end)
    assert pool.choose(LANE._replace(campaign="flying"), end).until == end + HOUR


def test_the_window_and_the_pace_hold_bulk_mail_only():
    closed = {"sending_window": "mon-fri 08:00-19:00", "timezone": "Europe/Berlin"}
    pool = fleet(client=closed)
    night = 1_795_060_800.0  # Thu 19 Nov 2026 05:20 in Berlin
    waits = pool.choose(LANE, night)

    assert (waits.gate, waits.scope) == (Gate.WINDOW, "client")
    assert isinstance(pool.choose(Lane("acme", "main", TRANSACTIONAL), night), Assignment)
    assert isinstance(pool.choose(LANE, waits.until), Assignment)

    pool.put_client(Client("acme", timezone="Mars/Olympus"))

    assert pool.choose(LANE, waits.until).gate is Gate.WINDOW
    assert "Mars/Olympus" in pool.choose(LANE, waits.until).detail
    assert isinstance(pool.choose(Lane("acme", "main", TRANSACTIONAL), waits.until), Assignment)


def test_a_paced_client_spreads_bulk_mail_on_every_level_and_transactional_mail_passes():
    pool = fleet(client={"pacing": Pacing.EVEN, "per_day": 100}, domains=1, addresses=1, domain={"per_day": 60}, address={"per_day": 48})
    sent = []
    for minute in range(6 * 60):
        sent += [AT + 60 * minute] * len(send(pool, 5, AT + 60 * minute))

    assert 9 <= len(sent) <= 24
    assert most_in_any(sent, HOUR) <= 5

    now = AT + 6 * HOUR
    while isinstance(chosen := pool.choose(LANE, now), Wait):
        now = max(chosen.until, now + 1)
    again = pool.choose(LANE, now)

    assert again.gate is Gate.PACING
    assert again.until > now
    assert isinstance(pool.choose(Lane("acme", "main", TRANSACTIONAL), now), Assignment)

    pool.cancel(chosen)
    pool.put_client(Client("acme"))

    assert isinstance(pool.choose(LANE, now), Assignment)


def test_pacing_of_an_address_alone_says_when_its_turn_comes():
    pool = fleet(client={"pacing": Pacing.EVEN}, domains=1, addresses=1, address={"per_day": 48})
    waits = pool.choose(LANE, AT)
    now = AT
    while isinstance(waits, Wait):
        assert waits.until > now

        now = waits.until
        waits = pool.choose(LANE, now)
    pool.settle(waits, Outcome.REJECTED, now)

    assert pool.addresses["a0@d0.example"].cap.held == 0


def test_the_transactional_reserve_is_out_of_reach_for_bulk_mail():
    pool = fleet(client={"transactional_reserve": 0.25, "per_day": 100}, domains=1, addresses=1, address={"per_day": 40})

    assert len(send(pool, 100)) == 30
    assert len(send(pool, 100, lane=Lane("acme", "main", TRANSACTIONAL))) == 10
    assert pool.choose(Lane("acme", "main", TRANSACTIONAL), AT).until == AT + DAY


def test_a_client_at_its_cap_waits_for_its_own_hour():
    pool = fleet(client={"per_hour": 3})
    send(pool, 3)

    assert pool.choose(LANE, AT + 1) == Wait(Gate.HOUR, AT + HOUR, "client", "acme")
    assert pool.lane(LANE, AT + 1) == Wait(Gate.HOUR, AT + HOUR, "client", "acme")
    assert pool.lane(LANE, AT + HOUR) == Open(3)


# -- pins ----------------------------------------------------------------------------------------------------------------------------


def pinned(pin_kind, pin="a0@d0.example", **of):
    return Lane(of.get("client", "acme"), of.get("stream", "main"), BULK, "", pin, pin_kind)


def test_a_pinned_message_leaves_from_its_address_and_waits_for_it():
    pool = fleet()

    assert pool.lane(pinned("sender"), AT) == Open(40)
    assert emails(send(pool, 100, lane=pinned("sender"))) == ["a0@d0.example"] * 40
    assert pool.choose(pinned("thread"), AT) == Wait(Gate.STICKY, AT + DAY, "address", "a0@d0.example")
    assert pool.providers_of(pinned("sender")) == {"relay"}
    assert pool.providers_of(pinned("sender", "gone@d0.example")) == set()

    pool.providers["relay"].slots = 0

    assert pool.lane(pinned("sender", "a1@d0.example"), AT) == Wait(Gate.SLOTS, inf, "domain", "d0.example")


@pytest.mark.parametrize("level", ["address", "domain"])
def test_who_is_pinned_to_a_cooling_address_waits_a_while_or_moves(level):
    pool = fleet(thread_wait_s=7200)

    def cool(until):
        if level == "address":
            change(pool, "a0@d0.example", health=Health.COOLING, health_until=until)
        else:
            pool.put_domain(replace(pool.domains["d0.example"].value, health=Health.COOLING, health_until=until))

    cool(AT + HOUR)

    assert pool.choose(pinned("sender"), AT) == Wait(Gate.STICKY, AT + HOUR, "address", "a0@d0.example")
    assert pool.choose(pinned("thread"), AT) == Wait(Gate.STICKY, AT + HOUR, "address", "a0@d0.example")
    assert pool.choose(pinned("retry"), AT) == Move("")

    cool(None)

    assert pool.choose(pinned("sender"), AT).until == inf
    assert isinstance(pool.choose(pinned("thread"), AT), Move if level == "address" else Fail)


def test_a_thread_whose_address_is_gone_moves_to_the_one_of_its_domain_with_the_most_quota_left():
    pool = fleet(domains=1, addresses=4)
    send(pool, 3, lane=pinned("sender", "a1@d0.example"))
    send(pool, 2, lane=pinned("sender", "a2@d0.example"))
    change(pool, "a3@d0.example", status=Status.PAUSED)
    change(pool, "a0@d0.example", status=Status.DISABLED)

    assert pool.lane(pinned("thread"), AT) == Move("a2@d0.example")

    pool.remove_address("a0@d0.example")

    assert pool.choose(pinned("thread"), AT) == Move("a2@d0.example")
    assert pool.choose(pinned("retry"), AT) == Move("")
    assert pool.choose(pinned("sender"), AT) == Fail("sender a0@d0.example is not an address of acme/main")

    change(pool, "a1@d0.example", health=Health.DISABLED)
    change(pool, "a2@d0.example", status=Status.DISABLED)

    assert isinstance(pool.choose(pinned("thread"), AT), Fail)
    assert pool.choose(pinned("sender", "a2@d0.example"), AT) == Fail("sender a2@d0.example is disabled")


def test_a_pin_reaches_no_address_of_another_client_or_stream():
    pool = fleet()
    pool.put_client(Client("bolt"))

    for lane in (
        pinned("sender", client="bolt"),
        pinned("sender", stream="news"),
        pinned("thread", client="bolt"),
        pinned("thread", "x@y.z"),
    ):
        assert isinstance(pool.choose(lane, AT), Fail)


def test_a_paused_pinned_address_is_waited_for():
    pool = fleet()
    change(pool, "a0@d0.example", status=Status.PAUSED)

    assert pool.choose(pinned("thread"), AT) == Wait(Gate.STICKY, inf, "address", "a0@d0.example")


# -- the past ------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 120))
def test_a_pool_rebuilt_from_the_ledger_makes_the_same_choices(seed, count):
    """No limit is met, so nobody was parked; what was parked and came back would stand a little differently."""
    random = Random(seed)
    weights = [random.randint(5, 60) for _ in range(6)]

    def build():
        pool = fleet(domains=0, providers=(ProviderLimits("m", weight=2), ProviderLimits("n")))
        for d in range(2):
            pool.put_domain(Domain(f"d{d}.example", "acme", "main", ("m", "n")))
            for a in range(3):
                pool.put_address(Address(f"a{a}@d{d}.example", f"d{d}.example", "", per_day=100 * weights[3 * d + a]))
        return pool

    pool, rebuilt = build(), build()
    ledger = []
    for number in range(count):
        lane = LANE if random.random() < 0.8 else pinned("sender", f"a{random.randrange(3)}@d{random.randrange(2)}.example")
        outcome = random.choice([Outcome.ACCEPTED, Outcome.UNCERTAIN, Outcome.DEFERRED])
        (sent,) = send(pool, 1, AT + number, lane, outcome)
        ledger.append(LedgerRow(sent.email, sent.domain.value.name, "acme", sent.provider.limits.name, AT + number, AT + number, outcome))
    rebuild(rebuilt, past_of(ledger))
    now = AT + count
    for one, two in zip(send(pool, 60, now), send(rebuilt, 60, now), strict=True):
        assert (one.email, one.provider.limits.name) == (two.email, two.provider.limits.name)

    assert rooms(pool, now) == rooms(rebuilt, now)


def test_a_rebuilt_pool_counts_the_unfinished_until_their_deadline_and_ignores_who_is_gone():
    pool = fleet(domains=1, addresses=1, client={"per_hour": 4}, providers=(ProviderLimits("relay", per_hour=3),))
    rebuild(
        pool,
        past_of(
            [
                LedgerRow("a0@d0.example", "d0.example", "acme", "relay", AT, AT + 1, Outcome.ACCEPTED),
                LedgerRow("gone@d0.example", "gone.example", "gone", "gone", AT, AT + 2, Outcome.ACCEPTED),
                LedgerRow("a0@d0.example", "d0.example", "acme", "gone", AT, AT + 3, Outcome.REJECTED),
                LedgerRow("a0@d0.example", "d0.example", "acme", "relay", AT, AT + 600, None),
            ]
        ),
    )

    assert len(send(pool, 10, AT + 10)) == 1
    assert pool.choose(LANE, AT + 10).until == AT + 1 + HOUR
    assert len(send(pool, 10, AT + 1 + HOUR)) == 1
    assert pool.choose(LANE, AT + 1 + HOUR).until == AT + 10 + HOUR


def test_a_rebuilt_pace_goes_on_where_it_stopped():
    def build():
        return fleet(client={"pacing": Pacing.EVEN}, domains=1, addresses=1, address={"per_day": 100})

    pool, rebuilt = build(), build()
    ledger = []
    now = AT
    for _ in range(12):
        while isinstance(chosen := pool.choose(LANE, now), Wait):
            now = max(chosen.until, now + 0.001)
        pool.settle(chosen, Outcome.ACCEPTED, now)
        ledger.append(LedgerRow(chosen.email, "d0.example", "acme", "relay", now, now, Outcome.ACCEPTED))
    # One of another day that ended late counts for the cap, not for this day's pace.
    late = LedgerRow("a0@d0.example", "d0.example", "acme", "relay", AT - 1.5 * DAY, AT - 1.5 * DAY, Outcome.UNCERTAIN)
    rebuild(rebuilt, past_of([*ledger, late]))

    assert rebuilt.choose(LANE, now) == pool.choose(LANE, now)


def test_a_rebuilt_pace_counts_todays_messages_whatever_order_they_are_told_in():
    def build():
        return fleet(client={"pacing": Pacing.EVEN}, domains=1, addresses=1, address={"per_day": 100})

    ago = (9, 7 * HOUR, 5, 30 * HOUR)
    told = [LedgerRow("a0@d0.example", "d0.example", "acme", "relay", AT - at, AT - at + 1, Outcome.ACCEPTED) for at in ago]
    one, other = build(), build()
    for row in sorted(told, key=lambda row: row.began_at):
        for state in (one.addresses[row.address], one.domains[row.domain], one.clients[row.client]):
            state.cap.restore(row.counts_at)
            if state.pace is not None:
                state.pace.take(row.began_at)
    rebuild(other, past_of(told))

    assert other.choose(LANE, AT) == one.choose(LANE, AT)
    assert other.choose(LANE, AT) != build().choose(LANE, AT)


def test_of_a_rebuilt_pool_the_breaker_and_the_turns_go_by_the_newest_answers_alone():
    outcomes = [Outcome.ACCEPTED] * 21 + [Outcome.REJECTED] * 9
    whose = ("a0@d0.example", "d0.example", "acme", "relay")
    rows = [LedgerRow(*whose, AT + n, AT + n, outcome, Blame.PROVIDER) for n, outcome in enumerate(outcomes)]
    pool, same = fleet(), fleet()
    rebuild(pool, past_of(rows))
    past = past_of(rows)
    rebuild(same, past._replace(answers=past.answers[10:]))

    assert pool.providers["relay"].breaker.tripped_by is not None
    assert str(same.providers["relay"].breaker) == str(pool.providers["relay"].breaker)
    assert same.providers["relay"].breaker.opens_at == pool.providers["relay"].breaker.opens_at
    assert rooms(same, AT + 30) == rooms(pool, AT + 30)


def test_a_fleet_that_is_put_twice_before_the_first_decision_is_the_same_fleet():
    pool, other = fleet(), fleet()
    pool.put_client(Client("acme", name="Acme GmbH"))
    pool.put_client(Client("acme", transactional_reserve=0.1))
    pool.put_client(Client("acme"))
    for domain in list(pool.domains.values()):
        pool.put_domain(domain.value)
    for address in list(pool.addresses.values()):
        pool.put_address(address.value)

    assert emails(send(pool, 30)) == emails(send(other, 30))


def test_weights_of_domains_without_limits_follow_their_addresses():
    pool = fleet(domains=0)
    for name, count in (("d0.example", 1), ("d1.example", 3)):
        pool.put_domain(Domain(name, "acme", "main", ("relay",)))
        for a in range(count):
            pool.put_address(Address(f"a{a}@{name}", name))
    counts = Counter(assignment.domain.value.name for assignment in send(pool, 400))

    assert counts == {"d0.example": 100, "d1.example": 300}

    pool.remove_address("a0@d0.example")

    assert {assignment.domain.value.name for assignment in send(pool, 40)} == {"d1.example"}


def test_what_a_pool_held_is_freed_without_the_collector_when_it_dissolves():
    def alive():
        return sum(isinstance(one, AddressState | DomainState | ClientState | Place | StrideRing | RollingCap) for one in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        pool = fleet(domains=3, addresses=4, client={"transactional_reserve": 0.1}, domain={"per_hour": 2})
        send(pool, 9, AT)
        pool.remove_address("a1@d1.example")
        for _ in pool.dissolving():
            pass

        assert alive() == before + len(pool.providers)
    finally:
        gc.enable()
