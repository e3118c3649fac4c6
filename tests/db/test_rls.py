"""What an app can do and see: its own clients' rows, and of those neither bodies nor machinery."""

import asyncpg
import pytest
from outbox_rows import add_fleet, begin, fail, insert

from rotord.db.apps import add_app

ROLE = "rls_app"
READABLE = [
    "outbox", "messages", "attempts", "suppressions", "address_status", "campaigns", "clients", "domains", "addresses",
    "message_state", "queue",
]  # fmt: skip
DENIED = asyncpg.InsufficientPrivilegeError


@pytest.fixture
async def app(db, database_url):
    """The app's connection: it may insert for acme. Both clients have rows in every relation."""
    await add_fleet(db)
    for client in ("acme", "other"):
        await insert(db, client=client, campaign="c", metadata="{}")
        await begin(db, await insert(db, client=client))
        await fail(db, await insert(db, client=client))
        await db.execute("INSERT INTO rotord.threads VALUES ($1, 't', 'a@acme.example', '<m@x>')", client)
        await db.execute("INSERT INTO rotord.suppressions (client, recipient, reason) VALUES ($1, 'x@y.z', 'manual')", client)
    await db.execute("INSERT INTO rotord.suppressions (recipient, reason) VALUES ('everybody@y.z', 'manual')")
    await add_app(db, ROLE, ["acme"])
    connection = await asyncpg.connect(database_url)
    await connection.execute(f"SET SESSION AUTHORIZATION {ROLE}")
    yield connection
    await connection.close()
    await db.execute(f"DROP ROLE {ROLE}")


async def test_an_app_inserts_for_its_client_and_gets_the_id(app, db):
    sql = """
    INSERT INTO rotord.outbox (client, recipient, recipient_name, subject, body_text, body_html, stream, campaign, kind, sender, thread_key,
      reply_to, headers, attachments, metadata, priority, send_after, expires_at, on_uncertain, idempotency_key)
    VALUES ('acme', 'a@b.c', 'A', 's', 't', 'h', 'main', 'new', 'bulk', 'a@acme.example', 't', 'r@acme.example',
      '{"X-A": "b"}', '[{"filename": "a", "content_type": "a/b", "content_base64": ""}]', '{"a": 1}', 1, now(),
      now() + interval '1 day', 'hold', 'k')
    ON CONFLICT DO NOTHING RETURNING id
    """
    message = await app.fetchval(sql)

    assert await db.fetchval("SELECT state FROM rotord.queue WHERE id = $1", message) == "queued"
    assert await app.fetchval(sql) is None
    assert await app.fetchval(sql.replace("ON CONFLICT", "ON CONFLICT (client, idempotency_key)")) is None


async def test_an_app_cannot_insert_for_another_client(app):
    with pytest.raises(DENIED, match="row-level security"):
        await insert(app, client="other")


async def test_an_app_cannot_insert_through_another_clients_key(app, db):
    await insert(db, client="other", idempotency_key="k")
    with pytest.raises(DENIED, match="row-level security"):
        await app.execute(
            "INSERT INTO rotord.outbox (client, recipient, subject, body_text, idempotency_key) "
            "VALUES ('other', 'a@b.c', 's', 'b', 'k') ON CONFLICT DO NOTHING"
        )


async def test_the_constraints_hold_for_an_app(app):
    with pytest.raises(asyncpg.CheckViolationError, match="outbox_recipient_is_one_address"):
        await insert(app, recipient="a@b.c, d@e.f")


async def test_an_app_sees_its_own_clients_rows_and_only_those(app, db):
    for relation in READABLE:
        column = {"clients": "slug", "addresses": "domain"}.get(relation, "client")
        own = {"addresses": "acme.example"}.get(relation, "acme")
        everything = await db.fetch(f"SELECT {column} AS whose FROM rotord.{relation}")
        seen = await app.fetch(f"SELECT {column} AS whose FROM rotord.{relation}")

        assert len({row["whose"] for row in everything}) > 1, relation
        assert {row["whose"] for row in seen} == {own}, relation
        assert len(seen) == sum(row["whose"] == own for row in everything), relation


async def test_an_app_reads_the_status_of_its_messages_in_full(app, db):
    query = "SELECT * FROM rotord.messages WHERE client = 'acme' ORDER BY id"

    assert await app.fetch(query) == await db.fetch(query)
    assert [row["status"] for row in await app.fetch(query)] == ["queued", "sending", "failed"]


async def test_an_app_counts_what_its_addresses_used(app):
    assert await app.fetchval("SELECT used_day FROM rotord.address_status") == 1


async def test_bodies_cannot_be_read_back_by_any_statement(app):
    put = "INSERT INTO rotord.outbox (client, recipient, subject, body_text) VALUES ('acme', 'a@b.c', 's', 'b')"
    for column in ("body_text", "body_html", "attachments", "*"):
        for statement in (f"SELECT {column} FROM rotord.outbox", f"{put} RETURNING {column}"):
            with pytest.raises(DENIED):
                await app.fetch(statement)


