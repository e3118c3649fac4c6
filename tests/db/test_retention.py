"""Retention: what is old goes a batch at a time, what is young, live or not counted yet stays, counts stay."""

from datetime import datetime, timedelta

import asyncpg
import pytest
from outbox_rows import add_fleet, begin, insert, make_uncertain

from rotord.db import ledger, posts, retention, stats, status
from rotord.db.connect import open_pool
from rotord.db.posts import NewPost
from rotord.db.retention import PostgresRetention, Rules

OLD = timedelta(days=100)


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)


async def settled(db, ago=OLD, **columns):
    """A message that was sent so long ago, with its attempt."""
    message = await insert(db, **columns)
    attempt = await begin(db, message, ago=ago)
    await db.execute("UPDATE rotord.attempts SET outcome = 'accepted', finished_at = began_at WHERE id = $1", attempt)
    await db.execute("DELETE FROM rotord.queue WHERE id = $1", message)
    await db.execute(
        "INSERT INTO rotord.message_state (id, client, status, settled_at) VALUES ($1, 'acme', 'sent', now() - $2::interval)", message, ago
    )
    return message


async def with_body(db):
    return [row[0] for row in await db.fetch("SELECT id FROM rotord.outbox WHERE blanked_at IS NULL ORDER BY id")]


async def event(db, at, number, name="events"):
    await db.execute(
        f"INSERT INTO rotord.{name} (provider, kind, occurred_at, received_at, recipient, key)"
        " VALUES ('relay', 'opened', $1, $1, 'r@example.org', $2)",
        at,
        str(number).encode(),
    )


async def count_everything(db):
    """As the leader does: statistics, and finished days."""
    now = await db.fetchval("SELECT extract(epoch FROM now())::float8") + 3600
    await stats.roll_up(db, now)
    for day in await ledger.days_to_roll_up(db, now):
        await ledger.roll_up(db, day)


async def test_bodies_are_blanked_so_long_after_their_message_was_settled(db):
    old = await settled(db, attachments='[{"filename": "f", "content_type": "text/plain", "content_base64": "QQ=="}]', metadata='{"a": 1}')
    young, live = await settled(db, timedelta(days=89)), await insert(db)

    assert await retention.blank_bodies(db, 90) is False

    assert await with_body(db) == [young, live]
    row = await db.fetchrow("SELECT * FROM rotord.outbox WHERE id = $1", old)
    assert (row["body_text"], row["body_html"], row["attachments"], row["subject"], row["recipient"], row["metadata"]) == (
        None,
        None,
        "[]",
        "s",
        "R@Example.org",
        '{"a": 1}',
    )
    assert row["blanked_at"] - datetime.now(row["blanked_at"].tzinfo) < timedelta(minutes=1)  # noqa: TID251
    assert await db.fetchval("SELECT upto < now() - interval '99 days' FROM rotord.retention_progress")


async def test_status_says_how_far_it_has_come(db):
    assert (await status.read(db)).bodies_blanked_upto is None
    await settled(db)
    await retention.blank_bodies(db, 90)

    assert (await status.read(db)).bodies_blanked_upto == await db.fetchval("SELECT settled_at FROM rotord.message_state")


async def test_a_backlog_of_bodies_goes_in_batches_and_each_once(db, monkeypatch):
    monkeypatch.setattr(retention, "BODIES_BATCH", 3)
    messages = [await settled(db, OLD - timedelta(minutes=n)) for n in range(7)]

    steps = []
    while len(steps) < 9:
        steps.append(await retention.blank_bodies(db, 90))
        assert await with_body(db) == messages[3 * len(steps) :]
        if not steps[-1]:
            break

    assert steps == [True, True, False]


async def test_a_row_that_an_app_holds_is_blanked_later_and_holds_up_no_other_of_its_batch(db, database_url):
    held, free = await settled(db), await settled(db, OLD - timedelta(hours=1))
    app = await asyncpg.connect(database_url)
    async with app.transaction():
        await app.execute("SELECT FROM rotord.outbox WHERE id = $1 FOR UPDATE", held)

        assert await retention.blank_bodies(db, 90) is False
        assert await with_body(db) == [held]
    await app.close()

    await retention.blank_bodies(db, 90)
    assert await with_body(db) == []
    assert free


