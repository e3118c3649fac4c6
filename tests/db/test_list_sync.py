"""How far the exchange with providers' lists has come survives whatever cuts it off, and no suppression is passed over."""

import asyncio

import asyncpg
import pytest
from outbox_rows import add_fleet

from rotord.core.lookups import Trouble, Unclear
from rotord.core.suppression_lists import Added, Entry, ListKey, Page, Span
from rotord.db import forget, list_sync
from rotord.db.list_store import PostgresLists, Weighing
from rotord.db.list_sync import PushKey
from rotord.engine.list_sync import ListSync

HOUR = 3600.0
BOUNCES = ListKey("bounces", "acme.example")
ACMES = PushKey("mg", "acme.example", "acme", "manual")


class Lists:
    """One list of numbered pages, one address each; `cut_at`: the page that cannot be read."""

    name = "mg"
    of_domains = True
    batch = 2

    def __init__(self, pages=3, cut_at=None, answer=None):
        self.pages, self.cut_at, self.answer = pages, cut_at, answer or Trouble("away")
        self.asked = []
        self.added = []

    def keys(self, domains):
        return [ListKey("bounces", domain) for domain in domains]

    async def page(self, key, span, cursor):
        number = int(cursor or 0)
        self.asked.append(number)
        if number == self.cut_at:
            return self.answer
        return Page((Entry(f"r{number}@example.org", "hard_bounce"),), str(number + 1) if number + 1 < self.pages else "")

    async def add(self, domain, entries):
        self.added += [entry.recipient for entry in entries]
        return Added(len(entries))


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)
    await db.execute("UPDATE rotord.domains SET providers = '{relay}'")
    await db.execute("UPDATE rotord.domains SET providers = '{mg}' WHERE name = 'acme.example'")


def exchange(db, lists, every_s=HOUR, reasons=()):
    return ListSync(PostgresLists(db), {"mg": lists}, reasons, every_s).round(lists)


async def recipients(db):
    return [row[0] for row in await db.fetch("SELECT recipient FROM rotord.suppressions ORDER BY id")]


async def test_a_pass_that_was_cut_off_goes_on_where_it_was(db):
    first = Lists(pages=4, cut_at=2)
    done = await exchange(db, first)
    assert (first.asked, done.trouble) == ([0, 1, 2], Trouble("away"))
    assert await db.fetchval("SELECT fault FROM rotord.list_pulls") == "away"

    second = Lists(pages=4)
    assert (await exchange(db, second)).trouble is None
    assert second.asked == [2, 3]
    assert await recipients(db) == [f"r{n}@example.org" for n in range(4)]
    row = await db.fetchrow("SELECT cursor, began_at, passed_at IS NOT NULL AS passed, entries, fault FROM rotord.list_pulls")
    assert tuple(row) == ("", None, True, 4, "")


async def test_a_cursor_that_is_not_understood_begins_anew(db):
    await exchange(db, Lists(pages=4, cut_at=2))
    assert (await exchange(db, Lists(pages=4, cut_at=2, answer=Unclear("no such page")))).trouble is None
    last = Lists(pages=4)
    await exchange(db, last)

    assert last.asked == [0, 1, 2, 3]


async def test_the_next_pass_is_due_an_interval_after_the_begin_of_the_last_and_reads_what_is_new(db):
    await exchange(db, Lists())
    early = Lists()
    await exchange(db, early)
    assert early.asked == []

    await db.execute("UPDATE rotord.list_pulls SET passed_at = passed_at - interval '61 min'")
    began = await list_sync.begin(db, "mg", BOUNCES, HOUR)
    assert began.cursor == ""
    assert began.span == Span(pytest.approx(began.span.until - 61 * 60, abs=5), began.span.until)


async def test_a_row_that_an_open_transaction_brings_late_is_not_passed_over(db, database_url):
    await db.execute("INSERT INTO rotord.suppressions (client, recipient, reason) VALUES ('acme', 'first@example.org', 'manual')")
    other = await asyncpg.connect(database_url)
    try:
        late = other.transaction()
        await late.start()
        await other.execute("INSERT INTO rotord.suppressions (client, recipient, reason) VALUES ('acme', 'late@example.org', 'manual')")
        await db.execute("INSERT INTO rotord.suppressions (client, recipient, reason) VALUES ('acme', 'third@example.org', 'manual')")
        lists = Lists()
        await exchange(db, lists, reasons=["manual"])
        assert lists.added == []  # its id lies between the two others'

        await late.commit()
        await exchange(db, lists, reasons=["manual"])
    finally:
        await other.close()
    assert sorted(lists.added) == ["first@example.org", "late@example.org", "third@example.org"]
    await exchange(db, lists, reasons=["manual"])
    assert len(lists.added) == 3


async def test_additions_go_in_batches_and_those_that_were_cut_off_are_made_again(db):
    await db.executemany(
        "INSERT INTO rotord.suppressions (client, recipient, reason) VALUES ('acme', $1, 'manual')",
        [(f"r{n}@example.org",) for n in range(5)],
    )
    first = await list_sync.due(db, ACMES, 2)
    assert [entry.recipient for entry in first.entries] == ["r0@example.org", "r1@example.org"]
    assert await list_sync.due(db, ACMES, 2) == first  # nothing was written down
    await list_sync.pushed(db, ACMES, first.upto)
    assert await list_sync.waiting(db, ACMES) == 3

    lists = Lists()
    await exchange(db, lists, reasons=["manual"])
    assert lists.added == ["r2@example.org", "r3@example.org", "r4@example.org"]


