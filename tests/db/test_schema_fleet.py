"""An edit by plain SQL reaches the leader: a row in fleet_changes and a notification, and nothing when nothing changed."""

import asyncio

import asyncpg
import pytest
from outbox_rows import add_fleet


async def changes(db):
    rows = await db.fetch("WITH gone AS (DELETE FROM rotord.fleet_changes RETURNING *) SELECT kind, name FROM gone ORDER BY kind, name")
    return [tuple(row) for row in rows]


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)
    await db.execute(
        "INSERT INTO rotord.campaigns (client, name) VALUES ('acme', 'a/b'); INSERT INTO rotord.pauses VALUES ('stream', 'acme/main')"
    )


async def test_what_is_inserted_is_written_down(db):
    assert await changes(db) == [
        ("address", "a@acme.example"),
        ("address", "o@other.example"),
        ("campaign", "acme/a/b"),
        ("client", "acme"),
        ("client", "other"),
        ("domain", "acme.example"),
        ("domain", "other.example"),
        ("pause", "stream:acme/main"),
    ]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ("UPDATE rotord.clients SET per_hour = 5 WHERE slug = 'acme'", [("client", "acme")]),
        ("UPDATE rotord.domains SET providers = '{relay}' WHERE name = 'acme.example'", [("domain", "acme.example")]),
        ("UPDATE rotord.addresses SET per_day = 0 WHERE domain = 'acme.example'", [("address", "a@acme.example")]),
        ("UPDATE rotord.addresses SET health = 'cooling' WHERE domain = 'acme.example'", [("address", "a@acme.example")]),
        ("UPDATE rotord.campaigns SET status = 'paused'", [("campaign", "acme/a/b")]),
        ("DELETE FROM rotord.pauses", [("pause", "stream:acme/main")]),
        ("INSERT INTO rotord.pauses VALUES ('all', '')", [("pause", "all:")]),
        ("UPDATE rotord.addresses SET email = 'b@acme.example' WHERE email = 'a@acme.example'", [
            ("address", "a@acme.example"), ("address", "b@acme.example")]),
        ("DELETE FROM rotord.addresses; DELETE FROM rotord.domains WHERE client = 'other'", [
            ("address", "a@acme.example"), ("address", "o@other.example"), ("domain", "other.example")]),
        ("UPDATE rotord.clients SET slug = 'old' WHERE slug = 'other'", [
            ("client", "old"), ("client", "other"), ("domain", "other.example")]),
        ("UPDATE rotord.clients SET status = 'active'; UPDATE rotord.addresses SET per_day = NULL",
            []),
    ],
)  # fmt: skip
async def test_what_really_changed_is_written_down_by_both_its_names(db, edit, expected):
    await changes(db)
    await db.execute(edit)

    assert await changes(db) == expected


async def test_many_edits_in_one_transaction_are_one_notification(db, database_url):
    heard = asyncio.Queue()
    listener = await asyncpg.connect(database_url)
    await listener.add_listener("rotord_fleet", lambda *call: heard.put_nowait(call[3]))

    await db.execute("UPDATE rotord.clients SET status = status")
    await db.execute("UPDATE rotord.clients SET per_hour = 1; UPDATE rotord.addresses SET per_hour = 1")
    await db.execute("NOTIFY rotord_fleet, 'end'")

    assert [await asyncio.wait_for(heard.get(), 5) for _ in range(2)] == ["", "end"]
    await listener.close()


async def test_a_change_is_dated_by_the_transaction_that_makes_it_visible(db):
    await changes(db)
    async with db.transaction():
        xid = await db.fetchval("SELECT pg_current_xact_id()::text")
        await db.execute("UPDATE rotord.clients SET per_hour = 9 WHERE slug = 'acme'")

    assert await db.fetchval("SELECT xid::text FROM rotord.fleet_changes") == xid
