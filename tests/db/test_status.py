"""What `rotord status` reads: counts by client and state, exact or from a sample, and the ledger of a day."""

from datetime import timedelta

import pytest
from outbox_rows import add_fleet, begin, insert, make_uncertain

from rotord.db import status


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)


async def test_the_queue_is_counted_by_client_and_state(db):
    tomorrow = await db.fetchval("SELECT now() + interval '1 day'")
    long_ago = await db.fetchval("SELECT now() - interval '3 hours'")
    await insert(db, send_after=long_ago)
    await insert(db, thread_key="t")
    await insert(db, thread_key="t")
    await insert(db, send_after=tomorrow)
    await begin(db, await insert(db))
    await make_uncertain(db, await insert(db))
    deferred = await insert(db, client="other", send_after=tomorrow)
    await db.execute("UPDATE rotord.queue SET attempts = 1 WHERE id = $1", deferred)

    read = await status.read(db)

    counts = ("client", "queued", "scheduled", "deferred", "waiting", "sending", "uncertain")
    assert [tuple(row[name] for name in counts) for row in read.queue] == [
        ("acme", 2, 1, 0, 1, 1, 1),
        ("other", 0, 0, 1, 0, 0, 0),
    ]
    assert read.queue[0]["oldest_due_at"] == long_ago
    assert not read.queue_is_estimated


async def test_sent_is_what_was_accepted_by_the_hour_and_the_day_it_began(db):
    for ago in (timedelta(minutes=5), timedelta(hours=2), timedelta(hours=30)):
        attempt = await begin(db, await insert(db), ago=ago)
        await db.execute("UPDATE rotord.attempts SET outcome = 'accepted' WHERE id = $1", attempt)
    await begin(db, await insert(db))

    read = await status.read(db)

    assert [tuple(row) for row in read.sent] == [("acme", 1, 2)]


async def test_an_address_is_counted_under_the_strictest_word_on_it(db):
    await db.execute("UPDATE rotord.domains SET health = 'cooling' WHERE name = 'acme.example'")
    await db.execute("UPDATE rotord.addresses SET health = 'suspicious' WHERE domain = 'acme.example'")
    await db.execute("UPDATE rotord.clients SET status = 'paused' WHERE slug = 'other'")

    read = await status.read(db)

    assert [tuple(row) for row in read.addresses] == [("cooling", 1), ("paused", 1)]
    shown = await db.fetch("SELECT state, count(*) FROM rotord.address_status GROUP BY state ORDER BY state")
    assert [tuple(row) for row in shown] == [tuple(row) for row in read.addresses]


async def test_the_leader_is_the_lease_whether_it_still_runs_or_not(db):
    assert (await status.read(db)).leader is None
    await db.execute("DELETE FROM rotord.lease")
    await db.execute(
        "INSERT INTO rotord.lease (name, holder, epoch, elected_at, expires_at, node) "
        "VALUES ('main', gen_random_uuid(), 7, now() - interval '1 hour', now() - interval '1 s', 'vps-1')"
    )

    leader = (await status.read(db)).leader

    assert leader is not None
    assert (leader.node, leader.epoch, leader.is_leading) == ("vps-1", 7, False)


async def test_every_pause_is_listed_whichever_table_holds_it(db):
    await db.execute(
        """
        INSERT INTO rotord.pauses (kind, name) VALUES ('all', ''), ('provider', 'relay');
        INSERT INTO rotord.campaigns (client, name, status) VALUES ('acme', 'spring', 'paused');
        UPDATE rotord.clients SET status = 'paused' WHERE slug = 'other';
        UPDATE rotord.domains SET status = 'paused' WHERE name = 'acme.example';
        """
    )

    assert [(row["kind"], row["name"]) for row in (await status.read(db)).pauses] == [
        ("all", ""),
        ("campaign", "acme/spring"),
        ("client", "other"),
        ("domain", "acme.example"),
        ("provider", "relay"),
    ]


async def test_a_long_queue_is_estimated_within_a_tenth(db):
    await db.execute(
        """
        INSERT INTO rotord.queue (id, client, stream, kind, campaign, pin, pin_kind, state, rank, due_at, recipient, bytes)
        SELECT i, CASE WHEN i % 4 = 0 THEN 'other' ELSE 'acme' END, 'main', 'bulk', '', '', '', 'queued', 0, now(), 'r@x', 1
        FROM generate_series(1, 40000) AS i;
        ANALYZE rotord.queue;
        """
    )

    size = await db.fetchval(status.QUEUE_SIZE)
    sampled = {row["client"]: row["queued"] for row in await db.fetch(status.QUEUE_SAMPLED, 50.0)}

    assert size == pytest.approx(40_000, rel=0.01)
    assert sampled == {"acme": pytest.approx(30_000, rel=0.1), "other": pytest.approx(10_000, rel=0.1)}
