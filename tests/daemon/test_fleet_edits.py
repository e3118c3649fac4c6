"""A person edits the fleet by SQL while mail flows: in force within 1 s (pauses) and 2 s (all else), each by its own measure."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, receiver, relay, running, wait_until
from tests.daemon.scenes import first_accepted, insert, sending

# Begun messages of one group, and the clock: what decides whether a pause is in force.
BEGUN = """
SELECT coalesce(extract(epoch FROM max(a.began_at)), 0)::float8
  FROM rotord.attempts a
  JOIN rotord.outbox o ON o.id = a.outbox_id
 WHERE {}
"""
FIRST_AFTER = """
SELECT extract(epoch FROM min(a.began_at))::float8
  FROM rotord.attempts a
  JOIN rotord.outbox o ON o.id = a.outbox_id
 WHERE {} AND a.began_at > to_timestamp($1)
"""


@dataclass(frozen=True)
class Switch:
    """A kind of thing that a person can pause: how by SQL, how back, and which attempts are its."""

    pause: str
    resume: str
    its: str


SWITCHES = {
    "client": Switch(
        "UPDATE rotord.clients SET status = 'paused' WHERE slug = 'c0'",
        "UPDATE rotord.clients SET status = 'active' WHERE slug = 'c0'",
        "a.client = 'c0'",
    ),
    "stream": Switch(
        "INSERT INTO rotord.pauses (kind, name) VALUES ('stream', 'c1/main')",
        "DELETE FROM rotord.pauses WHERE name = 'c1/main'",
        "a.client = 'c1' AND o.stream = 'main'",
    ),
    "campaign": Switch(
        "UPDATE rotord.campaigns SET status = 'paused' WHERE name = 'spring'",
        "UPDATE rotord.campaigns SET status = 'active' WHERE name = 'spring'",
        "a.client = 'c2' AND o.campaign = 'spring'",
    ),
    "domain": Switch(
        "UPDATE rotord.domains SET status = 'paused' WHERE name = 'd0.c3.example'",
        "UPDATE rotord.domains SET status = 'active' WHERE name = 'd0.c3.example'",
        "a.domain = 'd0.c3.example'",
    ),
    "address": Switch(
        "UPDATE rotord.addresses SET status = 'paused' WHERE email = 'a0@d0.c4.example'",
        "UPDATE rotord.addresses SET status = 'active' WHERE email = 'a0@d0.c4.example'",
        "a.address = 'a0@d0.c4.example'",
    ),
    "provider": Switch(
        "INSERT INTO rotord.pauses (kind, name) VALUES ('provider', 'other')",
        "DELETE FROM rotord.pauses WHERE name = 'other'",
        "a.provider = 'other'",
    ),
    "all": Switch("INSERT INTO rotord.pauses (kind, name) VALUES ('all', '')", "DELETE FROM rotord.pauses WHERE kind = 'all'", "true"),
}


async def _now(db: asyncpg.Connection) -> float:
    return await db.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")


async def _switch(db: asyncpg.Connection, names: list[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Pause these for 1.6 s and resume them: how long after each the last attempt began, and the first one again."""
    async with db.transaction():
        for name in names:
            await db.execute(SWITCHES[name].pause)
    paused_at = await _now(db)
    await asyncio.sleep(1.6)
    last = {name: await db.fetchval(BEGUN.format(SWITCHES[name].its)) - paused_at for name in names}
    async with db.transaction():
        for name in names:
            await db.execute(SWITCHES[name].resume)
    resumed_at = await _now(db)
    again = {}
    for name in names:
        its = SWITCHES[name].its
        assert await wait_until(db, f"({BEGUN.format(its)}) > {resumed_at}", 10)
        first = await db.fetchval(FIRST_AFTER.format(its), resumed_at)
        again[name] = first - resumed_at
    return last, again


