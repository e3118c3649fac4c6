"""Opens at the answers it was measured with, never at a working provider's, and closes again after three good probes."""

import random
from itertools import cycle, islice, repeat
from math import inf, log
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotord.core.breaker import CLOSED_IN_A_ROW, FIRST_PAUSE_S, LONGEST_PAUSE_S, PROBES, TRIP_SCORE, Breaker, Errors, is_own, score, works
from rotord.core.model import Blame, Outcome

AT = 1_795_000_000.0
ANYBODY = repeat("")
GOOD, BAD = (Outcome.ACCEPTED, None), (Outcome.DEFERRED, Blame.PROVIDER)


def feed(breaker, ends, at=AT, clients=ANYBODY):
    """One answer a second, each begun a second before; the number of answers until it opened, None if it did not."""
    for number, ((outcome, blame), client) in enumerate(zip(ends, clients, strict=False), 1):
        breaker.ended(outcome, blame, at - 1, at, client)
        if breaker.tripped_by is not None:
            return number
        at += 1
    return None


def probe(breaker, end, at, lasts_s=1.0, client=""):
    """Begin a message at `at` and end it."""
    assert breaker.free_at() <= at

    breaker.began(at)

    assert breaker.free_at() == inf
    assert breaker.is_probing

    breaker.ended(*end, at, at + lasts_s, client)
    return at + lasts_s


def tripped():
    breaker = Breaker()
    feed(breaker, [BAD] * 4)
    return breaker


def outage(share, seed, before=60, clients=("",)):
    """How many answers of a provider that fails `share` of them it takes to open, after some good ones. `clients`: each sends as much."""
    draw, breaker = random.Random(seed), Breaker()
    senders = random.Random(f"senders/{seed}")

    def ends(count, chance):
        return [BAD if draw.random() < chance else GOOD for _ in range(count)]

    assert feed(breaker, ends(before, 0.002), clients=senders.choices(clients, k=before)) is None

    return feed(breaker, ends(400, share), clients=senders.choices(clients, k=400))


def test_the_score_is_the_likelihood_ratio_and_0_for_what_a_working_provider_may_have():
    assert score(4, 10) == pytest.approx(4 * log(4 / 0.2) - 3.8)
    assert score(2, 2) == 0.0
    assert score(3, 150) == 0.0


def test_it_opens_at_the_fourth_of_only_errors_or_the_fifth_after_good_ones():
    assert feed(Breaker(), [BAD] * 9) == 4
    assert feed(Breaker(), [*[GOOD] * 200, *[BAD] * 9]) == 205


def test_it_opens_as_fast_as_it_was_measured_to():
    """Against deliverability's table: median 8 answers at 60 % errors, 37 to 39 at 20 %, 5 at 100 %."""
    at_60, at_20 = ([outage(share, seed) for seed in range(300)] for share in (0.6, 0.2))

    assert median(outage(1.0, seed) for seed in range(50)) == 5
    assert 7 <= median(at_60) <= 9
    assert sorted(at_60)[int(0.95 * 300)] <= 20
    assert 33 <= median(at_20) <= 43


@pytest.mark.parametrize("clients", ["ab", "abcdefghij", "aaaaab", "aaaaaaaaaaaaaaaaaaab"])
def test_it_opens_as_fast_whoever_sends(clients):
    at_60, at_20 = ([outage(share, seed, clients=clients) for seed in range(100)] for share in (0.6, 0.2))

    assert {outage(1.0, seed, clients=clients) for seed in range(20)} <= {4, 5, 6}
    assert median(at_60) <= 10
    assert sorted(at_60)[95] <= 20
    assert median(at_20) <= 45


@pytest.mark.parametrize("share", [0.002, 0.01])
def test_it_never_opens_at_a_working_provider(share):
    draw = random.Random(f"working/{share}")

    assert feed(Breaker(), (BAD if draw.random() < share else GOOD for _ in range(100_000))) is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), max_size=320))
def test_it_opens_exactly_when_one_of_its_windows_scores(answers):
    breaker = Breaker()
    for number, is_error in enumerate(answers, 1):
        breaker.ended(*(BAD if is_error else GOOD), AT, AT)
        seen = [answers[max(0, number - window) : number] for window in (10, 50, 200)]
        highest = max(score(sum(window), len(window)) for window in seen)

        assert (breaker.tripped_by is not None) == (is_error and highest >= TRIP_SCORE)

        if breaker.tripped_by is not None:
            assert score(*breaker.tripped_by) == highest
            break


