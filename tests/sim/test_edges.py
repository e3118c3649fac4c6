"""Edges that the simulation found, each alone."""

from __future__ import annotations

import asyncio

from rotord.core.model import Address, Client, Domain, Kind, Message, Outcome, ProviderLimits, Sender
from rotord.core.past import LedgerRow, past_of
from rotord.core.pool import Assignment, Lane, SenderPool
from rotord.core.rebuilding import rebuild
from rotord.core.records import Candidate
from rotord.core.settling import RetryPolicy
from rotord.engine.clock import DatabaseClock
from rotord.engine.flights import Flights
from rotord.engine.planned import Planned
from rotord.engine.recorder import Recorder
from rotord.providers.base import Envelope

from .fake_provider import Receiver, SimProvider
from .memory_store import Direct, MemoryStore
from .memory_tables import Tables
from .simloop import SimLoop


def test_a_clock_opens_by_its_earlier_edge_and_books_by_its_later_one():
    monotonic = iter([14.0, 20.0, 20.0])
    clock = DatabaseClock(1000.0, asked_at=11.0, monotonic=lambda: next(monotonic))

    # The answer, 1000, was given between 11 and 14 on the node; at 20 it is between 6 and 9 s old.
    assert (clock.now(), clock.latest()) == (1006.0, 1009.0)


def pool_of_one() -> SenderPool:
    pool = SenderPool([ProviderLimits("relay")])
    pool.put_client(Client("acme"))
    pool.put_domain(Domain("acme.example", "acme", providers=("relay",)))
    pool.put_address(Address("a@acme.example", "acme.example", per_hour=1))
    pool.providers["relay"].slots = 1
    return pool


def fly(start_by: float) -> tuple[Receiver, SenderPool, Recorder]:
    """Launch one message at 100 s; the attempt's deadline holds for a send that starts by `start_by`."""

    async def main() -> tuple[Receiver, SenderPool, Recorder]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(100.0)
        pool, receiver = pool_of_one(), Receiver("relay", 1, loop.time)
        recorder = Recorder(MemoryStore(Tables(loop.time), Direct()))
        flights = Flights(pool, recorder, DatabaseClock(loop.time(), loop.time(), loop.time), RetryPolicy(), lambda: True)
        assignment = pool.choose(Lane("acme", "main", Kind.BULK), loop.time())
        assert isinstance(assignment, Assignment)
        provider = SimProvider(receiver, 1, lambda _moment: None)
        slot = provider.take()
        assert slot is not None
        message = Message(1, "acme", "r@example.org", "s", "<1@acme.example>")
        candidate = Candidate(1, 1, 0, 0.0, 100, 0, None, None, None)
        slot.prepare(Envelope(1 << 20, Sender("a@acme.example"), message))
        flight = Planned(candidate, assignment, slot, 1 << 20, message.message_id)
        async with asyncio.TaskGroup() as group:
            flights.launch(group, flight, start_by)
        assert provider.ready() == 1
        return receiver, pool, recorder

    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(main())


def test_a_message_whose_task_runs_in_time_is_sent():
    receiver, _, recorder = fly(100.0)

    assert len(receiver.requests) == 1
    assert recorder.backlog == 1


def test_a_message_whose_daemon_stood_still_after_its_begin_is_not_sent_and_gives_its_place_back():
    receiver, pool, recorder = fly(99.0)

    assert receiver.requests == []
    assert pool.addresses["a@acme.example"].cap.room(100.0, Kind.BULK) == 1
    assert [settlement.reply.outcome for settlement in recorder._waiting] == [Outcome.NOT_SENT]


def test_an_address_that_was_gone_when_the_ledger_was_read_has_sent_what_it_sent():
    pool = pool_of_one()
    rebuild(pool, past_of([LedgerRow("b@acme.example", "acme.example", "acme", "relay", 90.0, 100.0, Outcome.ACCEPTED)]))
    pool.put_address(Address("b@acme.example", "acme.example", per_hour=1, used_day=2, used_day_at=50.0))
    cap = pool.addresses["b@acme.example"].cap

    assert cap.room(200.0, Kind.BULK) == 0
    assert cap.used_day == 3