@pytest.mark.timeout(90)
async def test_a_pause_of_each_kind_is_in_force_within_a_second(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    fleet = Fleet()
    for client in ("c0", "c1", "c2", "c3", "c4"):
        await fleet.add(db, client, domains=2, addresses=2)
    await fleet.add(db, "c5", domains=1, addresses=2, providers=("other",))
    await insert_rows(db, "c2", 1000)
    await db.execute("UPDATE rotord.queue SET campaign = 'spring' WHERE client = 'c2' AND id % 2 = 0")
    await db.execute("INSERT INTO rotord.campaigns (client, name) VALUES ('c2', 'spring')")
    await db.execute("ALTER TABLE rotord.outbox DISABLE TRIGGER USER")
    await db.execute("UPDATE rotord.outbox SET campaign = 'spring' WHERE client = 'c2' AND id % 2 = 0")
    await db.execute("ALTER TABLE rotord.outbox ENABLE TRIGGER USER")
    for client in ("c0", "c1", "c3", "c4", "c5"):
        await insert_rows(db, client, 1000)
    # 100 a second over all: each client has one every 60 ms, so silence means something.
    limit = "per_second = 50"
    async with receiver(tmp_path, "relay") as one, receiver(tmp_path, "other") as other:
        toml = relay("relay", one.port, 20, limit) + relay("other", other.port, 20, limit)
        async with running(Rig(database_url, tmp_path, toml)) as rig:
            for switch in SWITCHES.values():
                assert await wait_until(db, f"({BEGUN.format(switch.its)}) > 0", 20), rig.log[-2000:]
            last, again = await _switch(db, [name for name in SWITCHES if name != "all"])
            others = await db.fetchval("SELECT count(*) FROM rotord.attempts WHERE client IN ('c2', 'c3', 'c4')")
            last_all, again_all = await _switch(db, ["all"])
    last |= last_all
    again |= again_all
    for name in SWITCHES:
        print(f"{name}: last begin {last[name] * 1000:+.0f} ms after its pause, first {again[name] * 1000:.0f} ms after its resume")

    assert others > 0
    assert {name: seconds for name, seconds in last.items() if seconds > 1.0} == {}
    assert {name: seconds for name, seconds in again.items() if seconds > 1.0} == {}


async def _accepted(db: asyncpg.Connection, count: int, where: str, within_s: float = 2.0) -> float:
    """Seconds until this many attempts are accepted; fails after `within_s`."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    assert await wait_until(db, f"count(*) >= {count} FROM rotord.attempts WHERE outcome = 'accepted' AND {where}", within_s), where
    return loop.time() - since


@pytest.mark.timeout(90)
async def test_edits_of_limits_and_members_are_in_force_within_two_seconds(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    fleet = Fleet()
    await fleet.add(db, "acme", domains=1, addresses=1, per_hour=(None, None, 5))
    await fleet.add(db, "other", domains=1, addresses=1)
    await db.execute("INSERT INTO rotord.clients (slug) VALUES ('early')")
    for client, rows in (("acme", 200), ("early", 10)):
        await insert_rows(db, client, rows)
    took = {}
    async with sending(database_url, tmp_path):
        await first_accepted(db, "other")
        await _accepted(db, 5, "client = 'acme'", 20)

        await db.execute("UPDATE rotord.addresses SET per_hour = 9 WHERE email = 'a0@d0.acme.example'")
        took["a limit raised"] = await _accepted(db, 9, "client = 'acme'")

        await db.execute("UPDATE rotord.clients SET per_hour = 12 WHERE slug = 'acme'")
        await db.execute("UPDATE rotord.addresses SET per_hour = NULL WHERE email = 'a0@d0.acme.example'")
        took["the client's limit instead"] = await _accepted(db, 12, "client = 'acme'")

        await db.execute("UPDATE rotord.domains SET per_hour = 14 WHERE name = 'd0.acme.example'")
        await db.execute("UPDATE rotord.clients SET per_hour = NULL WHERE slug = 'acme'")
        took["the domain's limit instead"] = await _accepted(db, 14, "client = 'acme'")

        await db.execute("INSERT INTO rotord.domains (name, client, providers) VALUES ('new.acme.example', 'acme', '{relay}')")
        await db.execute("INSERT INTO rotord.addresses (email, domain, per_hour) VALUES ('n@new.acme.example', 'new.acme.example', 7)")
        took["a domain and its address added"] = await _accepted(db, 7, "address = 'n@new.acme.example'")

        await db.execute("INSERT INTO rotord.domains (name, client, providers) VALUES ('early.example', 'early', '{relay}')")
        await db.execute("INSERT INTO rotord.addresses (email, domain) VALUES ('e@early.example', 'early.example')")
        took["a client whose rows waited for its first address"] = await _accepted(db, 10, "client = 'early'")

        # Moved to another client: it sends for that one alone, and takes along what it has sent.
        await db.execute("UPDATE rotord.domains SET client = 'other' WHERE name = 'new.acme.example'")
        moved_at = await _now(db)
        await db.execute("UPDATE rotord.addresses SET per_hour = 10 WHERE email = 'n@new.acme.example'")
        await db.execute("UPDATE rotord.addresses SET status = 'disabled' WHERE email = 'a0@d0.other.example'")
        for _ in range(20):
            await insert(db, "other")
        took["an address moved to another client"] = await _accepted(db, 3, "address = 'n@new.acme.example' AND client = 'other'")

        await db.execute("DELETE FROM rotord.addresses WHERE email = 'n@new.acme.example'")
        deleted_at = await _now(db)
        await db.execute("UPDATE rotord.domains SET per_hour = 16 WHERE name = 'd0.acme.example'")
        took["an address deleted, a limit raised"] = await _accepted(db, 16, "address = 'a0@d0.acme.example'")
        by_address = {
            row["address"]: row["count"]
            for row in await db.fetch("SELECT address, count(*) FROM rotord.attempts WHERE client <> 'early' GROUP BY address")
        }
        wrong = await db.fetchval(
            "SELECT count(*) FROM rotord.attempts WHERE address = 'n@new.acme.example'"
            "   AND (client = 'acme' AND began_at > to_timestamp($1) OR began_at > to_timestamp($2))",
            moved_at + 2.0, deleted_at + 2.0,
        )  # fmt: skip
    for what, seconds in took.items():
        print(f"{what}: in force {seconds * 1000:.0f} ms after its commit")

    assert by_address == {"a0@d0.acme.example": 16, "n@new.acme.example": 10, "a0@d0.other.example": by_address["a0@d0.other.example"]}
    assert wrong == 0
