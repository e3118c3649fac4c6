"""P1, P3 and P5 by the receivers' own logs: 20,000 rows under limits that bite at each level."""

from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, Truth, jain, receiver, relay, running, wait_for_quiet

SLOW = {"latency_ms": "50,300", "slow_share": "0.05", "slow_s": "2,4"}


# Every fourth row is pinned, to addresses in proportion to their quota: that is where threads live.
STICKY = """
WITH slots AS (
  SELECT d.client, a.email, row_number() OVER (PARTITION BY d.client ORDER BY a.email, n) - 1 AS slot,
         count(*) OVER (PARTITION BY d.client) AS slots
    FROM rotord.addresses a
    JOIN rotord.domains d ON d.name = a.domain
   CROSS JOIN generate_series(1, a.per_hour / 20) AS n
)
UPDATE rotord.queue q
   SET pin = s.email, pin_kind = 'sender'
  FROM slots s
 WHERE s.client = q.client AND q.id % 4 = 0 AND s.slot = (q.id / 4) % s.slots
"""


@pytest.mark.timeout(300)
async def test_limits_at_three_levels_hold_and_are_used(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    fleet = Fleet()
    # (client, domain, address) an hour; 4 domains with 25 addresses each
    at_address = dict.fromkeys(("c0", "c1", "c2", "c3"), (None, None, 9))
    at_domain = dict.fromkeys(("c4", "c5", "c6", "c7"), (None, 200, 12))
    at_client = dict.fromkeys(("c8", "c9", "c10", "c11"), (700, 300, 12))
    allowed = {**dict.fromkeys(at_address, 900), **dict.fromkeys(at_domain, 800), **dict.fromkeys(at_client, 700)}
    for client, per_hour in {**at_address, **at_domain, **at_client}.items():
        streams = ("main", "news") if client in {"c0", "c4"} else ("main",)
        await fleet.add(db, client, per_hour=per_hour, streams=streams, providers=("relay", "other"))
        for stream in streams:
            await insert_rows(db, client, 1667 // len(streams), stream=stream)
    async with receiver(tmp_path, "relay", **SLOW) as one, receiver(tmp_path, "other", **SLOW) as other:
        rig = Rig(database_url, tmp_path, relay("relay", one.port, 80) + relay("other", other.port, 80))
        async with running(rig):
            await wait_for_quiet(db, 8.0, 240.0)
            assert await rig.stop() == 0
        truth = Truth.of(one, other)

    assert max(truth.rows.values()) == 1
    for group in (fleet.itself, fleet.domain_of, fleet.client_of):
        for name, worst in truth.worst(group).items():
            assert worst <= fleet.limit_of.get(name, worst), name
    used = truth.worst(fleet.client_of)
    assert {client: used[client] >= 0.97 * allowed[client] for client in allowed} == dict.fromkeys(allowed, True)
    for row, sender in truth.pairs:
        client, stream, _ = row.split("/")
        assert (fleet.client_of[sender], fleet.stream_of[sender]) == (client, stream)


@pytest.mark.parametrize(
    ("clients", "domains"),
    [(1, 2), pytest.param(12, 10, marks=pytest.mark.chaos, id="the-whole-fleet")],
)
@pytest.mark.timeout(600)
async def test_turns_follow_quotas_also_with_a_quarter_sticky(
    database_url: str, db: asyncpg.Connection, tmp_path: Path, clients: int, domains: int
) -> None:
    fleet = Fleet()
    slugs = [f"c{number}" for number in range(clients)]
    for slug in slugs:
        await fleet.add(db, slug, domains=domains, addresses=10, per_hour=(None, None, 20))
    await db.execute("UPDATE rotord.addresses SET per_hour = 60 WHERE email LIKE 'a0@%' OR email LIKE 'a1@%'")
    quota = {row["email"]: row["per_hour"] for row in await db.fetch("SELECT email, per_hour FROM rotord.addresses")}
    total = int(0.6 * sum(quota.values()) / clients)
    for slug in slugs:
        await insert_rows(db, slug, total)
    await db.execute(STICKY)
    async with receiver(tmp_path, "relay", latency_ms="1,20") as one:
        rig = Rig(database_url, tmp_path, relay("relay", one.port, 10))
        async with running(rig):
            await wait_for_quiet(db, 3.0, 60.0 * clients)
        truth = Truth.of(one)

    assert sum(truth.rows.values()) == total * clients
    used = {email: len(truth.by_address[email]) / limit for email, limit in quota.items()}
    fair = {slug: jain([share for email, share in used.items() if fleet.client_of[email] == slug]) for slug in slugs}
    print(f"Jain per pool: {fair}")
    assert min(fair.values()) >= 0.99
