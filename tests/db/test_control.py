"""Pausing and resuming: which row changes, and what is refused."""

import pytest
from outbox_rows import add_fleet

from rotord.db import control
from rotord.db.control import DisabledError, Target, UnknownNameError


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)
    await db.execute("INSERT INTO rotord.campaigns (client, name) VALUES ('acme', 'spring/1')")
    await db.execute("DELETE FROM rotord.fleet_changes")


STATUS = {
    Target.CLIENT: ("acme", "SELECT status FROM rotord.clients WHERE slug = 'acme'"),
    Target.DOMAIN: ("acme.example", "SELECT status FROM rotord.domains WHERE name = 'acme.example'"),
    Target.ADDRESS: ("a@acme.example", "SELECT status FROM rotord.addresses WHERE email = 'a@acme.example'"),
    Target.CAMPAIGN: ("acme/spring/1", "SELECT status FROM rotord.campaigns WHERE name = 'spring/1'"),
}


@pytest.mark.parametrize("kind", STATUS)
async def test_what_has_a_row_of_its_own_is_paused_and_resumed_there(db, kind):
    name, status = STATUS[kind]

    paused = await control.pause(db, kind, name)
    assert (paused.before, paused.after, paused.changed) == ("active", "paused", True)
    assert await db.fetchval(status) == "paused"

    resumed = await control.resume(db, kind, name)
    assert (resumed.before, resumed.after, resumed.changed) == ("paused", "active", True)
    assert await db.fetchval(status) == "active"


@pytest.mark.parametrize(("kind", "name"), [(Target.ALL, ""), (Target.STREAM, "acme/main"), (Target.PROVIDER, "relay")])
async def test_what_has_no_row_is_paused_in_pauses(db, kind, name):
    assert (await control.pause(db, kind, name)).changed
    assert [(kind, name)] == [tuple(row) for row in await db.fetch("SELECT kind, name FROM rotord.pauses")]

    assert (await control.resume(db, kind, name)).changed
    assert await db.fetchval("SELECT count(*) FROM rotord.pauses") == 0


@pytest.mark.parametrize("kind", [*STATUS, Target.ALL, Target.STREAM, Target.PROVIDER])
async def test_a_second_pause_and_a_second_resume_change_nothing(db, kind):
    name = {Target.ALL: "", Target.STREAM: "acme/main", Target.PROVIDER: "relay"}.get(kind) or STATUS.get(kind, ("",))[0]
    assert not (await control.resume(db, kind, name)).changed
    await control.pause(db, kind, name)
    changes = await db.fetchval("SELECT count(*) FROM rotord.fleet_changes")

    assert not (await control.pause(db, kind, name)).changed
    assert changes == await db.fetchval("SELECT count(*) FROM rotord.fleet_changes")


async def test_the_leader_hears_of_every_pause(db):
    for kind, (name, _) in STATUS.items():
        await control.pause(db, kind, name)
    await control.pause(db, Target.STREAM, "other/news")

    heard = [tuple(row) for row in await db.fetch("SELECT kind, name FROM rotord.fleet_changes ORDER BY id")]
    assert heard == [
        ("client", "acme"),
        ("domain", "acme.example"),
        ("address", "a@acme.example"),
        ("campaign", "acme/spring/1"),
        ("pause", "stream:other/news"),
    ]


@pytest.mark.parametrize("kind", STATUS)
async def test_what_a_person_disabled_is_neither_enabled_nor_softened(db, kind):
    name, status = STATUS[kind]
    word = "cancelled" if kind is Target.CAMPAIGN else "disabled"
    await db.execute(control.SET_STATUS[kind], name, word)

    with pytest.raises(DisabledError):
        await control.resume(db, kind, name)
    change = await control.pause(db, kind, name)

    assert (change.after, change.changed) == (word, False)
    assert await db.fetchval(status) == word


@pytest.mark.parametrize(
    ("kind", "name", "among"),
    [
        (Target.CLIENT, "acmee", "acme"),
        (Target.STREAM, "acme/mian", "acme/main"),
        (Target.CAMPAIGN, "acmee/spring", "acme/spring"),
        (Target.DOMAIN, "acme.exmple", "acme.example"),
        (Target.ADDRESS, "b@acme.example", "a@acme.example"),
    ],
)
async def test_an_unknown_name_changes_nothing_and_brings_the_known_ones(db, kind, name, among):
    for act in (control.pause, control.resume):
        with pytest.raises(UnknownNameError) as caught:
            await act(db, kind, name)
        assert among in caught.value.known
    assert await db.fetchval("SELECT count(*) FROM rotord.fleet_changes") == 0


async def test_a_campaign_can_be_paused_before_its_first_message(db):
    change = await control.pause(db, Target.CAMPAIGN, "acme/autumn")

    assert change.created
    assert await db.fetchval("SELECT status FROM rotord.campaigns WHERE name = 'autumn'") == "paused"


async def test_a_stream_that_left_the_fleet_can_still_be_resumed(db):
    await control.pause(db, Target.STREAM, "acme/main")
    await db.execute("UPDATE rotord.domains SET stream = 'second' WHERE client = 'acme'")

    assert (await control.resume(db, Target.STREAM, "acme/main")).changed


async def test_resuming_an_address_tells_what_rotord_itself_thinks_of_it(db):
    await db.execute("UPDATE rotord.addresses SET status = 'paused', health = 'cooling', health_reason = '12 % bounced'")

    change = await control.resume(db, Target.ADDRESS, "a@acme.example")

    assert (change.health, change.health_reason) == ("cooling", "12 % bounced")
