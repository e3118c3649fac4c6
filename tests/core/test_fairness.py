"""Slots between clients: by weight, none to who wants none, no claim to the past."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from rotord.core.fairness import FairShare

CLIENTS = st.sampled_from("abcdef")


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(CLIENTS, st.integers(0, 50)), st.integers(0, 120), st.dictionaries(CLIENTS, st.integers(1, 30)))
def test_every_slot_that_someone_wants_is_given_and_nobody_gets_more_than_it_wants(wants, slots, past):
    fair = FairShare()
    for client, messages in past.items():
        fair.charge(client, 1.0, messages)
    weights = dict.fromkeys("abcdef", 1.0)
    shares = fair.allocate(wants, weights, slots)

    assert sum(shares.values()) == min(slots, sum(wants.values()))
    assert all(0 <= shares[client] <= wants[client] for client in wants)
    assert fair.allocate(wants, weights, slots) == shares


def test_competing_clients_share_by_weight():
    fair = FairShare()
    weights = {"a": 1.0, "b": 2.0, "c": 5.0}
    sent = Counter()
    for _ in range(200):
        wants = dict.fromkeys(weights, 1000)
        fair.advance(wants)
        for client, share in fair.allocate(wants, weights, 7).items():
            fair.charge(client, weights[client], share)
            sent[client] += share
    for client, weight in weights.items():
        assert abs(sent[client] - 1400 * weight / 8) <= 8


def test_a_huge_backlog_costs_a_small_client_nothing():
    fair = FairShare()
    weights = {"big": 1.0, "small": 1.0}
    for _ in range(100):
        fair.advance({"big": 10**6})
        fair.charge("big", 1.0, fair.allocate({"big": 10**6}, weights, 10)["big"])
    wants = {"big": 10**6, "small": 3}
    fair.advance(wants)

    assert fair.allocate(wants, weights, 10) == {"big": 7, "small": 3}


def test_a_client_that_comes_back_from_silence_has_no_claim_to_the_past():
    fair = FairShare()
    weights = {"a": 1.0, "b": 1.0}
    for _ in range(100):
        fair.advance({"a": 50})
        fair.charge("a", 1.0, fair.allocate({"a": 50}, weights, 10)["a"])
    given = Counter()
    for _ in range(10):
        wants = {"a": 50, "b": 50}
        fair.advance(wants)
        for client, share in fair.allocate(wants, weights, 10).items():
            fair.charge(client, 1.0, share)
            given[client] += share

    assert 40 <= given["a"] <= 50
    assert given["a"] + given["b"] == 100


def test_what_is_scarcer_than_slots_goes_round_too_whoever_came_first():
    fair = FairShare()
    weights = {"first": 1.0, "second": 1.0, "third": 2.0}
    begun = Counter()
    for _ in range(400):
        fair.advance(dict.fromkeys(weights, 100))
        for client in fair.in_turn({client: [client] * 100 for client in weights}, lambda _: False):
            fair.charge(client, weights[client])
            begun[client] += 1
            break  # there was one token

    assert begun == {"first": 100, "second": 100, "third": 200}


def test_turns_keep_each_clients_order_and_let_the_urgent_go_first():
    fair = FairShare()
    queues = {"a": ["a1!", "a2", "a3"], "b": ["b1", "b2"], "c": ["c1!", "c2!"], "d": []}
    order = []
    for row in fair.in_turn(queues, lambda row: row.endswith("!")):
        fair.charge(row[0], 1.0)
        order.append(row)

    assert order == ["a1!", "c1!", "c2!", "b1", "a2", "b2", "a3"]
