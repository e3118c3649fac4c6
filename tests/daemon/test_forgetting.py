"""`rotord forget` and retention beside a daemon that sends, by the receiver's word and the database's."""

from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet
from tests.daemon.rig import wait_until
from tests.daemon.scenes import first_accepted, insert, sending

OVER = "count(*) = 0 FROM rotord.messages WHERE status IN ('queued', 'sending')"
OLD = """
WITH settled AS (
  INSERT INTO rotord.outbox (client, recipient, subject, body_text, cancelled_at)
  VALUES ('acme', 'old@x.example', 'Kept', 'Old body', now())
  RETURNING id
)
SELECT id FROM settled
"""


@pytest.mark.timeout(60)
async def test_who_was_forgotten_gets_nothing_and_old_bodies_go(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    fleet = Fleet()
    await fleet.add(db, "acme", domains=1, addresses=2)
    old = await db.fetchval(OLD)
    await db.execute("UPDATE rotord.message_state SET settled_at = now() - $1::interval WHERE id = $2", timedelta(days=3), old)
    toml = "[retention]\nbody_days = 2\n"
    async with sending(database_url, tmp_path, toml) as (rig, one):
        await first_accepted(db, "acme")
        assert (await rig.command("pause", "client", "acme"))[0] == 0
        before = await insert(db, "acme", recipient="Ann@recipients.example", headers='{"X-Row": "before"}')
        code, done = await rig.command("forget", "ann@recipients.example", "--json")
        assert (code, done["messages"], done["ended"], done["left"]) == (0, 1, 1, 0)
        assert (await rig.command("resume", "client", "acme"))[0] == 0
        after = [
            await insert(db, "acme", kind=kind, recipient="ANN@recipients.example", headers=f'{{"X-Row": "{kind}"}}')
            for kind in ("bulk", "transactional")
        ]
        bob = await insert(db, "acme", recipient="bob@recipients.example", headers='{"X-Row": "bob"}')
        assert await wait_until(db, OVER, 20)
        assert await wait_until(db, f"blanked_at IS NOT NULL AND body_text IS NULL FROM rotord.outbox WHERE id = {old}", 20)
        seen = [entry["row"] for entry in one.seen()]

        assert seen == ["first/acme", "bob"]
        rows = await db.fetch("SELECT id, status FROM rotord.messages WHERE id <> $1 ORDER BY id DESC LIMIT 4", old)
        assert [tuple(row) for row in rows] == [
            (bob, "sent"), (after[1], "suppressed"), (after[0], "suppressed"), (before, "suppressed"),
        ]  # fmt: skip
        told = (await rig.command("why", "message", str(old)))[1]
        assert "; body blanked by retention on " in told
