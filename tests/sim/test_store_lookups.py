"""The reconciler's statements over both stores."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from rotord.core.lookups import Found, Timetable
from rotord.core.model import Outcome
from rotord.core.records import Verdict
from rotord.db.connect import open_pool
from rotord.db.reconcile import MOST_RESENDS

from .test_store_suite import HOLDER, LATER, REFUSED, SENT, UNSURE, MemoryWorld, PostgresWorld, ending, wanting

HOUR = 3600.0
TIMES = Timetable(grace_s=HOUR, again_s=2 * HOUR, retention_s=100 * HOUR)
FIRST = 1 << 20


@pytest.fixture(params=["memory", "postgres"])
def url(request):
    return "" if request.param == "memory" else request.getfixturevalue("database_url")


@pytest.fixture
async def world(url):
    if not url:
        world = MemoryWorld()
        await world.set_up()
        yield world
        return
    async with await open_pool(url, min_size=1, max_size=3) as pool:
        world = PostgresWorld(pool)
        await world.set_up()
        yield world


@pytest.fixture
def store(world):
    return world.store


@pytest.fixture
async def term(store):
    return await store.win(HOLDER, 60.0, "here")


async def make_uncertain(world, term, attempt_id=FIRST, **columns):
    message = await world.insert(**columns)
    await world.store.begin(term, [wanting(message, attempt_id)])
    await world.store.settle([ending(message, attempt_id, *UNSURE, text="cut")])
    return message


async def due(store, in_s, provider="relay", limit=10):
    return await store.due_look_ups(provider, time.time() + in_s, TIMES, limit)


async def only(store):
    (sought,) = await due(store, 1.1 * HOUR)
    return sought


async def test_a_message_is_due_when_its_grace_is_over_and_no_more_once_the_provider_has_forgotten_it(world, store, term):
    message = await make_uncertain(world, term)

    assert await due(store, 0.9 * HOUR) == []
    assert await due(store, 1.1 * HOUR, provider="another") == []
    (sought,) = await due(store, 1.1 * HOUR)
    assert (message, FIRST, f"<{message}@acme.example>", "a@acme.example", "r@Example.org", 0) == (
        sought.outbox_id,
        sought.attempt_id,
        sought.message_id,
        sought.sender,
        sought.recipient,
        sought.look_ups,
    )
    assert abs(sought.over_at - time.time()) < 5
    assert await store.due_look_ups("relay", sought.over_at + 2 * HOUR, replace(TIMES, grace_s=100 * HOUR), 10) == []


async def test_what_was_not_found_is_due_again_less_and_less_often(world, store, term):
    await make_uncertain(world, term)
    sought = await only(store)
    looked_at = time.time()
    for number, gap in enumerate((2, 4, 8, 16, 24, 24), start=1):
        assert not await store.missed(sought, looked_at, complete=True)

        assert await store.due_look_ups("relay", looked_at + gap * HOUR - 1, TIMES, 10) == []
        (sought,) = await store.due_look_ups("relay", looked_at + gap * HOUR + 1, TIMES, 10)
        assert number == sought.look_ups
        assert looked_at + gap * HOUR == pytest.approx(TIMES.due_at(sought.over_at, number, looked_at))
        looked_at += gap * HOUR
    await store.missed(sought, looked_at, complete=True)  # at 78 of the 100 hours
    assert await store.due_look_ups("relay", looked_at + 25 * HOUR, TIMES, 10) == []


async def test_those_never_asked_after_come_first(world, store, term):
    ids = [await make_uncertain(world, term, number << 20) for number in (1, 2, 3)]
    await store.missed((await due(store, 1.1 * HOUR))[0], time.time(), complete=True)

    assert [ids[1], ids[2], ids[0]] == [sought.outbox_id for sought in await due(store, 3 * HOUR)]
    assert [ids[1]] == [sought.outbox_id for sought in await due(store, 3 * HOUR, limit=1)]


async def test_found_is_sent_and_a_second_finding_changes_nothing(world, store, term):
    message = await make_uncertain(world, term)
    sought = await only(store)

    assert await store.found(sought, Found("id-1", time.time(), "accepted"))
    assert not await store.found(sought, Found("id-2", time.time(), "accepted"))

    assert await world.ended(message) == ("sent", "a@acme.example", 1, None)
    assert await world.attempt(FIRST) == (Outcome.ACCEPTED, 1, 1, None)
    assert await due(store, 50 * HOUR) == []


async def test_found_as_refused_is_failed(world, store, term):
    message = await make_uncertain(world, term, on_uncertain="resend")

    assert await store.found(await only(store), Found("id-1", None, "suppressed", refused=True))

    assert await world.ended(message) == ("failed", "a@acme.example", 1, "found by its look-up: suppressed")
    assert await world.attempt(FIRST) == (Outcome.REJECTED, 1, 1, None)


async def test_resend_puts_it_back_with_its_message_id_once_and_its_attempt_stays_uncertain(world, store, term):
    message = await make_uncertain(world, term, on_uncertain="resend")
    sought = await only(store)

    assert await store.missed(sought, time.time(), complete=True)
    assert not await store.missed(sought, time.time(), complete=True)

    state, pin, pin_kind, attempts, message_id, last_error = await world.row(message)
    assert ("queued", "", "", 1, f"<{message}@acme.example>") == (state, pin, pin_kind, attempts, message_id)
    assert last_error.startswith("may arrive twice")
    assert await world.attempt(FIRST) == (Outcome.UNCERTAIN, 1, 1, None)
    assert await due(store, 50 * HOUR) == []


async def test_late_news_of_the_first_attempt_does_not_touch_the_second(world, store, term):
    message = await make_uncertain(world, term, on_uncertain="resend")
    sought = await only(store)
    await store.missed(sought, time.time(), complete=True)
    await store.begin(term, [wanting(message, 2 << 20)])

    assert not await store.found(sought, Found("id-1", time.time(), "accepted"))

    assert await world.status(message) == "sending"
    assert [(await world.attempt(attempt))[0] for attempt in (FIRST, 2 << 20)] == [Outcome.ACCEPTED, None]


@pytest.mark.parametrize(("end", "expected"), [(SENT, "sent"), (REFUSED, "queued"), (LATER, "queued"), (UNSURE, "queued")])
async def test_a_late_acceptance_ends_what_was_put_back_and_nothing_else_does(world, store, term, end, expected):
    message = await make_uncertain(world, term, on_uncertain="resend")
    await store.missed(await only(store), time.time(), complete=True)

    await store.settle([ending(message, FIRST, *end)])

    assert await world.status(message) == expected
    assert end[0] == (await world.attempt(FIRST))[0]


@pytest.mark.parametrize(
    ("columns", "complete"),
    [({"on_uncertain": "hold"}, True), ({"on_uncertain": "resend"}, False), ({"on_uncertain": "resend", "expires_at": 0.5}, True)],
)
async def test_it_is_held_without_resend_after_an_unclear_answer_and_past_its_time(world, store, term, columns, complete):
    expires = {"expires_at": time.time() + columns["expires_at"] * HOUR} if "expires_at" in columns else {}
    message = await make_uncertain(world, term, **(columns | expires))

    assert not await store.missed(await only(store), time.time() + HOUR, complete=complete)

    assert await world.status(message) == "uncertain"
    assert (await world.row(message))[5] == "cut"


async def test_what_was_called_back_is_held_for_nothing_proves_that_it_was_in_time(world, store, term):
    message = await make_uncertain(world, term, on_uncertain="resend")
    await world.cancel(message)

    assert not await store.missed(await only(store), time.time(), complete=True)

    assert await world.status(message) == "uncertain"


async def test_a_second_uncertain_attempt_is_asked_after_anew_and_at_last_the_message_is_held(world, store, term):
    message = await make_uncertain(world, term, on_uncertain="resend")
    for number in range(1, MOST_RESENDS + 2):
        sought = await only(store)
        assert (number << 20, 0) == (sought.attempt_id, sought.look_ups)
        # its looks lie before the next begin, as they do in life
        resent = await store.missed(sought, time.time() - 1, complete=True)
        assert (number <= MOST_RESENDS) == resent
        if resent:
            await store.begin(term, [wanting(message, (number + 1) << 20)])
            await store.settle([ending(message, (number + 1) << 20, *UNSURE)])

    assert await world.status(message) == "uncertain"


async def test_in_its_thread_it_waits_for_the_one_that_went_on_and_keeps_the_threads_address(world, store, term):
    first = await make_uncertain(world, term, on_uncertain="resend", thread_key="t")
    second = await world.insert(thread_key="t")
    sought = await only(store)
    await store.begin(term, [wanting(second, 5 << 20)])

    await store.missed(sought, time.time(), complete=True)

    assert (await world.row(first))[:3] == ("queued", "a@acme.example", "thread")
    assert {first: Verdict.WAITING} == await store.begin(term, [wanting(first, 6 << 20)])
    await store.settle([ending(second, 5 << 20, *SENT)])
    assert await world.status(first) == "queued"