def test_only_the_provider_the_network_and_the_account_are_its_errors():
    errors = {(outcome, blame) for outcome in Outcome for blame in [None, *Blame] if works(outcome, blame) is False}
    says_nothing = {(outcome, blame) for outcome in Outcome for blame in [None, *Blame] if works(outcome, blame) is None}

    failed = {(outcome, blame) for outcome in Outcome for blame in (Blame.PROVIDER, Blame.NETWORK, Blame.ACCOUNT)}
    assert errors == failed - {(Outcome.ACCEPTED, blame) for blame in Blame} - {(Outcome.NOT_SENT, Blame.PROVIDER)}
    assert says_nothing == {
        *((outcome, Blame.RATE) for outcome in Outcome),
        (Outcome.NOT_SENT, Blame.PROVIDER),
        (Outcome.NOT_SENT, None),
        (Outcome.UNCERTAIN, None),
    }


@pytest.mark.parametrize("end", [(Outcome.DEFERRED, Blame.RATE), (Outcome.NOT_SENT, None), (Outcome.REJECTED, Blame.RECIPIENT)])
def test_a_rate_our_own_stop_and_a_bad_recipient_never_open_it(end):
    assert feed(Breaker(), [end] * 500) is None


def test_open_it_lets_nothing_begin_until_its_time_and_then_one_at_a_time():
    breaker = Breaker()

    assert breaker.free_at() == -inf
    assert str(breaker) == ""

    feed(breaker, [BAD] * 4)
    opened_at = AT + 3

    assert breaker.tripped_by == Errors(4, 4)
    assert str(breaker) == "failing: 4 of 4 answers were errors"
    assert breaker.free_at() == opened_at + FIRST_PAUSE_S

    at = probe(breaker, GOOD, opened_at + FIRST_PAUSE_S)

    assert breaker.tripped_by == Errors(4, 4)
    assert breaker.free_at() <= at


def test_three_good_probes_in_a_row_close_it_with_a_clean_window():
    breaker, at = tripped(), AT + 100
    for _ in range(PROBES):
        at = probe(breaker, GOOD, at)

    assert breaker.tripped_by is None
    assert breaker.free_at() == -inf
    assert feed(breaker, [BAD] * 3, at) is None


def test_each_bad_probe_opens_it_for_twice_as_long_up_to_ten_minutes():
    breaker, at, pauses = tripped(), AT + 33, []
    for end in (BAD, GOOD, GOOD, BAD, BAD, BAD, BAD, BAD, BAD):
        at = probe(breaker, end, at)
        if end == BAD:
            pauses.append(breaker.free_at() - at)
            at = breaker.free_at()

    assert pauses == [60, 120, 240, 480, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]

    for _ in range(PROBES):
        at = probe(breaker, GOOD, at)
    feed(breaker, [BAD] * 4, at)

    assert breaker.free_at() == at + 3 + FIRST_PAUSE_S


def test_what_was_on_the_wire_when_it_opened_decides_nothing():
    breaker = tripped()
    for end in (GOOD, BAD, GOOD, GOOD, GOOD):
        breaker.ended(*end, AT - 5, AT + 40)

    assert breaker.tripped_by is not None
    assert breaker.free_at() == AT + 3 + FIRST_PAUSE_S


@pytest.mark.parametrize("end", [(Outcome.DEFERRED, Blame.RATE), (Outcome.UNCERTAIN, None), (Outcome.NOT_SENT, Blame.PROVIDER)])
def test_a_probe_that_says_nothing_lets_another_one_begin(end):
    breaker, at = tripped(), AT + 100
    for _ in range(5):
        at = probe(breaker, end, at)

    assert breaker.free_at() <= at
    assert breaker.tripped_by is not None


def test_a_probe_that_did_not_begin_after_all_lets_another_one_begin():
    breaker = tripped()
    breaker.began(AT + 100)
    breaker.taken_back(AT - 1)  # a reservation from before it opened

    assert breaker.free_at() == inf

    breaker.taken_back(AT + 100)

    assert breaker.free_at() <= AT + 100


def test_one_that_another_process_told_of_stands_as_told():
    waiting, probing = Breaker.tripped(Errors(5, 7), AT + 9), Breaker.tripped(Errors(5, 7), None)

    assert waiting.free_at() == AT + 9
    assert probing.free_at() == inf
    assert str(probing) == "failing: 5 of 7 answers were errors, a probe is on the wire"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([GOOD, BAD, BAD, BAD, (Outcome.UNCERTAIN, None)]), st.floats(0.1, 90)), max_size=120))
def test_one_that_is_told_the_ledger_stands_where_the_first_stood(steps):
    """Messages begin when they may; a second breaker only hears how they ended, with the database's microseconds."""
    first, second, now = Breaker(), Breaker(), AT
    for end, pause_s in steps:
        now += pause_s
        if first.free_at() > now:
            continue
        first.began(now)
        first.ended(*end, now, now + 0.05)
        second.ended(*end, round(now, 6), round(now + 0.05, 6))

    assert first.tripped_by == second.tripped_by
    assert second.free_at() == pytest.approx(first.free_at(), abs=1e-5)


