"""The stride ring against a list that is searched from end to end, and its shares over many turns."""

from math import ceil, inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from rotord.core.rotation import ONE_TURN, WAKE_AT_MOST, StrideRing

AT = 1_795_000_000.0
WEIGHTS = st.sampled_from([0.25, 1.0, 2.0, 8.0, 64.0])


class Naive:
    """One member of the model: its pass and until when it is parked."""

    def __init__(self, number, pass_, weight):
        self.number, self.pass_, self.weight, self.until = number, pass_, weight, -inf

    @property
    def turn(self):
        return int(ONE_TURN / self.weight)


class RingMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.ring = StrideRing()
        self.model: dict[object, Naive] = {}
        self.now = AT
        self.virtual = 0
        self.added = 0

    members = Bundle("members")

    def ready(self):
        return [naive for naive in self.model.values() if naive.until == -inf]

    def settle_virtual(self):
        if ready := self.ready():
            self.virtual = max(self.virtual, min(naive.pass_ for naive in ready))

    def wake(self):
        asleep = sorted((naive for naive in self.model.values() if -inf < naive.until <= self.now), key=lambda n: (n.until, n.number))
        if asleep:
            self.settle_virtual()
        for naive in asleep:
            naive.until, naive.pass_ = -inf, max(naive.pass_, self.virtual)

    @rule(target=members, weight=WEIGHTS, used=st.integers(0, 3))
    def add(self, weight, used):
        member = self.ring.add(object(), weight, used)
        self.added += 1
        self.model[member] = Naive(self.added, max(self.virtual, int((used + 0.5) * ONE_TURN / weight)), weight)
        return member

    @rule(member=consumes(members))
    def remove(self, member):
        self.ring.remove(member)
        self.ring.remove(member)
        del self.model[member]

    @rule()
    def first(self):
        self.wake()
        self.settle_virtual()
        ready = self.ready()
        found = self.ring.first(self.now)
        if not ready:
            assert found is None
            assert self.ring.next_at() == min((naive.until for naive in self.model.values()), default=inf)
            return

        assert self.model[found] is min(ready, key=lambda naive: (naive.pass_, naive.number))
        assert self.ring.next_at() == -inf
        assert self.ring.virtual == self.virtual

    @rule(member=members, times=st.integers(1, 3))
    def charge(self, member, times):
        for _ in range(times):
            member.charge()
            self.model[member].pass_ += self.model[member].turn

    @rule(member=members)
    def refund(self, member):
        self.ring.refund(member)
        naive = self.model[member]
        naive.pass_ = max(0, naive.pass_ - naive.turn)

    @rule(member=members, wait=st.sampled_from([0.0, 1.0, 60.0, 3600.0, inf]))
    def park(self, member, wait):
        self.ring.park(member, self.now + wait)
        self.model[member].until = self.now + wait

    @rule(member=members)
    def free(self, member):
        self.ring.free(member)
        naive = self.model[member]
        if naive.until > -inf:
            naive.until, naive.pass_ = -inf, max(naive.pass_, self.virtual)

    @rule(member=members, weight=WEIGHTS)
    def reweigh(self, member, weight):
        self.ring.reweigh(member, weight)
        naive = self.model[member]
        if weight != naive.weight:
            turn = naive.turn
            naive.weight = weight
            naive.pass_ = self.virtual + max(0, naive.pass_ - self.virtual) * naive.turn // turn

    @precondition(lambda self: self.model)
    @rule(count=st.integers(1, 150))
    def churn(self, count):
        """One member parked and freed again and again must not fill the heaps."""
        member, naive = next(iter(self.model.items()))
        for _ in range(count):
            self.ring.park(member, self.now + 7)
            self.ring.free(member)
            naive.until, naive.pass_ = -inf, max(naive.pass_, self.virtual)

    @rule(seconds=st.sampled_from([0.5, 59.0, 3601.0]))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def sizes_are_bounded(self):
        assert len(self.ring) == len(self.model)
        assert len(self.ring.ready) <= 2 * len(self.model) + 65 + 2 * 40
        assert len(self.ring._asleep) <= 2 * len(self.model) + 65 + 2 * 40


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def turns(ring, count, now=AT):
    given = []
    for _ in range(count):
        member = ring.first(now)
        member.charge()
        given.append(member.item)
    return given


def test_turns_come_in_proportion_to_weight():
    ring = StrideRing()
    weights = {"a": 5.0, "b": 40.0, "c": 60.0, "d": 12.5, "e": 0.25}
    for name, weight in weights.items():
        ring.add(name, weight)
    count = 10_000
    given = turns(ring, count)
    for name, weight in weights.items():
        due = count * weight / sum(weights.values())

        assert abs(given.count(name) - due) <= 2


def test_equal_members_take_turns_one_after_the_other():
    ring = StrideRing()
    for name in "abc":
        ring.add(name, 3.0)

    assert "".join(turns(ring, 9)) == "abcabcabc"


def test_no_catch_up_burst_follows_a_pause():
    ring = StrideRing()
    members = {name: ring.add(name, 1.0) for name in "abcd"}
    turns(ring, 8)
    ring.park(members["a"], AT + 3600)

    assert "a" not in turns(ring, 300)

    back = turns(ring, 40, AT + 3600)

    assert back.count("a") == 10
    assert "aa" not in "".join(back)


def test_no_catch_up_burst_follows_a_pause_during_which_only_pins_were_charged():
    ring = StrideRing()
    members = {name: ring.add(name, 1.0) for name in "ab"}
    ring.park(members["a"], AT + 3600)
    for _ in range(100):
        members["b"].charge()

    assert turns(ring, 4, AT + 3600).count("a") == 2


def test_charges_for_pinned_messages_leave_the_shares_equal():
    ring = StrideRing()
    members = {name: ring.add(name, 1.0) for name in "abcd"}
    given = []
    for _ in range(100):
        members["a"].charge()
        given += ["a", *turns(ring, 3)]

    assert {name: given.count(name) for name in "abcd"} == dict.fromkeys("abcd", 100)


def test_a_member_whose_weight_falls_waits_as_many_turns_as_before():
    ring = StrideRing()
    ring.add("a", 1e-6)
    other = ring.add("b", 1e-6)
    for member in (other, ring.first(AT)):
        ring.reweigh(member, 40.0)

    assert "".join(turns(ring, 4)) == "abab"


def test_a_crowd_that_wakes_at_once_is_woken_in_parts():
    ring = StrideRing()
    count = 3 * WAKE_AT_MOST
    for member in [ring.add(number, 1.0) for number in range(count)]:
        ring.park(member, AT)
    ring.first(AT)

    assert len(ring._asleep) == count - WAKE_AT_MOST

    rounds = ceil(count / WAKE_AT_MOST)
    for _ in range(rounds):
        ring.first(AT)

    assert not ring._asleep


def test_members_that_come_and_go_leave_nothing_behind():
    ring = StrideRing()
    ring.add("stays", 1.0)
    for number in range(1000):
        member = ring.add(number, 1.0)
        if number % 2:
            ring.park(member, AT + number)
        ring.remove(member)

    assert len(ring) == 1
    assert len(ring.ready) + len(ring._asleep) <= 2 * (2 * 2 + 65)
    assert ring.first(AT + 2000).item == "stays"
