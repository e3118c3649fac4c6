"""One suite over both stores: what the simulation believes of the database is what the database does."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from rotord.core.limits import MonthUse
from rotord.core.model import Address, Blame, Client, Domain, Kind, Outcome, Reply, Status
from rotord.core.pool import Lane
from rotord.core.records import Begin, Cursor, LaneRequest, Next, Settlement, Step, Unfinished, Verdict
from rotord.db.connect import open_pool
from rotord.db.queue import FencedError
from rotord.db.store import PostgresStore
from rotord.engine.recovery import settle_by_journal
from rotord.journal import Journal

from .memory_store import Direct, MemoryStore
from .memory_tables import Tables

HOLDER, OTHER = UUID(int=1), UUID(int=2)
FLEET = """
INSERT INTO rotord.clients (slug) VALUES ('acme'), ('other');
INSERT INTO rotord.domains (name, client, providers) VALUES ('acme.example', 'acme', '{relay}'), ('other.example', 'other', '{relay}');
INSERT INTO rotord.addresses (email, domain) VALUES ('a@acme.example', 'acme.example'), ('b@acme.example', 'acme.example');
"""


class MemoryWorld:
    """People and apps, over the tables in memory."""

    def __init__(self) -> None:
        self.tables = Tables(time.time)
        self.store = MemoryStore(self.tables, Direct())

    async def set_up(self) -> None:
        self.tables.put_fleet(
            [Client("acme"), Client("other")],
            [Domain("acme.example", "acme", providers=("relay",)), Domain("other.example", "other", providers=("relay",))],
            [Address("a@acme.example", "acme.example"), Address("b@acme.example", "acme.example")],
        )

    async def insert(self, **columns):
        return self.tables.insert(**{"client": "acme", "recipient": "r@Example.org"} | columns)

    async def cancel(self, outbox_id):
        self.tables.cancel(outbox_id)

    async def suppress(self, recipient, client, reason):
        self.tables.suppress(recipient, client, reason)

    async def status(self, outbox_id):
        row = self.tables.queue.get(outbox_id)
        return self.tables.state[outbox_id].status if row is None else row.state

    async def ended(self, outbox_id):
        settled = self.tables.state[outbox_id]
        return settled.status, settled.sender, settled.attempts, settled.last_error

    async def row(self, outbox_id):
        row = self.tables.queue[outbox_id]
        return row.state, row.pin, row.pin_kind, row.attempts, row.message_id, row.last_error

    async def attempt(self, attempt_id):
        attempt = self.tables.attempts.get(attempt_id)
        return None if attempt is None else (attempt.outcome, attempt.number, attempt.epoch, attempt.blame)

    async def thread(self, key):
        thread = self.tables.threads[("acme", key)]
        return thread.sender, thread.last_message_id, thread.references

    async def pause(self, kind, name):
        self.tables.pause(kind, name)

    async def remove_address(self, email):
        self.tables.remove_address(email)

    async def disable_address(self, email):
        self.tables.put_fleet(addresses=[Address(email, email.partition("@")[2], status=Status.DISABLED)])

    @asynccontextmanager
    async def locked(self, outbox_id):
        self.tables.locked.add(outbox_id)
        yield
        self.tables.locked.discard(outbox_id)


class PostgresWorld:
    """The same over the real database."""

    def __init__(self, pool) -> None:
        self.pool = pool
        self.store = PostgresStore(pool)

    async def set_up(self) -> None:
        await self.pool.execute(FLEET)

    async def insert(self, **columns):
        values = {"client": "acme", "recipient": "r@Example.org", "subject": "s", "body_text": "b"} | columns
        places = [
            f"to_timestamp(${i}::float8)" if name in {"send_after", "expires_at"} else f"${i}" for i, name in enumerate(values, start=1)
        ]
        statement = f"INSERT INTO rotord.outbox ({', '.join(values)}) VALUES ({', '.join(places)}) RETURNING id"
        return await self.pool.fetchval(statement, *values.values())

    async def cancel(self, outbox_id):
        await self.pool.execute("UPDATE rotord.outbox SET cancelled_at = now() WHERE id = $1", outbox_id)

    async def suppress(self, recipient, client, reason):
        await self.pool.execute(
            "INSERT INTO rotord.suppressions (recipient, client, reason) VALUES ($1, $2, $3)", recipient, client, reason
        )

    async def status(self, outbox_id):
        return await self.pool.fetchval(
            "SELECT coalesce(q.state, s.status) FROM rotord.outbox o LEFT JOIN rotord.queue q USING (id) "
            "LEFT JOIN rotord.message_state s USING (id) WHERE o.id = $1",
            outbox_id,
        )

    async def ended(self, outbox_id):
        return tuple(
            await self.pool.fetchrow("SELECT status, sender, attempts, last_error FROM rotord.message_state WHERE id = $1", outbox_id)
        )

    async def row(self, outbox_id):
        return tuple(
            await self.pool.fetchrow(
                "SELECT state, pin, pin_kind, attempts, message_id, last_error FROM rotord.queue WHERE id = $1", outbox_id
            )
        )

    async def attempt(self, attempt_id):
        row = await self.pool.fetchrow("SELECT outcome, number, epoch, blame FROM rotord.attempts WHERE id = $1", attempt_id)
        return None if row is None else tuple(row)

    async def thread(self, key):
        row = await self.pool.fetchrow('SELECT sender, last_message_id, "references" FROM rotord.threads WHERE thread_key = $1', key)
        return tuple(row)

    async def pause(self, kind, name):
        await self.pool.execute("INSERT INTO rotord.pauses (kind, name) VALUES ($1, $2)", kind, name)

    async def remove_address(self, email):
        await self.pool.execute("DELETE FROM rotord.addresses WHERE email = $1", email)

    async def disable_address(self, email):
        await self.pool.execute("UPDATE rotord.addresses SET status = 'disabled' WHERE email = $1", email)

    @asynccontextmanager
    async def locked(self, outbox_id):
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM rotord.queue WHERE id = $1 FOR UPDATE", outbox_id)
            yield


@pytest.fixture(params=["memory", "postgres"])
def url(request):
    """Where the real database is; "" for the one in memory."""
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


def wanting(outbox_id, attempt_id, address="a@acme.example"):
    return Begin(outbox_id, attempt_id, address, "acme.example", "acme", "relay", 60.0, f"<{outbox_id}@acme.example>", time.time())


def ending(outbox_id, attempt_id, outcome, following, *, due_at=0.0, pin="", text="", blame=None):
    return Settlement(attempt_id, outbox_id, Reply(outcome, blame, text=text), time.time(), Step(following, due_at, pin))


SENT = (Outcome.ACCEPTED, Next.SENT)
REFUSED = (Outcome.REJECTED, Next.FAILED)
UNSURE = (Outcome.UNCERTAIN, Next.UNCERTAIN)
LATER = (Outcome.DEFERRED, Next.RETRY)


async def keys(store):
    return {row.lane: row.key for row in await store.lanes()}


async def claim(store, limit=10, after=None):
    return await store.candidates([LaneRequest(row.key, limit, after or Cursor()) for row in await store.lanes()])


# -- lanes, candidates, payloads -------------------------------------------------------------------------------------------------


async def test_a_lane_is_client_stream_kind_campaign_and_pin_and_only_queued_rows_make_one(world, store):
    await world.insert()
    await world.insert()
    await world.insert(kind="transactional", campaign="spring", stream="main")
    await world.insert(client="other", sender="O@other.example" if isinstance(world, PostgresWorld) else "o@other.example")
    await world.insert(stream="later", send_after=time.time() + 1000)

    assert {
        Lane("acme", "main", Kind.BULK),
        Lane("acme", "main", Kind.TRANSACTIONAL, "spring"),
        Lane("other", "main", Kind.BULK, "", "o@other.example", "sender"),
    } == set(await keys(store))


async def test_rows_pinned_to_one_address_for_different_reasons_have_lanes_of_their_own(world, store, term):
    named, greylisted = await world.insert(sender="a@acme.example"), await world.insert()
    await store.begin(term, [wanting(greylisted, 1 << 20)])
    await store.settle([ending(greylisted, 1 << 20, Outcome.DEFERRED, Next.RETRY, due_at=time.time(), pin="a@acme.example")])
    await store.ripen(time.time() + 1)
    found = await keys(store)

    assert {lane.pin_kind for lane in found} == {"sender", "retry"}
    assert await store.repin(found[Lane("acme", "main", Kind.BULK, "", "a@acme.example", "retry")], "") == 1
    assert (await world.row(named))[:3] == ("queued", "a@acme.example", "sender")


async def test_candidates_come_by_priority_then_due_then_id_after_the_cursor_up_to_the_limit(world, store):
    ids = [await world.insert(priority=priority) for priority in (0, 5, 0, 5, -1)]
    expected = [ids[1], ids[3], ids[0], ids[2], ids[4]]

    assert expected == [row.id for row in await claim(store)]
    first = await claim(store, 2)
    assert expected[:2] == [row.id for row in first]
    last = first[-1]
    assert expected[2:4] == [row.id for row in await claim(store, 2, Cursor(last.rank, last.due_at, last.id))]
    assert await store.candidates([LaneRequest(4711, 5, Cursor())]) == []


async def test_a_payload_brings_the_row_and_its_threads_chain(world, store, term):
    first = await world.insert(thread_key="t")
    second = await world.insert(thread_key="t")
    await store.begin(term, [wanting(first, 1 << 20)])
    await store.settle([ending(first, 1 << 20, *SENT)])

    (payload,) = await store.payloads([second, 4711])
    assert (second, "acme", "r@Example.org", f"<{first}@acme.example>", [f"<{first}@acme.example>"]) == (
        payload.id,
        payload.client,
        payload.recipient,
        payload.last_message_id,
        list(payload.references),
    )


# -- begin -----------------------------------------------------------------------------------------------------------------------


async def test_begin_writes_the_attempt_and_the_row_is_sending(world, store, term):
    message = await world.insert()

    assert {message: Verdict.SENDING} == await store.begin(term, [wanting(message, 1 << 20)])

    assert ("sending", "", "", 1, f"<{message}@acme.example>", None) == await world.row(message)
    assert await world.attempt(1 << 20) == (None, 1, 1, None)
    assert await store.begin(term, [wanting(message, 2 << 20)]) == {}
    assert None is await world.attempt(2 << 20)


@pytest.mark.parametrize(
    ("kind", "reason", "client", "verdict"),
    [
        ("bulk", "unsubscribe", "acme", Verdict.SUPPRESSED),
        ("bulk", "complaint", "other", Verdict.SENDING),
        ("bulk", "manual", None, Verdict.SUPPRESSED),
        ("transactional", "unsubscribe", "acme", Verdict.SENDING),
        ("transactional", "complaint", "acme", Verdict.SENDING),
        ("transactional", "hard_bounce", "acme", Verdict.SUPPRESSED),
        ("transactional", "manual", None, Verdict.SUPPRESSED),
    ],
)
async def test_begin_obeys_suppressions_by_kind_reason_and_client(world, store, term, kind, reason, client, verdict):
    message = await world.insert(kind=kind)
    await world.suppress("R@example.org", client, reason)

    assert {message: verdict} == await store.begin(term, [wanting(message, 1 << 20)])

    assert verdict == await world.status(message)
    assert (verdict is Verdict.SENDING) == (await world.attempt(1 << 20) is not None)


async def test_begin_ends_what_is_expired_and_what_was_cancelled_between_two_attempts(world, store, term):
    expired = await world.insert(expires_at=time.time() - 1)
    called_back = await world.insert()
    await store.begin(term, [wanting(called_back, 1 << 20)])
    await world.cancel(called_back)
    await store.settle([ending(called_back, 1 << 20, *LATER, due_at=time.time())])

    assert {expired: Verdict.EXPIRED} == await store.begin(term, [wanting(expired, 2 << 20), wanting(called_back, 3 << 20)])

    assert await world.ended(expired) == ("expired", None, 0, None)
    assert await world.ended(called_back) == ("cancelled", "a@acme.example", 1, "")


async def test_begin_passes_over_rows_that_somebody_has_locked(world, store, term):
    locked, free = await world.insert(), await world.insert()
    async with world.locked(locked):
        assert {free: Verdict.SENDING} == await store.begin(term, [wanting(locked, 1 << 20), wanting(free, 2 << 20)])

    assert await world.status(locked) == "queued"


async def test_only_the_holder_of_a_running_term_begins(world, store, term):
    message = await world.insert()
    await store.resign(term)
    with pytest.raises(FencedError):
        await store.begin(term, [wanting(message, 1 << 20)])

    newer = await store.win(OTHER, 60.0, "there")
    with pytest.raises(FencedError):
        await store.begin(term, [wanting(message, 1 << 20)])
    assert await world.status(message) == "queued"
    assert {message: Verdict.SENDING} == await store.begin(newer, [wanting(message, 1 << 20)])


# -- settle ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "following", "expected"),
    [
        (*SENT, ("sent", "a@acme.example", 1, None)),
        (*REFUSED, ("failed", "a@acme.example", 1, "words")),
    ],
)
async def test_settle_ends_a_message(world, store, term, outcome, following, expected):
    message = await world.insert()
    await store.begin(term, [wanting(message, 1 << 20)])
    settlement = ending(message, 1 << 20, outcome, following, text="words", blame=Blame.RECIPIENT)
    await store.settle([settlement])
    await store.settle([settlement])

    assert expected == await world.ended(message)
    assert (outcome, 1, 1, "recipient") == await world.attempt(1 << 20)


async def test_a_retry_is_scheduled_and_keeps_its_pin_or_takes_the_new_one(world, store, term):
    free, pinned = await world.insert(), await world.insert(sender="b@acme.example")
    await store.begin(term, [wanting(free, 1 << 20), wanting(pinned, 2 << 20, "b@acme.example")])
    due_at = time.time() + 1000
    await store.settle(
        [
            ending(free, 1 << 20, *LATER, due_at=due_at, pin="a@acme.example", text="later"),
            ending(pinned, 2 << 20, *LATER, due_at=due_at, pin="a@acme.example", text="later"),
        ]
    )

    assert ("scheduled", "a@acme.example", "retry", 1, f"<{free}@acme.example>", "later") == await world.row(free)
    assert ("scheduled", "b@acme.example", "sender", 1, f"<{pinned}@acme.example>", "later") == await world.row(pinned)
    assert (0, pytest.approx(due_at, abs=1e-3)) == ((ripened := await store.ripen(due_at - 1)).count, ripened.next_due_at)
    assert ((ripened := await store.ripen(due_at + 1)).count, ripened.next_due_at) == (2, None)
    again = [row for row in await claim(store) if row.id == free]
    assert [(1, f"<{free}@acme.example>")] == [(row.attempts, row.message_id) for row in again]


async def test_a_late_accepted_settles_what_recovery_made_uncertain(world, store, term):
    message = await world.insert()
    await store.begin(term, [wanting(message, 1 << 20)])
    await store.resign(term)
    newer = await store.win(OTHER, 60.0, "there")

    assert (newer.epoch, newer.ids_from) == (2, (1 << 20) + 1)
    assert await store.recover(newer) == 1
    assert await store.recover(newer) == 0
    assert await world.status(message) == "uncertain"
    await store.settle([ending(message, 1 << 20, *SENT)])
    assert await world.ended(message) == ("sent", "a@acme.example", 1, None)
    assert await world.attempt(1 << 20) == (Outcome.ACCEPTED, 1, 1, None)


async def test_recovery_of_an_old_term_does_nothing(world, store, term):
    message = await world.insert()
    await store.begin(term, [wanting(message, 1 << 20)])
    await store.resign(term)
    await store.win(OTHER, 60.0, "there")

    assert await store.recover(term) == 0
    assert await world.status(message) == "sending"


async def test_a_late_refusal_never_touches_a_message_with_a_newer_attempt(world, store, term):
    message = await world.insert()
    await store.begin(term, [wanting(message, 1 << 20)])
    await store.settle([ending(message, 1 << 20, *LATER, due_at=time.time() - 1)])
    await store.ripen(time.time())
    await store.begin(term, [wanting(message, 2 << 20)])
    await store.settle([ending(message, 1 << 20, *REFUSED), ending(message, 1 << 20, *LATER)])

    assert await world.status(message) == "sending"
    assert await world.attempt(2 << 20) == (None, 2, 1, None)
    assert await world.attempt(1 << 20) == (Outcome.DEFERRED, 1, 1, None)


async def test_a_message_called_back_on_the_wire_ends_cancelled_if_it_did_not_arrive_and_sent_if_it_did(world, store, term):
    refused, accepted = await world.insert(), await world.insert()
    await store.begin(term, [wanting(refused, 1 << 20), wanting(accepted, 2 << 20)])
    await world.cancel(refused)
    await world.cancel(accepted)

    assert [await world.status(refused), await world.status(accepted)] == ["sending", "sending"]
    await store.settle([ending(refused, 1 << 20, *LATER, due_at=time.time()), ending(accepted, 2 << 20, *SENT)])
    assert [await world.status(refused), await world.status(accepted)] == ["cancelled", "sent"]


async def test_a_message_called_back_while_it_waits_leaves_and_the_next_of_its_thread_goes(world, store):
    first, second = await world.insert(thread_key="t"), await world.insert(thread_key="t")
    assert [await world.status(first), await world.status(second)] == ["queued", "waiting"]
    await world.cancel(first)

    assert [await world.status(first), await world.status(second)] == ["cancelled", "queued"]


# -- threads ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outcome", "following"), [SENT, REFUSED, UNSURE])
async def test_the_next_of_a_thread_goes_when_the_first_is_settled_or_uncertain_from_the_same_address(
    world, store, term, outcome, following
):
    first, second, third = [await world.insert(thread_key="t") for _ in range(3)]
    await store.begin(term, [wanting(first, 1 << 20)])
    await store.settle([ending(first, 1 << 20, outcome, following)])

    assert await world.row(second) == ("queued", "a@acme.example", "thread", 0, None, None)
    assert await world.status(third) == "waiting"


async def test_a_retry_keeps_its_thread_waiting(world, store, term):
    first, second = [await world.insert(thread_key="t") for _ in range(2)]
    await store.begin(term, [wanting(first, 1 << 20)])
    await store.settle([ending(first, 1 << 20, *LATER, due_at=time.time())])

    assert [await world.status(first), await world.status(second)] == ["scheduled", "waiting"]
    assert await store.promote_stranded() == 0


async def test_the_chain_of_a_thread_has_each_message_once_in_the_order_they_went(world, store, term):
    first, second = [await world.insert(thread_key="t") for _ in range(2)]
    await store.begin(term, [wanting(first, 1 << 20)])
    await store.settle([ending(first, 1 << 20, *UNSURE)])
    await store.begin(term, [wanting(second, 2 << 20)])
    await store.settle([ending(second, 2 << 20, *SENT)])
    await store.settle([ending(first, 1 << 20, *SENT)])

    header = [f"<{first}@acme.example>", f"<{second}@acme.example>"]
    assert ("a@acme.example", header[1], header) == await world.thread("t")


async def test_what_a_begin_or_a_recovery_ended_strands_its_thread_until_the_next_look(world, store, term):
    suppressed, second, third = [await world.insert(thread_key="t", recipient=f"{n}@x.example") for n in range(3)]
    await world.suppress("0@x.example", None, "manual")
    await store.begin(term, [wanting(suppressed, 1 << 20)])
    assert await world.status(second) == "waiting"

    assert await store.promote_stranded() == 1
    assert [await world.status(second), await world.status(third)] == ["queued", "waiting"]
    assert await store.promote_stranded() == 0


# -- the timetable ---------------------------------------------------------------------------------------------------------------


async def test_ripening_gives_every_client_and_kind_a_batch(world, store):
    due_at = time.time() + 1000
    for _ in range(501):
        await world.insert(send_after=due_at)
    alone = await world.insert(client="other", send_after=due_at)
    later = await world.insert(kind="transactional", send_after=due_at + 50)

    ripened = await store.ripen(due_at + 1)
    assert (501, pytest.approx(due_at, abs=1e-3), "queued", "scheduled") == (
        ripened.count,
        ripened.next_due_at,
        await world.status(alone),
        await world.status(later),
    )
    assert (1, pytest.approx(due_at + 50, abs=1e-3)) == ((ripened := await store.ripen(due_at + 1)).count, ripened.next_due_at)


async def test_expiry_ends_what_waits_and_lets_its_thread_go(world, store, term):
    late = await world.insert(expires_at=time.time() - 1, thread_key="t")
    behind = await world.insert(thread_key="t")
    scheduled = await world.insert(expires_at=time.time() - 1, send_after=time.time() + 1000)
    ahead = await world.insert(expires_at=time.time() + 1000)

    assert await store.expire() == 2
    assert [await world.status(n) for n in (late, behind, scheduled, ahead)] == ["expired", "queued", "expired", "queued"]


async def test_repin_moves_a_lane_and_its_threads(world, store, term):
    first, second = [await world.insert(thread_key="t") for _ in range(2)]
    await store.begin(term, [wanting(first, 1 << 20)])
    await store.settle([ending(first, 1 << 20, *SENT)])
    key = (await keys(store))[Lane("acme", "main", Kind.BULK, "", "a@acme.example", "thread")]

    assert await store.repin(key, "b@acme.example") == 1
    assert await world.row(second) == ("queued", "b@acme.example", "thread", 0, None, None)
    assert (await world.thread("t"))[0] == "b@acme.example"
    key = (await keys(store))[Lane("acme", "main", Kind.BULK, "", "b@acme.example", "thread")]
    assert await store.repin(key, "") == 1
    assert await world.row(second) == ("queued", "", "", 0, None, None)


async def test_fail_lane_and_fail_row_say_why(world, store):
    lane, row = await world.insert(sender="gone@acme.example", thread_key="t"), await world.insert()
    behind = await world.insert(thread_key="t")
    key = (await keys(store))[Lane("acme", "main", Kind.BULK, "", "gone@acme.example", "sender")]

    assert await store.fail_lane(key, "it is gone") == 1
    await store.fail_row(row, "it has no body")
    await store.fail_row(row, "it has no body")
    assert await world.ended(lane) == ("failed", None, 0, "it is gone")
    assert await world.ended(row) == ("failed", None, 0, "it has no body")
    assert await world.status(behind) == "queued"


async def test_read_back_finds_the_attempts_that_were_committed(world, store, term):
    message = await world.insert()
    await store.begin(term, [wanting(message, 1 << 20)])

    assert [(1 << 20, message)] == [(row.attempt_id, row.outbox_id) for row in await store.read_back([1 << 20, 2 << 20])]


# -- lease -----------------------------------------------------------------------------------------------------------------------


async def test_one_holds_the_lease_and_each_term_has_a_new_epoch(store):
    first = await store.win(HOLDER, 60.0, "here")
    assert None is await store.win(OTHER, 60.0, "there")
    assert await store.renew(first, 60.0, 1.0)

    await store.resign(first)
    assert not await store.renew(first, 60.0, 1.0)
    second = await store.win(HOLDER, 60.0, "here")
    assert (first.epoch, second.epoch) == (1, 2)
    assert not await store.renew(first, 60.0, 1.0)
    await store.resign(first)
    assert await store.renew(second, 60.0, 1.0)


async def test_a_lease_that_ran_out_is_not_renewed_but_won(store):
    first = await store.win(HOLDER, 0.0, "here")
    assert not await store.renew(first, 60.0, 1.0)
    second = await store.win(OTHER, 60.0, "there")
    assert (second.epoch, second.holder) == (2, OTHER)


# -- a term's beginning ----------------------------------------------------------------------------------------------------------


async def test_the_past_has_every_attempt_of_a_day_and_counts_each_at_its_finish_or_deadline(world, store, term):
    now = time.time()
    ids = [(int(now * 1000) << 20) + n for n in range(4)]
    messages = [await world.insert(campaign=campaign) for campaign in ("spring", None, "spring", None)]
    await store.begin(term, [wanting(message, attempt) for message, attempt in zip(messages, ids, strict=True)])
    await store.settle([ending(messages[0], ids[0], *SENT), ending(messages[1], ids[1], *REFUSED), ending(messages[2], ids[2], *UNSURE)])

    past = await store.past(now)
    rows = past.answers
    assert {Outcome.ACCEPTED, Outcome.REJECTED, Outcome.UNCERTAIN, None} == {row.outcome for row in rows}
    unfinished = rows[-1]
    assert (None, pytest.approx(unfinished.began_at + 60.0, abs=1.0)) == (unfinished.outcome, unfinished.counts_at)
    assert unfinished[:4] == ("a@acme.example", "acme.example", "acme", "relay")
    assert all(row.counts_at == pytest.approx(now, abs=30.0) for row in rows[:-1])
    plain, spring = sorted(past.uses, key=lambda use: use.campaign)
    assert plain[:4] == spring[:4] == ("a@acme.example", "acme.example", "acme", "relay")
    assert (list(plain.used), spring.campaign) == ([unfinished.counts_at], "spring")
    assert list(plain.given_back) == [row.counts_at for row in rows if row.outcome is Outcome.REJECTED]
    assert sorted(spring.used) == [row.counts_at for row in rows if row.outcome in {Outcome.ACCEPTED, Outcome.UNCERTAIN}]
    assert await store.past(now + 100_000) == ([], [])


async def test_a_month_counts_every_request_also_those_of_a_finished_day_that_nobody_rolled_up(world, store, term):
    noon = 1_794_916_800.0 + 43_200.0  # 2026-11-17, 12:00 UTC
    for days_ago in (20, 1, 0):
        message = await world.insert()
        await store.begin(term, [wanting(message, int((noon - 86_400 * days_ago) * 1000) << 20)])

    assert await store.month_use(noon) == {"relay": MonthUse(2)}


async def test_what_began_in_the_last_ten_minutes_of_a_month_counts_in_both(world, store, term):
    december = 1_796_083_200.0  # 2026-12-01, 00:00 UTC
    for at in (december - 601, december - 599, december + 1):
        message = await world.insert()
        await store.begin(term, [wanting(message, int(at * 1000) << 20)])

    assert await store.month_use(december - 1) == {"relay": MonthUse(3, late=2)}
    assert await store.month_use(december + 1) == {"relay": MonthUse(2)}


async def test_the_fleet_is_read_whole_and_then_by_changes(world, store):
    fleet = await store.fleet()
    assert ({"acme", "other"}, {"acme.example", "other.example"}, {"a@acme.example", "b@acme.example"}, frozenset()) == (
        {client.slug for client in fleet.clients},
        {domain.name for domain in fleet.domains},
        {address.email for address in fleet.addresses},
        fleet.paused,
    )
    await world.pause("stream", "acme/main")
    await world.remove_address("b@acme.example")
    await world.disable_address("a@acme.example")

    changes = await store.fleet_changes(fleet.mark)
    assert (frozenset({("stream", "acme/main")}), ["b@acme.example"]) == (changes.paused, list(changes.gone_addresses))
    assert [(address.email, address.status) for address in changes.addresses] == [("a@acme.example", Status.DISABLED)]
    assert (
        list((nothing := await store.fleet_changes(changes.mark)).clients),
        list(nothing.gone_addresses),
        nothing.paused,
    ) == ([], [], None)


async def test_a_new_term_knows_who_led_before_it_and_what_that_one_left_unfinished(world, store, term):
    message, done = await world.insert(), await world.insert()
    await store.begin(term, [wanting(message, 1 << 20), wanting(done, 2 << 20)])
    await store.settle([ending(done, 2 << 20, *SENT)])
    await store.resign(term)
    newer = await store.win(OTHER, 60.0, "there")

    assert (term.previous, newer.previous) == (None, HOLDER)
    assert [Unfinished(1 << 20, message)] == await store.cut_off(term.epoch)
    assert await store.cut_off(newer.epoch) == []
    await store.recover(newer)
    assert await store.cut_off(term.epoch) == []


async def test_what_a_dead_leaders_journal_proves_is_settled_before_the_rest(world, store, term, tmp_path):
    answered, silent, early = [await world.insert() for _ in range(3)]
    attempts = {answered: 1 << 20, silent: 2 << 20, early: 3 << 20}
    await store.begin(term, [wanting(message, attempt) for message, attempt in attempts.items()])
    dead = Journal(tmp_path, 16)
    dead.open(term.holder, term.epoch)
    dead.leaving(attempts[answered])
    dead.leaving(attempts[silent])
    dead.answered(ending(answered, attempts[answered], *SENT))
    dead.close()
    await store.resign(term)
    newer = await store.win(OTHER, 60.0, "here")
    journal = Journal(tmp_path, 16)

    assert await settle_by_journal(store, newer, journal) == 2
    assert await store.recover(newer) == 1
    journal.close()
    assert [await world.status(message) for message in (answered, silent, early)] == ["sent", "uncertain", "scheduled"]
