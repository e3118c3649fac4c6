"""The loop of the exchange with providers' lists, in virtual time: when it asks, and what trouble costs."""

import asyncio
from itertools import pairwise

from rotord.core.lookups import Trouble, Unclear
from rotord.core.suppression_lists import Added, Entry, ListKey, Page, Span
from rotord.db.list_sync import Carried, Pull
from rotord.engine.list_sync import CHECK_S, LONGEST_PAUSE_S, ListSync
from tests.sim.simloop import SimLoop

FINE = Page((Entry("r@example.org", "hard_bounce"),))
EVERY_S = 3600.0


class Store:
    """Every list is due at any time; what was done is noted."""

    def __init__(self):
        self.noted = []

    async def carried(self, provider):
        return [Carried("a.example", "a"), Carried("b.example", "b")]

    async def begin(self, provider, key, every_s):
        return Pull(Span(None, 0.0), "")

    async def due(self, key, limit):
        return None

    async def take(self, provider, key, span, page):
        self.noted.append(("took", key.domain))
        return 1

    async def pull_fault(self, provider, key, fault, *, anew):
        self.noted.append((fault, key.domain))

    async def failing(self, provider, reason):
        self.noted.append(("alert", reason))

    async def works(self, provider):
        self.noted.append(("works", provider))


class Lists:
    """Answers by domain; a list's next, if it is one."""

    name, of_domains, batch = "mg", True, 10

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    def keys(self, domains):
        return [ListKey("bounces", domain) for domain in domains]

    async def page(self, key, span, cursor):
        self.asked.append((asyncio.get_running_loop().time(), key.domain))
        answer = self.answers.get(key.domain[0], FINE)
        return (answer.pop(0) if answer else FINE) if isinstance(answer, list) else answer

    async def add(self, domain, entries):
        return Added(len(entries))


def run(lists, for_s):
    """Let it work for so long."""
    store = Store()

    async def work():
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(ListSync(store, {"mg": lists}, ["manual"], EVERY_S).run(stop))
            await asyncio.sleep(for_s)
            stop.set()

    with asyncio.Runner(loop_factory=SimLoop) as runner:
        runner.run(work())
    return store.noted


def times(lists, domain):
    return [at for at, asked in lists.asked if asked == domain]


def test_a_term_that_is_soon_over_asks_nothing():
    lists = Lists()
    run(lists, CHECK_S - 1)

    assert lists.asked == []


def test_a_list_that_cannot_be_read_waits_an_interval_and_holds_no_other_up():
    lists = Lists(a=Unclear("no such domain"))
    noted = run(lists, 3 * CHECK_S + 1)

    assert times(lists, "a.example") == [CHECK_S]
    assert times(lists, "b.example") == [CHECK_S, 2 * CHECK_S, 3 * CHECK_S]
    assert noted == [("no such domain", "a.example"), *[("took", "b.example")] * 3]


def test_trouble_is_asked_for_less_and_less_often_told_once_it_lasts_and_resolved():
    away = Trouble("away")
    lists = Lists(b=[away] * 4)
    noted = run(lists, 100 * EVERY_S)
    begun = times(lists, "a.example")

    assert [later - earlier for earlier, later in pairwise(begun[:5])] == [CHECK_S * factor for factor in (1, 2, 4, 8)]
    assert noted.count(("alert", "away")) == 2  # at the third and the fourth; the same alert
    assert noted.count(("works", "mg")) == 1
    assert noted.index(("works", "mg")) > noted.index(("took", "b.example"))


def test_what_only_a_person_can_mend_is_told_at_once_and_tried_again_seldom():
    lists = Lists(a=Trouble("401", lasting=True))
    noted = run(lists, 2 * LONGEST_PAUSE_S)

    assert ("alert", "401") in noted
    assert times(lists, "a.example") == [CHECK_S, CHECK_S + LONGEST_PAUSE_S]


def test_a_wait_that_the_provider_asks_for_is_kept():
    lists = Lists(a=[Trouble("429", 300.0)])
    run(lists, 500)

    assert times(lists, "a.example")[:2] == [CHECK_S, CHECK_S + 300]