OWN = (Outcome.DEFERRED, Blame.ACCOUNT)


def test_one_clients_refusals_by_the_account_close_it_for_nobody_and_those_of_two_do():
    breaker = Breaker()
    breaker.ended(*GOOD, AT, AT, "bolt")
    for _ in range(500):
        breaker.ended(*OWN, AT, AT, "acme")

    assert breaker.tripped_by is None

    for _ in range(3):
        breaker.ended(*OWN, AT, AT, "bolt")

    assert breaker.tripped_by is not None


def test_the_only_clients_refusals_by_the_account_close_it():
    assert feed(Breaker(), [OWN] * 9) == 4


def test_one_clients_refusals_hide_no_failure_from_the_others():
    breaker = Breaker()
    breaker.ended(*GOOD, AT, AT, "bolt")
    for _ in range(5):
        for _ in range(20):
            breaker.ended(*OWN, AT, AT, "acme")
        breaker.ended(*BAD, AT, AT, "bolt")

    assert breaker.tripped_by is not None


def test_one_clients_refusals_as_probes_do_not_keep_it_closed_and_those_of_two_do():
    breaker = Breaker()
    breaker.ended(*GOOD, AT, AT, "acme")
    for _ in range(5):
        breaker.ended(*BAD, AT, AT, "bolt")
    at = breaker.free_at()
    for _ in range(3):
        breaker.began(at)
        breaker.ended(*OWN, at, at + 1, "acme")

        assert breaker.free_at() <= at

    breaker.began(at)
    breaker.ended(*OWN, at, at + 1, "bolt")

    assert breaker.free_at() == at + 1 + 2 * FIRST_PAUSE_S


def test_a_relay_that_closes_at_every_message_is_found_and_one_that_does_it_now_and_then_is_not():
    closes = (Outcome.NOT_SENT, Blame.PROVIDER)

    assert feed(Breaker(), [*[closes] * 20, GOOD] * 30) is None
    assert feed(Breaker(), [closes] * 100) == CLOSED_IN_A_ROW + 4


@pytest.mark.parametrize("senders", ["gb", "gggb", "gbbgb", "gbggcg"])
def test_clients_whose_every_message_fails_close_it_for_nobody_while_others_get_through(senders):
    clients = list(islice(cycle(senders), 1000))

    assert feed(Breaker(), [GOOD if client == "g" else BAD for client in clients], clients=clients) is None


def test_what_one_client_always_gets_hides_no_failure_from_the_others():
    clients = list(islice(cycle("gb"), 500))
    ends = [GOOD if client == "g" and number < 400 else BAD for number, client in enumerate(clients)]

    assert 400 < feed(Breaker(), ends, clients=clients) <= 410


def test_a_client_that_closed_it_alone_does_not_keep_it_closed():
    breaker, clients = Breaker(), cycle("gb")
    assert feed(breaker, [GOOD, *[BAD] * 4], clients="gbbbb") == 5
    for _ in range(10):
        if breaker.tripped_by is None:
            break
        client, at = next(clients), max(breaker.free_at(), AT)
        breaker.began(at)
        breaker.ended(*(GOOD if client == "g" else BAD), at, at + 1, client)

    assert breaker.tripped_by is None
    assert at < AT + 300


def test_a_client_that_always_fails_is_no_probe_more_often_than_others():
    breaker, at = tripped(), AT + FIRST_PAUSE_S + 3
    for client in "gbgbgb":
        at = probe(breaker, GOOD if client == "g" else BAD, max(at, breaker.free_at()), client=client)

    assert breaker.free_at() == at + FIRST_PAUSE_S


UNREACHED = (Outcome.NOT_SENT, Blame.NETWORK)


def test_requests_that_found_nobody_together_are_one_answer_and_one_after_the_other_they_count():
    breaker, at = Breaker(), AT
    for _ in range(4):
        assert breaker.tripped_by is None
        for number in range(50):
            breaker.ended(*UNREACHED, at, at + 0.01 + 0.001 * number)
        at += 1

    assert breaker.tripped_by == Errors(4, 4)
    assert feed(Breaker(), [UNREACHED] * 9) == 4
    assert feed(Breaker(), [GOOD, UNREACHED] * 9) == 8


def test_nobody_fails_for_itself_who_fails_as_seldom_as_a_working_provider():
    assert not is_own(Errors(1, 200), Errors(0, 1000))
    assert is_own(Errors(20, 200), Errors(0, 1000))
