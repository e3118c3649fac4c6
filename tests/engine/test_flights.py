"""A message in the air when the right to send is lost, at whatever moment."""

import asyncio

import pytest

from rotord.core.model import Address, Client, Domain, Kind, Outcome, ProviderLimits, Reply
from rotord.core.pool import Lane, SenderPool
from rotord.core.records import Candidate
from rotord.core.settling import RetryPolicy
from rotord.engine.clock import DatabaseClock
from rotord.engine.flights import Flights
from rotord.engine.planned import Planned


class Ledger:
    """Keeps what the flights hand to the recorder."""

    def __init__(self):
        self.settlements = []

    def put(self, settlement):
        self.settlements.append(settlement)


class Slot:
    """Hangs in `send`, its body on the wire or not; says how it ended."""

    def __init__(self, *, body_left):
        self.body_left = False
        self._leaves = body_left
        self.sending = asyncio.Event()
        self.answer = asyncio.Event()
        self.is_free = False

    async def send(self, leaving):
        leaving()
        self.body_left = self._leaves
        self.sending.set()
        try:
            await self.answer.wait()
        finally:
            self.is_free = True
        return Reply(Outcome.ACCEPTED)

    def give_back(self):
        self.is_free = True


@pytest.fixture
def ledger():
    return Ledger()


class Notes:
    """A journal in memory."""

    def __init__(self):
        self.left = []

    def leaving(self, attempt_id):
        self.left.append(attempt_id)

    def answered(self, settlement):
        self.left.append((settlement.attempt_id, settlement.reply.outcome))


@pytest.fixture
def journal():
    return Notes()


@pytest.fixture
async def flights(ledger, journal):
    loop = asyncio.get_running_loop()
    return Flights(pool(), ledger, DatabaseClock(1e9, loop.time(), loop.time), RetryPolicy(), lambda: True, journal)


def pool():
    one = SenderPool([ProviderLimits("relay")])
    one.put_client(Client("acme"))
    one.put_domain(Domain("acme.example", "acme", providers=("relay",)))
    one.put_address(Address("a@acme.example", "acme.example"))
    one.providers["relay"].slots = 1
    return one


def flight(flights, slot):
    assignment = flights._pool.choose(Lane("acme", "main", Kind.BULK), 1e9)
    candidate = Candidate(1, 0, 0, 0.0, 100, 0, None, None, None)
    return Planned(candidate, assignment, slot, 7, "<1@acme.example>")


async def test_a_task_that_never_ran_gives_its_slot_back_and_lands(flights, ledger):
    slot = Slot(body_left=True)
    async with asyncio.TaskGroup() as group:
        flights.launch(group, flight(flights, slot), 2e9)
        flights.abort_unsent()

    assert slot.is_free
    assert [settlement.reply.outcome for settlement in ledger.settlements] == [Outcome.NOT_SENT]
    assert flights.count == 0


@pytest.mark.parametrize(("body_left", "outcome"), [(False, Outcome.NOT_SENT), (True, Outcome.ACCEPTED)])
async def test_what_has_not_left_is_cut_and_what_has_is_waited_for(flights, ledger, body_left, outcome):
    slot = Slot(body_left=body_left)
    async with asyncio.TaskGroup() as group:
        flights.launch(group, flight(flights, slot), 2e9)
        await slot.sending.wait()
        flights.abort_unsent()
        slot.answer.set()

    assert [settlement.reply.outcome for settlement in ledger.settlements] == [outcome]
    assert flights.count == 0


async def test_what_is_cut_on_the_wire_counts_until_its_deadline(flights, ledger):
    slot = Slot(body_left=True)

    async def drain():
        async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as group:
            flights.launch(group, flight(flights, slot), 2e9)
            await slot.sending.wait()
            limit.reschedule(0)
            await slot.answer.wait()

    with pytest.raises(TimeoutError):
        await drain()

    assert [(cut.reply.outcome, cut.finished_at) for cut in ledger.settlements] == [(Outcome.UNCERTAIN, None)]


async def test_the_journal_is_told_that_it_leaves_and_what_was_answered(flights, journal):
    slot = Slot(body_left=True)
    async with asyncio.TaskGroup() as group:
        flights.launch(group, flight(flights, slot), 2e9)
        await slot.sending.wait()
        assert journal.left == [7]
        slot.answer.set()

    assert journal.left == [7, (7, Outcome.ACCEPTED)]
