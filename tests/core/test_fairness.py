"""Slots between clients: by weight, none to who wants none, no claim to the past."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from rotord.core.fairness import FairOrder, FairShare

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


def _tokens(order, weights, queues, route, tokens):
    """Begin one message for each provider that has a token in this turn."""
    open_rows = {client: rows for client, rows in queues.items() if route[client] in tokens}
    waiting = {}
    for client in open_rows:
        waiting.setdefault(route[client], set()).add(client)
    order.advance(waiting)
    left, begun = set(tokens), []
    for client in order.in_turn(open_rows, lambda _: False, lambda client: [route[client]]):
        if route[client] in left:
            left.remove(route[client])
            order.charge(client, route[client], weights[client])
            begun.append(client)
    return begun


def test_what_is_scarcer_than_slots_goes_round_too_whoever_came_first():
    weights = {"first": 1.0, "second": 1.0, "third": 2.0}
    order, begun = FairOrder(), Counter()
    for _ in range(400):
        begun.update(_tokens(order, weights, {client: [client] * 9 for client in weights}, dict.fromkeys(weights, "relay"), {"relay"}))

    assert begun == {"first": 100, "second": 100, "third": 200}


def test_a_client_with_a_provider_of_its_own_does_not_bend_the_turns_of_the_others():
    route = {"a": "relay", "b": "relay", "c": "relay", "own": "other"}
    weights = {"a": 1.0, "b": 1.0, "c": 2.0, "own": 1.0}
    queues = {client: [client] * 9 for client in route}
    order, begun = FairOrder(), Counter()
    for _ in range(400):  # tokens never come at the same moment
        for tokens in ({"other"}, {"relay"}, {"other"}):
            begun.update(_tokens(order, weights, queues, route, tokens))

    assert begun == {"a": 100, "b": 100, "c": 200, "own": 800}


def test_turns_keep_each_clients_order_and_let_the_urgent_go_first():
    order = FairOrder()
    queues = {"a": ["a1!", "a2", "a3"], "b": ["b1", "b2"], "c": ["c1!", "c2!"], "d": []}
    rows = []
    for row in order.in_turn(queues, lambda row: row.endswith("!"), lambda _: ["relay"]):
        order.charge(row[0], "relay", 1.0)
        rows.append(row)

    assert rows == ["a1!", "c1!", "c2!", "b1", "a2", "b2", "a3"]
