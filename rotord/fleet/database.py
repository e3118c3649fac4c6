"""The fleet in the database: read, brought to what a file declares, in one transaction or not at all.

`status` is a person's word: where the file is silent an UPDATE leaves the column alone, also against a `rotord pause` that
comes between the reading and the writing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotord.core.model import Pacing, Status
from rotord.fleet.difference import Action, FleetPlan, Kind, Present, difference
from rotord.fleet.model import DeclaredAddress, DeclaredClient, DeclaredDomain, FleetFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from asyncpg import Connection

# Some 2 MB of arguments a statement, whatever the size of the fleet.
_BATCH: Final = 10_000

# float4 as text is the shortest that reads the same: 0.1 stays 0.1
_CLIENTS: Final = """
SELECT slug, name, timezone, per_hour, per_day, weight::text AS weight, transactional_reserve::text AS transactional_reserve,
       sending_window, pacing, status, unsubscribe_host, forward_replies_to
FROM rotord.clients
ORDER BY slug
"""

_DOMAINS: Final = """
SELECT name, client, stream, providers, per_hour, per_day, warmup, warmup_started_on, status, forward_replies_to
FROM rotord.domains
ORDER BY client, name
"""

_ADDRESSES: Final = """
SELECT email, domain, display_name, per_hour, per_day, status, used_day, forward_replies_to
FROM rotord.addresses
ORDER BY domain, email
"""

_IN_USE: Final = """
SELECT c.slug
FROM rotord.clients AS c
WHERE EXISTS (SELECT FROM rotord.outbox AS o WHERE o.client = c.slug)
   OR EXISTS (SELECT FROM rotord.campaigns AS p WHERE p.client = c.slug)
   OR EXISTS (SELECT FROM rotord.suppressions AS s WHERE s.client = c.slug)
"""


async def present(conn: Connection) -> Present:
    """Read the fleet as it is."""
    clients = [
        DeclaredClient(
            slug=row["slug"],
            name=row["name"],
            timezone=row["timezone"],
            per_hour=row["per_hour"],
            per_day=row["per_day"],
            weight=float(row["weight"]),
            transactional_reserve=float(row["transactional_reserve"]),
            sending_window=row["sending_window"],
            pacing=Pacing(row["pacing"]),
            status=Status(row["status"]),
            unsubscribe_host=row["unsubscribe_host"],
            forward_replies_to=row["forward_replies_to"],
        )
        for row in await conn.fetch(_CLIENTS)
    ]
    domains = [
        DeclaredDomain(
            name=row["name"],
            client=row["client"],
            stream=row["stream"],
            providers=tuple(row["providers"]),
            per_hour=row["per_hour"],
            per_day=row["per_day"],
            warmup=row["warmup"],
            warmup_started_on=row["warmup_started_on"],
            status=Status(row["status"]),
            forward_replies_to=row["forward_replies_to"],
        )
        for row in await conn.fetch(_DOMAINS)
    ]
    addresses = [
        DeclaredAddress(
            email=row["email"],
            domain=row["domain"],
            display_name=row["display_name"],
            per_hour=row["per_hour"],
            per_day=row["per_day"],
            status=Status(row["status"]),
            used_day=row["used_day"],
            forward_replies_to=row["forward_replies_to"],
        )
        for row in await conn.fetch(_ADDRESSES)
    ]
    in_use = frozenset(row["slug"] for row in await conn.fetch(_IN_USE))
    return Present(FleetFile(tuple(clients), tuple(domains), tuple(addresses)), in_use)


async def plan(conn: Connection, fleet: FleetFile) -> FleetPlan:
    """Tell what `apply` would do; writes nothing."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        return difference(fleet, await present(conn))


_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('rotord.fleet', 0))"


async def apply(conn: Connection, fleet: FleetFile) -> FleetPlan:
    """Make the database what the file declares, and tell what was done. One at a time; all of it or nothing."""
    async with conn.transaction():
        await conn.execute(_LOCK)
        steps = difference(fleet, await present(conn))
        await _write_clients(conn, fleet, steps)
        await _write_domains(conn, fleet, steps)
        await _delete(conn, _DELETE_ADDRESSES, steps.names(Kind.ADDRESS, Action.DELETE))
        await _write_addresses(conn, fleet, steps)
        await _delete(conn, _DELETE_DOMAINS, steps.names(Kind.DOMAIN, Action.DELETE))
        await _delete(conn, _DELETE_CLIENTS, steps.names(Kind.CLIENT, Action.DELETE))
        await _delete(conn, _DISABLE_CLIENTS, steps.names(Kind.CLIENT, Action.DISABLE))
    return steps


_INSERT_CLIENTS: Final = """
INSERT INTO rotord.clients (slug, name, timezone, per_hour, per_day, weight, transactional_reserve, sending_window, pacing, status,
                            unsubscribe_host, forward_replies_to)
SELECT slug, name, timezone, per_hour, per_day, weight, transactional_reserve, sending_window, pacing, coalesce(status, 'active'),
       unsubscribe_host, forward_replies_to
FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::integer[], $6::real[], $7::real[], $8::text[], $9::text[], $10::text[],
            $11::text[], $12::text[])
  AS n (slug, name, timezone, per_hour, per_day, weight, transactional_reserve, sending_window, pacing, status, unsubscribe_host,
        forward_replies_to)
"""

_UPDATE_CLIENTS: Final = """
UPDATE rotord.clients AS c
SET name = n.name, timezone = n.timezone, per_hour = n.per_hour, per_day = n.per_day, weight = n.weight,
    transactional_reserve = n.transactional_reserve, sending_window = n.sending_window, pacing = n.pacing,
    status = coalesce(n.status, c.status), unsubscribe_host = n.unsubscribe_host, forward_replies_to = n.forward_replies_to
FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::integer[], $6::real[], $7::real[], $8::text[], $9::text[], $10::text[],
            $11::text[], $12::text[])
  AS n (slug, name, timezone, per_hour, per_day, weight, transactional_reserve, sending_window, pacing, status, unsubscribe_host,
        forward_replies_to)
WHERE c.slug = n.slug
"""