async def test_attempts_go_once_they_are_counted_and_their_message_is_settled(db):
    young = await settled(db, timedelta(days=10))
    for _ in range(2):
        await settled(db)
    await make_uncertain(db, uncertain := await insert(db), ago=OLD)
    assert await retention.delete_attempts(db, 35, 0) == 0
    assert await db.fetchval("SELECT count(*) FROM rotord.attempts") == 4  # nothing is counted yet
    await count_everything(db)
    before = (
        await db.fetch("SELECT * FROM rotord.daily_stats ORDER BY day"),
        await db.fetch("SELECT * FROM rotord.daily_counters ORDER BY day"),
    )

    assert await retention.delete_attempts(db, 35, 0) == 0

    assert [row[0] for row in await db.fetch("SELECT outbox_id FROM rotord.attempts ORDER BY outbox_id")] == [young, uncertain]
    await count_everything(db)
    after = (
        await db.fetch("SELECT * FROM rotord.daily_stats ORDER BY day"),
        await db.fetch("SELECT * FROM rotord.daily_counters ORDER BY day"),
    )
    assert after == before
    assert len(before[0]) == 2


async def test_attempts_go_in_batches(db, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    for _ in range(3):
        await settled(db)
    await count_everything(db)

    after = await retention.delete_attempts(db, 35, 0)
    assert await db.fetchval("SELECT count(*) FROM rotord.attempts") == 1
    assert await retention.delete_attempts(db, 35, after) == 0
    assert await db.fetchval("SELECT count(*) FROM rotord.attempts") == 0


async def test_old_months_of_events_are_dropped_and_others_kept(db, database_url):
    now = await db.fetchval("SELECT date_trunc('month', now())")
    for name, since, until in (
        ("events_2020_01", "2020-01-01 00:00Z", "2020-02-01 00:00Z"),
        ("events_2020_02", "2020-02-01 00:00Z", "2020-03-01 00:00Z"),
        (f"events_{now:%Y_%m}", f"{now:%Y-%m}-01 00:00Z", "2199-01-01 00:00Z"),
    ):
        await db.execute(f"CREATE TABLE rotord.{name} PARTITION OF rotord.events FOR VALUES FROM ('{since}') TO ('{until}')")
    for number, at in enumerate(["2020-01-15", "2020-02-15", "2019-06-01"]):
        await event(db, datetime.fromisoformat(f"{at} 00:00+00:00"), number)
    await event(db, now, 9)
    assert await retention.delete_events(db, 400) is False  # not counted yet
    assert await db.fetchval("SELECT count(*) FROM rotord.events") == 4
    await count_everything(db)

    reader = await asyncpg.connect(database_url)
    async with reader.transaction():
        await reader.fetch("SELECT FROM rotord.events")
        await retention.delete_events(db, 400)
        assert await db.fetchval("SELECT to_regclass('rotord.events_2020_01') IS NOT NULL")  # somebody reads
    await reader.close()
    assert [await retention.delete_events(db, 400) for _ in range(3)] == [True, True, False]

    assert await db.fetchval("SELECT occurred_at FROM rotord.events") == now
    assert await db.fetchval("SELECT to_regclass('rotord.events_2020_02') IS NULL")


async def test_an_event_with_a_senseless_time_is_kept_as_long_as_others(db):
    await db.execute(
        "INSERT INTO rotord.events (provider, kind, occurred_at, received_at, recipient, key)"
        " VALUES ('relay', 'opened', to_timestamp(0), now(), 'r@example.org', 'k')"
    )
    await count_everything(db)

    await retention.delete_events(db, 400)

    assert await db.fetchval("SELECT count(*) FROM rotord.events") == 1


async def test_old_posts_go_once_they_are_read(db):
    for token in "abc":
        await posts.store(db, [NewPost("relay", "webhooks", token, b"", "", b"")])
    await db.execute("UPDATE rotord.provider_posts SET received_at = now() - interval '31 days' WHERE token <> 'c'")
    await db.execute("UPDATE rotord.provider_posts SET folded_at = now() WHERE token <> 'b'")

    assert await retention.delete_posts(db, 30) is False

    assert [row[0] for row in await db.fetch("SELECT token FROM rotord.provider_posts ORDER BY token")] == ["b", "c"]


async def test_what_is_kept_for_ever_has_no_step(database_url):
    async with await open_pool(database_url) as pool:
        assert set(PostgresRetention(pool, Rules()).steps()) == {"erase"}
        steps = PostgresRetention(pool, Rules(1, 40, 40, 3)).steps()
        assert [await step() for step in steps.values()] == [False] * 5