@pytest.mark.parametrize("disabled", ["clients", "domains"])
async def test_an_account_is_shared_with_a_client_that_is_disabled_for_now(db, disabled):
    await db.execute("UPDATE rotord.domains SET providers = '{mg}'")
    await db.execute("INSERT INTO rotord.suppressions (client, recipient, reason) VALUES ('acme', 'acmes@example.org', 'manual')")
    await db.execute("INSERT INTO rotord.suppressions (recipient, reason) VALUES ('everybodys@example.org', 'manual')")
    name = {"clients": "slug = 'other'", "domains": "name = 'other.example'"}[disabled]
    await db.execute(f"UPDATE rotord.{disabled} SET status = 'disabled' WHERE {name}")
    lists = Lists(pages=1)
    lists.of_domains = False

    await exchange(db, lists, reasons=["manual"])
    assert lists.added == ["everybodys@example.org"]

    await db.execute("UPDATE rotord.domains SET providers = '{relay}' WHERE name = 'other.example'")
    await exchange(db, lists, reasons=["manual"])
    assert lists.added == ["everybodys@example.org", "acmes@example.org"]


async def test_what_the_provider_told_is_not_told_to_it(db):
    for source in ("list of mg", "event of mg", "event of relay", "cli"):
        await db.execute(
            "INSERT INTO rotord.suppressions (client, recipient, reason, source) VALUES ('acme', $1, 'hard_bounce', $2)",
            f"{source.replace(' ', '-')}@example.org",
            source,
        )
    await db.execute("INSERT INTO rotord.suppressions (client, recipient, reason) VALUES ('acme', 'ab12@forgotten.invalid', 'hard_bounce')")
    lists = Lists(pages=1)
    weighing = Weighing(db)
    await ListSync(weighing, {"mg": lists}, ["hard_bounce"], HOUR).round(lists)
    assert (weighing.waiting, lists.added) == ([(ACMES._replace(reason="hard_bounce"), 2)], [])
    await exchange(db, lists, reasons=["hard_bounce"])

    assert sorted(lists.added) == ["cli@example.org", "event-of-relay@example.org"]


async def test_what_is_covered_already_gets_no_second_row_and_what_is_stricter_does(db):
    held = {"manual": None, "hard_bounce": "acme", "complaint": "acme", "unsubscribe": None}
    for reason, client in held.items():
        await db.execute("INSERT INTO rotord.suppressions (client, recipient, reason) VALUES ($1, $2, $2 || '')", client, reason)
    await db.execute("UPDATE rotord.suppressions SET recipient = reason || '@example.org'")
    for listed in ("unsubscribe", "hard_bounce"):
        page = Page(tuple(Entry(f"{reason}@EXAMPLE.org", listed) for reason in held))
        new = await list_sync.take(db, "mg", BOUNCES, Span(None, 0.0), page, in_earnest=False)
        assert (new, await list_sync.take(db, "mg", BOUNCES, Span(None, 0.0), page)) == ((0, 0) if listed == "unsubscribe" else (2, 2))
    rows = await db.fetch("SELECT client, recipient FROM rotord.suppressions WHERE source = 'list of mg'")

    assert {tuple(row) for row in rows} == {("acme", "complaint@example.org"), ("acme", "unsubscribe@example.org")}


async def test_who_was_forgotten_is_not_brought_back_by_a_list(db):
    await forget.forget(db, "r0@example.org")
    lists = Lists(pages=1)
    for _ in range(2):
        await exchange(db, lists, every_s=0.0, reasons=["manual", "hard_bounce"])

    rows = await recipients(db)
    assert rows
    assert all(one.endswith("@forgotten.invalid") for one in rows)
    assert (lists.asked, lists.added) == ([0, 0], [])


async def test_two_at_once_add_each_row_once(db, database_url):
    others = [await asyncpg.connect(database_url) for _ in range(2)]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(exchange(other, Lists(pages=20))) for other in others]
    finally:
        for other in others:
            await other.close()

    assert [task.result().trouble for task in tasks] == [None, None]
    assert sorted(await recipients(db)) == sorted(f"r{n}@example.org" for n in range(20))


async def test_whoever_is_slower_of_two_does_not_move_the_next_pass(db):
    """As `rotord suppress sync apply` beside the leader: both read one pass, and the next has begun when the slower one has its page."""
    slow = await list_sync.begin(db, "mg", BOUNCES, 0.0)
    await exchange(db, Lists(), every_s=0.0)
    following = await list_sync.begin(db, "mg", BOUNCES, 0.0)

    for late in ("2", ""):
        await list_sync.take(db, "mg", BOUNCES, slow.span, Page((Entry("late@example.org", "hard_bounce"),), late))

        assert await list_sync.begin(db, "mg", BOUNCES, 0.0) == following

    assert "late@example.org" in await recipients(db)
