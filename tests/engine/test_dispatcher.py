"""When the dispatcher looks again."""

import asyncio
from uuid import UUID

import pytest

from rotord.core.mime import RenderError
from rotord.core.model import Address, Client, Domain, ProviderLimits
from rotord.core.pool import SenderPool
from rotord.core.settling import RetryPolicy
from rotord.engine.clock import DatabaseClock
from rotord.engine.dispatcher import TICK_S, Dispatcher, EngineConfig
from rotord.engine.flights import Flights
from rotord.engine.launch import TermParts
from rotord.engine.limbo import Limbo
from rotord.engine.recorder import Recorder
from tests.sim.fake_provider import Receiver, SimProvider, SimSlot
from tests.sim.memory_store import Direct, MemoryStore
from tests.sim.memory_tables import Tables
from tests.sim.node import PREPARATION

FLEET = [Client("acme")], [Domain("acme.example", "acme", providers=("relay",))], [Address("a@acme.example", "acme.example")]


class SlowLook(MemoryStore):
    """A database whose looks for lanes wait for the test."""

    def __init__(self, tables):
        super().__init__(tables, Direct())
        self.looking, self.may_end = asyncio.Event(), asyncio.Event()

    async def lanes(self):
        rows = await super().lanes()
        self.looking.set()
        await self.may_end.wait()
        return rows


class SlowBegin(MemoryStore):
    """A database whose begins wait for the test."""

    def __init__(self, tables):
        super().__init__(tables, Direct())
        self.asked, self.may_end = [], asyncio.Event()

    async def begin(self, term, begins):
        self.asked.append([one.outbox_id for one in begins])
        await self.may_end.wait()
        return await super().begin(term, begins)


class PickySlot(SimSlot):
    def prepare(self, envelope):
        if envelope.message.subject == "Hello":
            raise RenderError("This API takes no greeting.")
        super().prepare(envelope)


class Picky(SimProvider):
    """A provider that cannot be given every message."""

    def take(self):
        self._in_flight += 1
        return PickySlot(self)


def built(tables, store, clock, limits=(), provider_class=SimProvider):
    """A dispatcher with one address, and its pool."""
    pool = SenderPool([ProviderLimits("relay", **dict(limits))])
    for put, values in zip((pool.put_client, pool.put_domain, pool.put_address), FLEET, strict=True):
        put(values[0])
    flights = Flights(pool, Recorder(store), clock, RetryPolicy(), lambda: True)
    provider = provider_class(Receiver("relay", 1, clock.now), 5, lambda _moment: None)
    parts = TermParts(store, tables.win(UUID(int=1), 1e3), pool, flights, clock, Limbo(store, pool, flights, clock))
    return Dispatcher(parts, {"relay": provider}, PREPARATION, EngineConfig()), pool


def tables_with_a_row(clock):
    tables = Tables(clock.now)
    tables.put_fleet(*FLEET)
    tables.insert(client="acme", recipient="r@example.org", subject="Hello")
    return tables


async def test_a_slow_look_for_lanes_holds_up_no_turn():
    clock = DatabaseClock(1e9, 0.0, lambda: 0.0)
    tables = tables_with_a_row(clock)
    store = SlowLook(tables)
    dispatcher, _ = built(tables, store, clock)
    dispatcher.backlog.replace(tables.lanes(), 1e9 - 10, 1.0)  # the one before took a second

    async with asyncio.TaskGroup() as group:
        assert await dispatcher._turn(group)
        await store.looking.wait()
        tables.insert(client="acme", recipient="r@example.org", subject="Another")
        assert not await dispatcher._turn(group)
        assert 0 < dispatcher._idle_s() <= 1.0
        store.may_end.set()

    assert [row.state for row in tables.queue.values()] == ["sending", "queued"]
    assert dispatcher._looked is not None


async def test_what_waits_for_its_begin_is_not_reserved_again_by_the_turns_beside_it():
    spent = 0.0
    clock = DatabaseClock(1e9, 0.0, lambda: spent)
    tables = tables_with_a_row(clock)
    store = SlowBegin(tables)
    dispatcher, _ = built(tables, store, clock)

    async with asyncio.TaskGroup() as group:
        assert await dispatcher._turn(group)
        await asyncio.sleep(0)
        tables.insert(client="acme", recipient="r@example.org", subject="Another")
        spent = 2.0  # the look takes the cursor back to the first row, which is queued still
        assert await dispatcher._turn(group)
        await asyncio.sleep(0)
        first, second = tables.queue
        assert store.asked == [[first], [second]]
        store.may_end.set()

    assert not dispatcher._departures.under_way


@pytest.mark.parametrize("thinks_s", [0.05, 0.2])
async def test_a_lane_that_opens_while_a_turn_goes_on_is_not_slept_past(thinks_s):
    spent = 0.0
    clock = DatabaseClock(1e9, 0.0, lambda: spent)
    tables = tables_with_a_row(clock)
    dispatcher, pool = built(tables, MemoryStore(tables, Direct()), clock, {"per_second": 10.0})
    bucket = pool.providers["relay"].bucket
    while bucket.free_at(1e9) == 1e9:
        bucket.take(1e9)

    async with asyncio.TaskGroup() as group:
        assert not await dispatcher._turn(group)
    opens_in_s = bucket.free_at(1e9) - 1e9
    spent = thinks_s

    assert opens_in_s == pytest.approx(0.1, abs=0.02)
    assert dispatcher._idle_s() == pytest.approx(max(TICK_S, opens_in_s - thinks_s))


@pytest.mark.parametrize(("rows", "wakes"), [(4, False), (6, True)], ids=["nobody-waits", "one-waits-for-a-slot"])
async def test_a_slot_that_comes_free_takes_a_turn_only_while_somebody_waits_for_one(rows, wakes):
    clock = DatabaseClock(1e9, 0.0, lambda: 0.0)
    tables = tables_with_a_row(clock)
    for number in range(1, rows):
        tables.insert(client="acme", recipient="r@example.org", subject=f"Another {number}")
    store = SlowBegin(tables)
    dispatcher, _ = built(tables, store, clock)
    stop = asyncio.Event()

    async with asyncio.TaskGroup() as group:
        group.create_task(dispatcher.run(group, stop))
        await asyncio.sleep(0.05)
        assert [len(ids) for ids in store.asked] == [min(rows, 5)]
        assert not dispatcher._wake.is_set()
        dispatcher._came_free()
        assert dispatcher._wake.is_set() is wakes
        stop.set()
        dispatcher.nudge()
        store.may_end.set()


async def test_a_row_that_its_provider_cannot_be_given_fails_alone_before_an_attempt():
    clock = DatabaseClock(1e9, 0.0, lambda: 0.0)
    tables = tables_with_a_row(clock)
    tables.insert(client="acme", recipient="r@example.org", subject="Another")
    store = SlowBegin(tables)
    dispatcher, pool = built(tables, store, clock, provider_class=Picky)

    async with asyncio.TaskGroup() as group:
        assert await dispatcher._turn(group)
        await asyncio.sleep(0)
        [other] = tables.queue
        assert store.asked == [[other]]
        assert pool.addresses["a@acme.example"].cap.held == 1
        assert dispatcher._providers["relay"].ready() == 4
        store.may_end.set()
