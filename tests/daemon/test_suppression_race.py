"""P4 by the database's own commit times: writers insert messages and suppressions for the same recipients as fast as they can."""

import asyncio
import random
from collections import deque
from pathlib import Path

import asyncpg
import pytest

from rotord.embedded import EmbeddedPostgres
from tests.daemon.fleets import Fleet
from tests.daemon.rig import Rig, receiver, relay, running, wait_until
from tests.daemon.scenes import first_accepted, insert

ROOT = Path(__file__).parent.parent.parent
WRITERS = 8
REASONS = ("hard_bounce", "complaint", "unsubscribe", "manual")
SETTINGS = {"track_commit_timestamp": "on", "max_connections": "120", "shared_buffers": "64MB", "fsync": "off"}
SUPPRESS = """
INSERT INTO rotord.suppressions (client, recipient, reason) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING
"""
# Every attempt with the earliest suppression that covers it: seconds from that commit to the attempt's begin.
AFTER = """
SELECT extract(epoch FROM a.began_at - min(pg_xact_commit_timestamp(s.xmin)))::float8
  FROM rotord.attempts a
  JOIN rotord.outbox o ON o.id = a.outbox_id
  JOIN rotord.suppressions s
    ON s.recipient = lower(o.recipient) AND (s.client IS NULL OR s.client = o.client)
   AND (o.kind = 'bulk' OR s.reason IN ('hard_bounce', 'manual'))
 GROUP BY a.id
"""
NEAR_S = 0.1


async def _write(url: str, seed: int, seconds: float) -> int:
    """Messages and suppressions of the same recipients at random; says how many suppressions."""
    chance = random.Random(seed)
    loop = asyncio.get_running_loop()
    connection = await asyncpg.connect(url)
    until, made, number = loop.time() + seconds, 0, 0
    recent: deque[tuple[str, str]] = deque(maxlen=60)
    try:
        while loop.time() < until:
            number += 1
            recipient = f"r{seed}-{number}@recipients.example"
            client = chance.choice(("acme", "other"))
            await insert(connection, client, recipient=recipient.title(), kind=chance.choice(("bulk", "transactional")))
            recent.append((client, recipient))
            # One of those that are about to begin, or just have: that is where the race is.
            await asyncio.sleep(chance.uniform(0.0, 0.03))
            if chance.random() < 0.5:
                made += 1
                client, recipient = chance.choice(recent)
                await connection.execute(SUPPRESS, chance.choice((client, None)), recipient, chance.choice(REASONS))
    finally:
        await connection.close()
    return made


async def _check(folder: Path, seconds: float, writing: int = WRITERS) -> None:
    async with EmbeddedPostgres(folder / "server", settings=SETTINGS) as server:
        db = await asyncpg.connect(server.dsn)
        await db.execute((ROOT / "schema.sql").read_text())
        fleet = Fleet()
        for client in ("acme", "other"):
            await fleet.add(db, client, domains=2, addresses=5)
        async with receiver(folder, "relay") as one, running(Rig(server.dsn, folder, relay("relay", one.port, 20))) as rig:
            await first_accepted(db, "acme")
            async with asyncio.TaskGroup() as group:
                writers = [group.create_task(_write(server.dsn, seed, seconds)) for seed in range(writing)]
            over = "count(*) = 0 FROM rotord.messages WHERE status IN ('queued', 'sending')"
            assert await wait_until(db, over, 120), rig.log[-2000:]
        after = [row[0] for row in await db.fetch(AFTER)]
        sent, suppressed = await db.fetchrow(
            "SELECT count(*) FILTER (WHERE status = 'sent'), count(*) FILTER (WHERE status = 'suppressed') FROM rotord.messages"
        )
        await db.close()
    late = [by for by in after if by > 0]
    near = [by for by in after if -NEAR_S <= by <= 0]
    print(
        f"{sent} sent and {suppressed} suppressed beside {sum(writer.result() for writer in writers)} suppressions: {len(late)} too late, "
        f"{len(near)} begun within {NEAR_S * 1000:.0f} ms before the commit, the nearest {max(near, default=0) * 1000:.2f} ms"
    )

    assert late == []
    assert near
    assert suppressed > 0


@pytest.mark.timeout(60)
async def test_no_attempt_begins_after_the_commit_of_a_suppression(tmp_path: Path) -> None:
    await _check(tmp_path, 5)


@pytest.mark.system
@pytest.mark.timeout(180)
async def test_no_attempt_begins_after_the_commit_of_a_suppression_by_50_writers(tmp_path: Path) -> None:
    await _check(tmp_path, 20, writing=50)
