"""migrate, fleet, app: the database and the fleet are brought to what was declared."""

import pytest

FLEET = """
addresses = "addresses.csv"
[[client]]
slug = "new"
[[client.domain]]
name = "new.example"
providers = ["relay"]
"""


@pytest.fixture
def fleet_file(tmp_path):
    (tmp_path / "addresses.csv").write_text("address,display_name,per_hour,per_day,status\na@new.example,Ann,10,100,\n")
    file = tmp_path / "fleet.toml"
    file.write_text(FLEET)
    return file


async def test_migrate_brings_an_empty_database_up_and_then_has_nothing_to_do(rotord, empty_database_url, monkeypatch):
    monkeypatch.setenv("ROTORD_DATABASE__URL", empty_database_url)

    due = await rotord("migrate", "--check")
    assert (due.code, due.out) == (1, "the database has no rotord schema: run rotord migrate\n")
    refused = await rotord("status")
    assert (refused.code, refused.err) == (1, "rotord: the database has no rotord schema: run rotord migrate\n")
    first = (await rotord("migrate", "--json")).json
    assert first["applied"][0] == 1
    second = await rotord("migrate", "--json")
    assert (second.code, second.json) == (0, {**first, "applied": []})
    assert (await rotord("migrate", "--check")).code == 0


async def test_a_database_of_a_newer_breaking_rotord_is_left_alone(rotord, db):
    await db.execute("INSERT INTO rotord.schema_version (version, breaking) VALUES (9999, true)")

    for words in (["migrate"], ["status"], ["pause", "all"]):
        done = await rotord(*words)
        assert done.code == 1
        assert "newer" in done.err
    assert await db.fetchval("SELECT count(*) FROM rotord.pauses") == 0


async def test_plan_shows_and_apply_does(rotord, db, fleet_file):
    planned = await rotord("fleet", "plan", str(fleet_file))
    assert planned.code == 0
    assert "client new" in planned.out
    assert await db.fetchval("SELECT count(*) FROM rotord.clients WHERE slug = 'new'") == 0

    applied = await rotord("fleet", "apply", str(fleet_file), "--json")
    assert (applied.code, applied.json["applied"]) == (0, True)
    assert await db.fetchval("SELECT count(*) FROM rotord.addresses WHERE email = 'a@new.example'") == 1
    assert (await rotord("fleet", "plan", str(fleet_file), "--json")).json["empty"]


async def test_a_fleet_with_faults_changes_nothing_and_lists_them(rotord, db, fleet_file):
    fleet_file.write_text(FLEET.replace('"relay"', '"rely"') + "per_hour = -1\n")

    done = await rotord("fleet", "apply", str(fleet_file))

    assert done.code == 1
    assert len(done.err.splitlines()) == 2
    assert all(line.startswith(f"rotord: {fleet_file}:") for line in done.err.splitlines())
    assert await db.fetchval("SELECT count(*) FROM rotord.clients") == 2


async def test_an_exported_fleet_is_the_fleet_and_replaces_no_file_unasked(rotord, fleet_file, tmp_path):
    await rotord("fleet", "apply", str(fleet_file))

    assert (await rotord("fleet", "export", "out", "--json")).json["addresses"] == 1
    assert (await rotord("fleet", "plan", "out/fleet.toml", "--json")).json["empty"]
    refused = await rotord("fleet", "export")
    assert refused.code == 1
    assert fleet_file.read_text() == FLEET
    assert (await rotord("fleet", "export", "--force")).code == 0


async def test_an_app_is_added_listed_and_removed(rotord):
    role = "test_cli_app"
    assert (await rotord("app", "list")).out == "no app may insert yet: rotord app add ROLE --client SLUG\n"
    assert (await rotord("app", "add", role, "--client", "acme", "--client", "other")).code == 0
    assert (await rotord("app", "list", "--json")).json == {"apps": [{"role": role, "clients": ["acme", "other"]}]}
    assert (await rotord("app", "remove", role)).code == 0
    refused = await rotord("app", "remove", role)
    assert (refused.code, refused.err) == (1, f"rotord: there is no app {role}\n")


async def test_an_app_for_a_client_that_is_not_there_is_refused(rotord):
    done = await rotord("app", "add", "test_cli_app_2", "--client", "acm")

    assert (done.code, done.err) == (1, "rotord: there is no client acm; did you mean acme?\n")
