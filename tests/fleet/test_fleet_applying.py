"""A fleet file against a real database: what is declared is what is there, twice is once, and out again is the same."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import asyncpg
import pytest
from fleets import fleets
from hypothesis import HealthCheck, given, settings

from rotord.core.model import Status
from rotord.fleet import (
    Action,
    DeclaredAddress,
    DeclaredClient,
    DeclaredDomain,
    FleetFile,
    FleetPlan,
    Kind,
    Step,
    apply,
    as_json,
    export,
    lines,
    plan,
    read,
)

PROJECT = Path(__file__).parents[2]
ACME = DeclaredClient("acme", "Acme GmbH", per_hour=100)
MAIN = DeclaredDomain("acme.example", "acme", providers=("relay",))
ANNA = DeclaredAddress("anna@acme.example", "acme.example", "Anna", 10, 50)
FLEET = FleetFile((ACME,), (MAIN,), (ANNA,))


async def test_a_first_plan_adds_everything_and_writes_nothing(db):
    steps = await plan(db, FLEET)

    assert steps.steps == (
        Step(Action.ADD, Kind.CLIENT, "acme"),
        Step(Action.ADD, Kind.DOMAIN, "acme.example"),
        Step(Action.ADD, Kind.ADDRESS, "anna@acme.example"),
    )
    assert await db.fetchval("SELECT count(*) FROM rotord.clients") == 0


async def test_applying_again_changes_nothing(db):
    assert await apply(db, FLEET) != FleetPlan()
    assert await apply(db, FLEET) == FleetPlan()
    assert await db.fetchrow("SELECT email, domain, display_name, per_hour, per_day, status FROM rotord.addresses") == (
        "anna@acme.example",
        "acme.example",
        "Anna",
        10,
        50,
        "active",
    )


async def test_a_change_is_told_field_by_field_and_made(db):
    await apply(db, FLEET)
    changed = FleetFile(
        (replace(ACME, weight=0.1, per_hour=None),),
        (replace(MAIN, providers=("relay", "sandbox"), stream="cold"),),
        (replace(ANNA, per_day=60),),
    )

    steps = await plan(db, changed)

    assert [(step.name, step.changes) for step in steps.steps] == [
        ("acme", (("per_hour", 100, None), ("weight", 1.0, 0.1))),
        ("acme.example", (("stream", "main", "cold"), ("providers", ("relay",), ("relay", "sandbox")))),
        ("anna@acme.example", (("per_day", 50, 60),)),
    ]
    assert lines(steps) == [
        "change  client acme: per_hour 100 -> none, weight 1.0 -> 0.1",
        "change  domain acme.example: stream main -> cold, providers relay -> relay,sandbox",
        "change  address anna@acme.example: per_day 50 -> 60",
        "change 1 client, 1 domain, 1 address",
    ]
    assert await apply(db, changed) == steps
    assert (await plan(db, changed)).is_empty


async def test_a_paused_address_stays_paused_until_the_file_says_otherwise(db):
    await apply(db, FLEET)
    await db.execute("UPDATE rotord.addresses SET status = 'paused'")
    await db.execute("UPDATE rotord.domains SET status = 'paused'")
    await db.execute("UPDATE rotord.clients SET status = 'paused'")

    assert (await plan(db, FLEET)).is_empty

    await apply(db, replace(FLEET, addresses=(replace(ANNA, per_day=60),), clients=(replace(ACME, weight=2.0),)))
    statuses = "SELECT a.status, c.status FROM rotord.addresses AS a, rotord.clients AS c"
    assert await db.fetchrow(statuses) == ("paused", "paused")

    await apply(db, replace(FLEET, addresses=(replace(ANNA, status=Status.ACTIVE),)))
    assert await db.fetchrow(statuses) == ("active", "paused")


async def test_used_day_counts_from_when_it_was_first_said(db):
    moved = replace(FLEET, addresses=(replace(ANNA, used_day=30),))
    used = "SELECT used_day, used_day_at FROM rotord.addresses"

    await apply(db, FLEET)
    assert await db.fetchrow(used) == (0, None)

    await apply(db, moved)
    first = await db.fetchrow(used)
    assert first["used_day"] == 30
    assert first["used_day_at"] is not None

    assert (await apply(db, moved)).is_empty
    assert (await apply(db, FLEET)).is_empty
    for other in (replace(ANNA, used_day=30, per_day=60), replace(ANNA, per_day=70)):
        assert not (await apply(db, replace(FLEET, addresses=(other,)))).is_empty
    assert await db.fetchrow(used) == first


async def test_a_new_address_may_come_with_what_it_has_sent(db):
    await apply(db, replace(FLEET, addresses=(replace(ANNA, used_day=30),)))

    assert await db.fetchval("SELECT used_day FROM rotord.addresses WHERE used_day_at = now() OR used_day_at < now()") == 30


async def test_what_the_file_lacks_is_deleted_and_a_client_with_history_is_disabled(db):
    other = DeclaredClient("other")
    await apply(db, replace(FLEET, clients=(ACME, other)))
    await db.execute("INSERT INTO rotord.outbox (client, recipient, subject, body_text) VALUES ('acme', 'a@b.example', 's', 't')")

    steps = await apply(db, FleetFile())

    assert lines(steps) == [
        "delete  client other (not in the file)",
        "disable client acme (not in the file; its messages stay)",
        "delete  domain acme.example (not in the file)",
        "delete  address anna@acme.example (not in the file)",
        "delete 1 client, 1 domain, 1 address; disable 1 client",
    ]
    assert await db.fetchrow("SELECT slug, status FROM rotord.clients") == ("acme", "disabled")
    assert (await apply(db, FleetFile())).is_empty


async def test_a_disabled_client_that_comes_back_is_named_and_enabled_by_word(db):
    await apply(db, FLEET)
    await db.execute("UPDATE rotord.clients SET status = 'disabled'")

    steps = await plan(db, FLEET)
    assert lines(steps) == [
        'note    client acme stays disabled: give it status = "active" in the file to enable it',
        "nothing to change: the database is as declared",
    ]

    enabled = replace(FLEET, clients=(replace(ACME, status=Status.ACTIVE),))
    assert [step.changes for step in (await apply(db, enabled)).steps] == [(("status", "disabled", "active"),)]
    assert (await plan(db, enabled)).notes == ()


async def test_a_domain_moves_between_clients_with_its_addresses(db):
    await apply(db, FLEET)
    moved = FleetFile((DeclaredClient("new"),), (replace(MAIN, client="new"),), (ANNA,))

    await apply(db, moved)

    assert await db.fetchval("SELECT client FROM rotord.domains") == "new"
    assert (await plan(db, moved)).is_empty


async def test_an_apply_that_the_database_refuses_changes_nothing(db):
    unlawful = replace(FLEET, addresses=(replace(ANNA, per_hour=-1),))

    with pytest.raises(asyncpg.CheckViolationError):
        await apply(db, unlawful)

    assert await db.fetchval("SELECT count(*) FROM rotord.clients") == 0


async def test_two_applications_at_once_are_one_after_the_other(db, database_url):
    second = await asyncpg.connect(database_url)
    try:
        async with asyncio.TaskGroup() as tasks:
            outcomes = [tasks.create_task(apply(conn, FLEET), name="apply") for conn in (db, second)]
    finally:
        await second.close()

    assert sorted(outcome.result().is_empty for outcome in outcomes) == [False, True]


async def test_a_large_plan_is_short_for_people_and_whole_for_machines(db):
    addresses = tuple(DeclaredAddress(f"a{number}@acme.example", "acme.example") for number in range(100))

    steps = await plan(db, replace(FLEET, addresses=addresses))

    assert len(lines(steps)) == 1 + 1 + 20 + 1 + 1
    assert lines(steps)[-2:] == ["add     address: 80 more", "add 1 client, 1 domain, 100 addresses"]
    assert len(as_json(steps)["steps"]) == 102


async def test_a_plan_is_json(db):
    await apply(db, FLEET)

    assert as_json(
        await plan(db, replace(FLEET, domains=(replace(MAIN, providers=("sandbox",), warmup_started_on=date(2026, 11, 1)),)))
    ) == {
        "empty": False,
        "steps": [
            {
                "action": "change",
                "kind": "domain",
                "name": "acme.example",
                "changes": {"providers": [["relay"], ["sandbox"]], "warmup_started_on": [None, "2026-11-01"]},
            }
        ],
        "notes": [],
    }


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fleets())
def test_what_is_exported_reads_again_as_the_same_fleet(database_url, fleet):
    """The database is that of the example before, so that most of them change, delete and disable as well as add."""

    async def round_trip(directory: Path) -> None:
        conn = await asyncpg.connect(database_url)
        try:
            await apply(conn, fleet)
            assert (await plan(conn, fleet)).is_empty
            before = await _rows(conn)
            await export(conn, directory)
            exported = read(directory / "fleet.toml")
            assert await plan(conn, exported) == replace(await plan(conn, exported), steps=())
            await apply(conn, FleetFile())
            await apply(conn, exported)
            assert await _rows(conn) == before
        finally:
            await conn.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(round_trip(Path(directory)))


async def _rows(conn: asyncpg.Connection) -> list[list[tuple]]:
    tables = (
        "SELECT * FROM rotord.clients ORDER BY slug",
        "SELECT * FROM rotord.domains ORDER BY name",
        "SELECT email, domain, display_name, per_hour, per_day, status, used_day, forward_replies_to FROM rotord.addresses ORDER BY email",
    )
    return [[tuple(row) for row in await conn.fetch(table)] for table in tables]


async def test_10_000_addresses_are_applied_in_seconds(db):
    domains = tuple(DeclaredDomain(f"d{number}.example", "acme", providers=("relay",)) for number in range(100))
    addresses = tuple(
        DeclaredAddress(f"a{number}@d{number % 100}.example", f"d{number % 100}.example", f"Name {number}", 10, 50)
        for number in range(10_001)  # one more than a batch
    )
    fleet = FleetFile((ACME,), domains, addresses)

    began = time.monotonic()
    await apply(db, fleet)
    took = time.monotonic() - began

    assert await db.fetchval("SELECT count(*) FROM rotord.addresses") == 10_001
    assert (await apply(db, fleet)).is_empty
    # ten times what it takes on an idle machine; row by row it would be more
    assert took < 20