async def _write_clients(conn: Connection, fleet: FleetFile, steps: FleetPlan) -> None:
    for statement, action in ((_INSERT_CLIENTS, Action.ADD), (_UPDATE_CLIENTS, Action.CHANGE)):
        names = steps.names(Kind.CLIENT, action)
        rows = [
            (
                c.slug,
                c.name,
                c.timezone,
                c.per_hour,
                c.per_day,
                c.weight,
                c.transactional_reserve,
                c.sending_window,
                c.pacing,
                c.status,
                c.unsubscribe_host,
                c.forward_replies_to,
            )
            for c in fleet.clients
            if c.slug in names
        ]
        await _in_batches(conn, statement, rows)


# Provider names hold no comma, and unnest would flatten an array of arrays.
_INSERT_DOMAINS: Final = """
INSERT INTO rotord.domains (name, client, stream, providers, per_hour, per_day, warmup, warmup_started_on, status, forward_replies_to)
SELECT name, client, stream, string_to_array(providers, ','), per_hour, per_day, warmup, warmup_started_on, coalesce(status, 'active'),
       forward_replies_to
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::integer[], $7::text[], $8::date[], $9::text[],
            $10::text[])
  AS n (name, client, stream, providers, per_hour, per_day, warmup, warmup_started_on, status, forward_replies_to)
"""

_UPDATE_DOMAINS: Final = """
UPDATE rotord.domains AS d
SET client = n.client, stream = n.stream, providers = string_to_array(n.providers, ','), per_hour = n.per_hour, per_day = n.per_day,
    warmup = n.warmup, warmup_started_on = n.warmup_started_on, status = coalesce(n.status, d.status),
    forward_replies_to = n.forward_replies_to
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::integer[], $7::text[], $8::date[], $9::text[],
            $10::text[])
  AS n (name, client, stream, providers, per_hour, per_day, warmup, warmup_started_on, status, forward_replies_to)
WHERE d.name = n.name
"""


async def _write_domains(conn: Connection, fleet: FleetFile, steps: FleetPlan) -> None:
    for statement, action in ((_INSERT_DOMAINS, Action.ADD), (_UPDATE_DOMAINS, Action.CHANGE)):
        names = steps.names(Kind.DOMAIN, action)
        rows = [
            (
                d.name,
                d.client,
                d.stream,
                ",".join(d.providers),
                d.per_hour,
                d.per_day,
                d.warmup,
                d.warmup_started_on,
                d.status,
                d.forward_replies_to,
            )
            for d in fleet.domains
            if d.name in names
        ]
        await _in_batches(conn, statement, rows)


_INSERT_ADDRESSES: Final = """
INSERT INTO rotord.addresses (email, domain, display_name, per_hour, per_day, status, used_day, used_day_at, forward_replies_to)
SELECT email, domain, display_name, per_hour, per_day, coalesce(status, 'active'), coalesce(used_day, 0),
       CASE WHEN used_day IS NOT NULL THEN now() END, forward_replies_to
FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::integer[], $6::text[], $7::integer[], $8::text[])
  AS n (email, domain, display_name, per_hour, per_day, status, used_day, forward_replies_to)
"""

# used_day counts from the moment it was said: said again it is no news, or no application would be the last
_UPDATE_ADDRESSES: Final = """
UPDATE rotord.addresses AS a
SET display_name = n.display_name, per_hour = n.per_hour, per_day = n.per_day, status = coalesce(n.status, a.status),
    used_day = coalesce(n.used_day, a.used_day),
    used_day_at = CASE WHEN n.used_day <> a.used_day THEN now() ELSE a.used_day_at END,
    forward_replies_to = n.forward_replies_to
FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::integer[], $6::text[], $7::integer[], $8::text[])
  AS n (email, domain, display_name, per_hour, per_day, status, used_day, forward_replies_to)
WHERE a.email = n.email
"""


async def _write_addresses(conn: Connection, fleet: FleetFile, steps: FleetPlan) -> None:
    for statement, action in ((_INSERT_ADDRESSES, Action.ADD), (_UPDATE_ADDRESSES, Action.CHANGE)):
        names = steps.names(Kind.ADDRESS, action)
        rows = [
            (a.email, a.domain, a.display_name, a.per_hour, a.per_day, a.status, a.used_day, a.forward_replies_to)
            for a in fleet.addresses
            if a.email in names
        ]
        await _in_batches(conn, statement, rows)


_DELETE_ADDRESSES: Final = "DELETE FROM rotord.addresses WHERE email = ANY ($1::text[])"
_DELETE_DOMAINS: Final = "DELETE FROM rotord.domains WHERE name = ANY ($1::text[])"
_DELETE_CLIENTS: Final = "DELETE FROM rotord.clients WHERE slug = ANY ($1::text[])"
_DISABLE_CLIENTS: Final = "UPDATE rotord.clients SET status = 'disabled' WHERE slug = ANY ($1::text[])"


async def _delete(conn: Connection, statement: str, names: frozenset[str]) -> None:
    await _in_batches(conn, statement, [(name,) for name in sorted(names)])


async def _in_batches(conn: Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    for start in range(0, len(rows), _BATCH):
        await conn.execute(statement, *_columns(rows[start : start + _BATCH]))


def _columns(rows: Sequence[tuple[object, ...]]) -> Iterator[list[object]]:
    return (list(column) for column in zip(*rows, strict=True))