async def test_an_app_calls_back_its_own_and_cannot_touch_others(app, db):
    assert await app.execute("UPDATE rotord.outbox SET cancelled_at = now()") == "UPDATE 3"
    assert await db.fetchval("SELECT count(*) FROM rotord.outbox WHERE cancelled_at IS NOT NULL AND client = 'other'") == 0
    assert await app.fetchval("SELECT count(*) FROM rotord.messages WHERE status = 'cancelled'") == 1
    with pytest.raises(asyncpg.RestrictViolationError):
        await app.execute("UPDATE rotord.outbox SET cancelled_at = NULL")


FORBIDDEN = [
    "INSERT INTO rotord.outbox (id, client, recipient, subject, body_text) OVERRIDING SYSTEM VALUE VALUES (1, 'acme', 'a@b.c', 's', 'b')",
    "INSERT INTO rotord.outbox (client, recipient, subject, blanked_at) VALUES ('acme', 'a@b.c', 's', now())",
    "INSERT INTO rotord.outbox (client, recipient, subject, body_text, created_at) VALUES ('acme', 'a@b.c', 's', 'b', now())",
    "UPDATE rotord.outbox SET subject = 'x'",
    "UPDATE rotord.outbox SET client = 'other'",
    "DELETE FROM rotord.outbox",
    "TRUNCATE rotord.outbox",
    "UPDATE rotord.queue SET state = 'queued'",
    "INSERT INTO rotord.queue (id) VALUES (1)",
    "DELETE FROM rotord.queue",
    "SELECT recipient FROM rotord.queue",
    "UPDATE rotord.message_state SET status = 'sent'",
    "DELETE FROM rotord.attempts",
    "DELETE FROM rotord.suppressions",
    "INSERT INTO rotord.suppressions (client, recipient, reason) VALUES ('acme', 'a@b.c', 'manual')",
    "UPDATE rotord.clients SET per_hour = NULL",
    "UPDATE rotord.addresses SET per_hour = NULL",
    "INSERT INTO rotord.campaigns (client, name) VALUES ('acme', 'x')",
    "INSERT INTO rotord.app_clients VALUES ('rls_app', 'other')",
    "SELECT * FROM rotord.threads",
    "SELECT * FROM rotord.lease",
    "UPDATE rotord.lease SET epoch = 9",
    "SELECT * FROM rotord.pauses",
    "SELECT * FROM rotord.fleet_changes",
    "SELECT * FROM rotord.daily_counters",
    "SELECT * FROM rotord.provider_status",
    "ALTER TABLE rotord.outbox DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE rotord.outbox DISABLE TRIGGER ALL",
    "CREATE TABLE rotord.x (id int)",
    "SET ROLE rotord_app; SELECT body_text FROM rotord.outbox",
]


async def test_everything_else_is_denied(app):
    for statement in FORBIDDEN:
        with pytest.raises(DENIED):
            await app.execute(statement)
        await app.execute(f"SET SESSION AUTHORIZATION {ROLE}")


async def test_an_app_learns_of_no_other_app(app, db):
    await db.execute("INSERT INTO rotord.app_clients VALUES ('somebody', 'other')")

    assert [tuple(row) for row in await app.fetch("SELECT role, client FROM rotord.app_clients")] == [(ROLE, "acme")]


async def test_a_pooler_that_says_set_role_is_held_too(app, db):
    async with db.transaction():
        await db.execute(f"SET LOCAL ROLE {ROLE}")
        assert {row["client"] for row in await db.fetch("SELECT client FROM rotord.messages")} == {"acme"}
        with pytest.raises(DENIED):
            await insert(db, client="other")


async def test_a_member_of_rotord_app_without_clients_sees_nothing(app, db):
    await db.execute("DELETE FROM rotord.app_clients")

    assert [await app.fetchval(f"SELECT count(*) FROM rotord.{relation}") for relation in READABLE] == [0] * len(READABLE)
    with pytest.raises(DENIED):
        await insert(app)


async def test_a_trap_in_the_temporary_schema_is_not_stepped_into(app, db):
    await app.execute("CREATE TEMP TABLE queue (id bigint); CREATE TEMP TABLE campaigns (client text, name text)")
    await app.execute("CREATE FUNCTION pg_temp.lower(text) RETURNS text LANGUAGE sql AS $$ SELECT 'trapped' $$")
    message = await insert(app, recipient="A@b.c", campaign="trap")

    assert await db.fetchval("SELECT recipient FROM rotord.queue WHERE id = $1", message) == "a@b.c"


async def test_others_than_apps_are_locked_out(app, db):
    await db.execute("CREATE ROLE rls_stranger")
    try:
        for relation in READABLE:
            async with db.transaction():
                await db.execute("SET LOCAL ROLE rls_stranger")
                with pytest.raises(DENIED, match="schema rotord"):
                    async with db.transaction():
                        await db.execute(f"SELECT count(*) FROM rotord.{relation}")
    finally:
        await db.execute("DROP ROLE rls_stranger")
