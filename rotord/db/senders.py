"""The fleet as the daemon reads it: everything once a term, then what changed.

`fleet_changes` is written by triggers, so an edit by hand in a table editor counts like any other. Its rows carry the transaction's id:
asking for those that the snapshot of the last look did not see misses nothing, in whatever order they commit, and tells none again however
long some transaction stays open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotord.core.model import Address, Campaign, Client, Domain, Health, Pacing, Status
from rotord.core.records import Fleet
from rotord.db.steps import made

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncpg import Record

    from rotord.db.executor import Executor

# numeric: a real's 0.8 is 0.800000012 as a float, and a fifth of 10 places would be 1.
_CLIENT = """
SELECT slug, name, timezone, per_hour, per_day, weight, transactional_reserve::numeric::float8, sending_window, pacing, status,
       coalesce(unsubscribe_host, '')
  FROM rotord.clients
"""
_DOMAIN = """
SELECT name, client, stream, providers, per_hour, per_day, warmup, warmup_started_on, status, health,
       extract(epoch FROM health_until)::float8
  FROM rotord.domains
"""
_ADDRESS = """
SELECT email, domain, display_name, per_hour, per_day, status, health, extract(epoch FROM health_until)::float8,
       used_day, coalesce(extract(epoch FROM used_day_at), 0)::float8
  FROM rotord.addresses
"""
CLIENTS = _CLIENT + " WHERE $1::text[] IS NULL OR slug = ANY ($1)"
DOMAINS = _DOMAIN + " WHERE $1::text[] IS NULL OR name = ANY ($1)"
ADDRESSES = _ADDRESS + " WHERE $1::text[] IS NULL OR email = ANY ($1)"
PAUSED = """
SELECT kind, name
  FROM rotord.pauses
UNION ALL
SELECT 'campaign', client || '/' || name
  FROM rotord.campaigns
 WHERE status IN ('paused', 'cancelled')
"""
CAMPAIGNS = """
SELECT client, name, sending_window, per_hour, per_day
  FROM rotord.campaigns
 WHERE (sending_window IS NOT NULL OR per_hour IS NOT NULL OR per_day IS NOT NULL) AND status <> 'cancelled'
"""
MARK = "SELECT pg_current_snapshot()::text"
# The upper bound excludes nothing that can be seen. It makes the range look narrow to a planner that has no statistics.
CHANGES = """
SELECT kind, array_agg(DISTINCT name)
  FROM rotord.fleet_changes
 WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot) AND xid <= pg_snapshot_xmax(pg_current_snapshot())
   AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
 GROUP BY kind
"""


async def load(db: Executor, timeout_s: float | None = None) -> Fleet:
    """The whole fleet. The mark is taken first, so that a change while we read is read again."""
    mark: str = await db.fetchval(MARK)
    return Fleet(
        mark,
        await _clients(db, None, timeout_s),
        await _domains(db, None, timeout_s),
        await _addresses(db, None, timeout_s),
        paused=await _paused(db),
        campaigns=await _campaigns(db),
    )


CLIENT_OF = """
SELECT d.client
  FROM rotord.addresses a
  JOIN rotord.domains d ON d.name = a.domain
 WHERE a.email = $1
"""


async def client_of(db: Executor, email: str) -> str | None:
    """Whose address this is."""
    client: str | None = await db.fetchval(CLIENT_OF, email)
    return client


NAMES_OF = """
SELECT d.name, array_remove(array_agg(a.email), NULL)
  FROM rotord.domains d
  LEFT JOIN rotord.addresses a ON a.domain = d.name
 WHERE d.client = $1
 GROUP BY d.name
"""


async def load_of(db: Executor, client: str) -> Fleet:
    """One client's part of the fleet; no client when there is none of that name."""
    rows = await db.fetch(NAMES_OF, client)
    return Fleet(
        "",
        await _clients(db, [client]),
        await _domains(db, [row[0] for row in rows]),
        await _addresses(db, [email for row in rows for email in row[1]]),
        paused=await _paused(db),
        campaigns=await _campaigns(db),
    )


async def changes(db: Executor, mark: str) -> Fleet:
    """What changed since `mark`; what is gone by name. `paused` is None when no pause and no campaign changed."""
    new_mark: str = await db.fetchval(MARK)
    rows = await db.fetch(CHANGES, mark)
    named: dict[str, list[str]] = {row[0]: row[1] for row in rows}
    if not named:
        return Fleet(new_mark)
    slugs, names, emails = (named.pop(kind, []) for kind in ("client", "domain", "address"))
    paused = bool(named)
    clients = await _clients(db, slugs) if slugs else []
    domains = await _domains(db, names) if names else []
    addresses = await _addresses(db, emails) if emails else []
    return Fleet(
        new_mark,
        clients,
        domains,
        addresses,
        _gone(slugs, len(clients), lambda: [client.slug for client in clients]),
        _gone(names, len(domains), lambda: [domain.name for domain in domains]),
        _gone(emails, len(addresses), lambda: [address.email for address in addresses]),
        await _paused(db) if paused else None,
        await _campaigns(db) if paused else None,
    )


def _gone(names: list[str], found: int, there: Callable[[], list[str]]) -> list[str]:
    return [] if found == len(names) else sorted({*names}.difference(there()))


FORGET = """
DELETE FROM rotord.fleet_changes
 WHERE at < clock_timestamp() - interval '1 day' AND xid < pg_snapshot_xmin(pg_current_snapshot())
"""


async def forget_changes(db: Executor) -> None:
    """Delete changes a day old: the leader looks every half second, and a new one reads everything."""
    await db.execute(FORGET)


async def _clients(db: Executor, slugs: list[str] | None, timeout_s: float | None = None) -> list[Client]:
    return await made(await db.fetch(CLIENTS, slugs, timeout=timeout_s), _client)


def _client(row: Record) -> Client:
    return Client(row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], Pacing(row[8]), Status(row[9]), row[10])


async def _domains(db: Executor, names: list[str] | None, timeout_s: float | None = None) -> list[Domain]:
    return await made(await db.fetch(DOMAINS, names, timeout=timeout_s), _domain)


def _domain(row: Record) -> Domain:
    return Domain(row[0], row[1], row[2], tuple(row[3]), row[4], row[5], row[6], row[7], Status(row[8]), Health(row[9]), row[10])


async def _addresses(db: Executor, emails: list[str] | None, timeout_s: float | None = None) -> list[Address]:
    return await made(await db.fetch(ADDRESSES, emails, timeout=timeout_s), _address)


def _address(row: Record) -> Address:
    return Address(row[0], row[1], row[2], row[3], row[4], Status(row[5]), Health(row[6]), row[7], row[8], row[9])


async def _paused(db: Executor) -> frozenset[tuple[str, str]]:
    return frozenset((row[0], row[1]) for row in await db.fetch(PAUSED))


async def _campaigns(db: Executor) -> list[Campaign]:
    return [Campaign(*row) for row in await db.fetch(CAMPAIGNS)]
