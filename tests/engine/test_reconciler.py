"""The reconciler's loop in virtual time: who is asked, when, and what trouble with the asking costs."""

import asyncio
from types import SimpleNamespace

import pytest

from rotord.core.lookups import Found, Missing, Sought, Timetable, Trouble, Unclear
from rotord.engine.reconciler import FIRST_PAUSE_S, LASTING_S, LONGEST_PAUSE_S, MOST_UNCLEAR, Reconciler, Troubles
from tests.sim.simloop import SimLoop

GRACE_S = 1800.0
HAD = Found("id", None, "accepted")


class Ledger:
    """Messages that are due until something is found or noted about them; the store of `Reconciler`."""

    def __init__(self, *ids, resend=()):
        self.due = [Sought(one, one << 20, f"<{one}@x>", "a@x.example", "r@x.example", 0.0, 0.0) for one in ids]
        self.resend = resend
        self.settled = []
        self.missing = []
        self.polls = 0

    async def due_look_ups(self, provider, now, timetable, limit):
        self.polls += 1
        return self.due[:limit]

    async def found(self, sought, what):
        self.due.remove(sought)
        self.settled.append(sought.outbox_id)
        return True

    async def missed(self, sought, now, *, complete):
        self.due.remove(sought)
        self.missing.append((sought.outbox_id, complete))
        if not complete:
            self.due.append(sought)  # those never asked after come first
        return complete and sought.outbox_id in self.resend


class LookUp:
    """Answers by message; an iterator's next, if it is one."""

    name = "api"
    timetable = Timetable(GRACE_S, GRACE_S, 3 * 86_400.0)

    def __init__(self, answers):
        self.answers = answers
        self.asked = []

    async def ask(self, sought):
        self.asked.append((asyncio.get_running_loop().time(), sought.outbox_id))
        answer = self.answers[sought.outbox_id]
        return answer if isinstance(answer, tuple) else next(answer)


def run(ledger, answers, for_s):
    """Let it work for so long; returns its look-up, how often the dispatcher was woken, and its notes at the end."""

    async def main():
        loop, stop, woken, look_up = asyncio.get_running_loop(), asyncio.Event(), [], LookUp(answers)
        parts = SimpleNamespace(store=ledger, clock=SimpleNamespace(now=loop.time))
        reconciler = Reconciler(parts, SimpleNamespace(wake=lambda: woken.append(loop.time())), {"api": look_up})
        loop.call_later(for_s, stop.set)
        await reconciler.run(stop)
        return look_up, len(woken), dict(reconciler.notes)

    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(main())


def test_what_is_found_is_settled_what_is_missing_is_noted_and_only_what_is_sent_again_wakes_the_dispatcher():
    ledger = Ledger(1, 2, 3, 4, resend=(3,))

    _, woken, notes = run(ledger, {1: HAD, 2: Missing(), 3: Missing(), 4: Unclear("veiled")}, 1.0)

    assert (ledger.settled, ledger.missing, woken, notes) == ([1], [(2, True), (3, True), (4, False)], 1, {})


def test_trouble_asks_nobody_for_a_while_and_is_noted_until_it_is_over():
    ledger = Ledger(1, 2)
    troubles = iter([Trouble("away"), Trouble("away"), HAD])

    look_up, _, notes = run(ledger, {1: troubles, 2: HAD}, 100.0)

    assert [at for at, _ in look_up.asked] == [0.0, FIRST_PAUSE_S, 3 * FIRST_PAUSE_S, 3 * FIRST_PAUSE_S]
    assert (ledger.settled, ledger.missing, notes) == ([1, 2], [], {})


def test_a_message_whose_look_up_always_breaks_does_not_hold_up_the_others():
    ledger = Ledger(1, 2)

    run(ledger, {1: Trouble("500"), 2: HAD}, 100.0)

    assert ledger.settled == [2]
    assert (1, False) in ledger.missing


@pytest.mark.parametrize(
    ("finding", "pause_s"),
    [
        (Trouble("429", 120.0), 120.0),
        (Trouble("429", 0.0), FIRST_PAUSE_S),
        (Trouble("429", 1e6), LONGEST_PAUSE_S),
        (Trouble("401", lasting=True), LASTING_S),
    ],
)
def test_how_long_nobody_is_asked(finding, pause_s):
    notes = {}

    assert pause_s == Troubles("api", notes).after(finding)
    assert notes == {"api": finding.reason}


def test_answers_that_say_nothing_are_trouble_when_there_are_many_in_a_row():
    troubles = Troubles("api", {})

    pauses = [troubles.after(Unclear("400")) for _ in range(MOST_UNCLEAR + 1)]

    assert pauses == [0.0] * (MOST_UNCLEAR - 1) + [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S]
    assert troubles.after(Missing()) == 0.0
    assert troubles.after(Unclear("400")) == 0.0


def test_without_anything_due_it_looks_only_now_and_then():
    ledger = Ledger()

    run(ledger, {}, 3600.0)

    assert ledger.polls <= 3600 / 15 + 1
