"""What follows from a reply: the whole table."""

import pytest

from rotord.core.model import Blame, Outcome, Reply
from rotord.core.records import Next, Step
from rotord.core.settling import UNSENT_RETRY_S, RetryPolicy, Way, next_step

AT = 1_795_000_000.0
POLICY = RetryPolicy(first_s=60, max_s=3600, give_up_s=86400)


def step(reply, *, attempts=1, first_at=AT, now=AT, has_another=False):
    way = Way("a@d.example", "relay", has_another=has_another)
    return next_step(reply, outbox_id=42, attempts=attempts, first_at=first_at, way=way, now=now, policy=POLICY)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [(Outcome.ACCEPTED, Step(Next.SENT)), (Outcome.REJECTED, Step(Next.FAILED)), (Outcome.UNCERTAIN, Step(Next.UNCERTAIN))],
)
def test_what_is_final_stays_final(outcome, expected):
    assert step(Reply(outcome)) == expected


def test_what_never_left_is_tried_again_at_once_until_it_is_given_up():
    reply = Reply(Outcome.NOT_SENT, Blame.NETWORK)

    assert step(reply) == Step(Next.RETRY, AT + UNSENT_RETRY_S, avoid="relay")
    assert step(reply, now=AT + 86400) == Step(Next.RETRY, AT + 86400 + UNSENT_RETRY_S, avoid="relay")
    assert step(reply, now=AT + 86401) == Step(Next.FAILED)


def test_what_never_left_waits_twice_as_long_each_time_up_to_the_first_wait_of_a_refusal():
    waits = [step(Reply(Outcome.NOT_SENT, Blame.NETWORK), attempts=attempts).due_at - AT for attempts in (1, 2, 3, 6, 7, 8, 5000)]

    assert waits == [1, 2, 4, 32, 60, 60, 60]


@pytest.mark.parametrize("blame", [Blame.PROVIDER, Blame.NETWORK, Blame.ACCOUNT, Blame.RATE])
def test_what_its_provider_refused_goes_to_another_at_once_if_there_is_one(blame):
    reply = Reply(Outcome.DEFERRED, blame, "451 4.3.0", "try later", retry_after_s=900.0)

    assert step(reply, has_another=True) == Step(Next.RETRY, AT + UNSENT_RETRY_S, avoid="relay")
    assert step(reply, has_another=True, now=AT + 86401) == Step(Next.FAILED)
    assert step(reply).due_at >= AT + 900
    assert step(reply).avoid == "relay"


@pytest.mark.parametrize("blame", [None, Blame.RECIPIENT, Blame.SENDER, Blame.CONTENT])
def test_what_is_not_its_providers_fault_avoids_nobody(blame):
    reply = Reply(Outcome.DEFERRED, blame)

    assert step(reply, has_another=True) == step(reply)
    assert step(reply).avoid == ""


@pytest.mark.parametrize("blame", list(Blame))
def test_what_is_uncertain_goes_nowhere_else(blame):
    assert step(Reply(Outcome.UNCERTAIN, blame), has_another=True) == Step(Next.UNCERTAIN)


def test_what_is_refused_for_now_is_tried_again_later_and_given_up_in_the_end():
    reply = Reply(Outcome.DEFERRED, Blame.RECIPIENT, "452 4.2.2", "mailbox full")
    first = step(reply)

    assert first.next is Next.RETRY
    assert AT + 30 <= first.due_at <= AT + 120
    assert step(reply) == first
    assert step(reply, attempts=9, now=AT + 20_000).due_at > AT + 20_000 + 1000
    assert step(reply, attempts=40, now=AT + 86_401) == Step(Next.FAILED)


def test_a_greylisted_message_keeps_its_address_and_another_does_not():
    greylisted = Reply(Outcome.DEFERRED, Blame.RECIPIENT, "451 4.7.1", "Greylisting in action, please come back later")
    busy = Reply(Outcome.DEFERRED, Blame.RECIPIENT, "452 4.2.2", "mailbox full")

    assert step(greylisted).pin == "a@d.example"
    assert step(busy).pin == ""


def test_the_receivers_own_word_on_when_is_heeded():
    reply = Reply(Outcome.DEFERRED, Blame.RATE, "429", retry_after_s=900.0)

    assert step(reply).due_at >= AT + 900
