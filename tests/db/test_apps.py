"""`rotord app`: which role may insert for which clients."""

import asyncpg
import pytest
from outbox_rows import add_fleet

from rotord.db.apps import App, AppError, add_app, list_apps, remove_app


@pytest.fixture
async def app(db):
    """A role's name that nobody has, with everything in it that must be quoted; gone afterwards."""
    await add_fleet(db)
    name = "app-\"x'; DROP ROLE nobody; --"
    yield name
    if await has_role(db, name):
        await db.execute(await db.fetchval("SELECT format('DROP OWNED BY %1$I; DROP ROLE %1$I', $1::text)", name))


async def has_role(db, name):
    return await db.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", name)


async def is_app(db, name):
    return await db.fetchval("SELECT pg_has_role($1::name, 'rotord_app', 'USAGE')", name)


async def test_add_makes_the_role_and_says_so(db, app):
    said = await add_app(db, app, ["other", "acme"])

    assert said == f"role {app} was made and may insert for acme, other"
    assert await list_apps(db) == [App(app, ("acme", "other"))]
    assert await is_app(db, app)
    assert await db.fetchval("SELECT rolcanlogin FROM pg_roles WHERE rolname = $1", app)


async def test_add_takes_a_role_that_is_there_and_adds_to_its_clients(db, app):
    await add_app(db, app, ["acme"])

    assert await add_app(db, app, ["other", "acme"]) == f"role {app} was there already and may insert for acme, other"


async def test_a_password_is_stored_as_a_verifier_that_postgres_accepts(db, app):
    await add_app(db, app, ["acme"], "correct horse")
    stored = await db.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = $1", app)

    assert stored.startswith("SCRAM-SHA-256$4096:")
    await add_app(db, app, ["acme"], "another")
    assert await db.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = $1", app) != stored


@pytest.mark.parametrize(("password", "says"), [("", "empty"), ("pässword", "ASCII"), ("a\nb", "ASCII")])
async def test_a_password_that_is_empty_or_would_be_normalised_is_refused_and_nothing_is_left(db, app, password, says):
    with pytest.raises(AppError, match=says):
        await add_app(db, app, ["acme"], password)

    assert not await has_role(db, app)


async def test_an_unknown_client_is_named_with_its_nearest_and_nothing_is_left(db, app):
    with pytest.raises(AppError, match="there is no client acmee; did you mean acme"):
        await add_app(db, app, ["other", "acmee"])

    assert not await has_role(db, app)
    assert await list_apps(db) == []


@pytest.mark.parametrize("name", ["", "x" * 64, "ü" * 32])
async def test_a_name_that_postgres_would_cut_is_refused(db, app, name):
    with pytest.raises(AppError, match="63 bytes"):
        await add_app(db, name, ["acme"])


async def test_no_client_is_refused(db, app):
    with pytest.raises(AppError, match="at least one"):
        await add_app(db, app, [])


async def test_a_role_that_stands_above_the_policies_is_refused(db, app):
    owner = await db.fetchval("SELECT current_user")
    with pytest.raises(AppError, match="plain role"):
        await add_app(db, owner, ["acme"])


async def test_a_role_that_does_not_inherit_is_refused(db, app):
    await add_app(db, app, ["acme"])
    await db.execute(await db.fetchval("SELECT format('ALTER ROLE %I NOINHERIT', $1::text)", app))
    with pytest.raises(AppError, match="INHERIT first"):
        await add_app(db, app, ["other"])


async def test_remove_takes_one_client_then_the_membership(db, app):
    await add_app(db, app, ["acme", "other"])

    assert await remove_app(db, app, ["acme"]) == f"role {app} may no longer insert for acme; still may for other"
    assert await is_app(db, app)
    assert await remove_app(db, app) == f"role {app} may no longer insert for other; the role itself stays: DROP ROLE removes it"
    assert not await is_app(db, app)
    assert await has_role(db, app)
    assert await list_apps(db) == []


async def test_remove_of_what_is_not_there_says_so(db, app):
    with pytest.raises(AppError, match="there is no app"):
        await remove_app(db, app)


async def test_remove_clears_up_after_a_role_that_was_dropped(db, app):
    await add_app(db, app, ["acme"])
    await db.execute(await db.fetchval("SELECT format('DROP ROLE %I', $1::text)", app))

    assert await remove_app(db, app, ["acme"])
    assert await list_apps(db) == []


async def test_a_client_that_goes_takes_its_apps_with_it(db, app):
    await add_app(db, app, ["other"])
    await db.execute("DELETE FROM rotord.addresses; DELETE FROM rotord.domains; DELETE FROM rotord.clients WHERE slug = 'other'")

    assert await list_apps(db) == []
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await db.execute("INSERT INTO rotord.app_clients VALUES ($1, 'other')", app)
