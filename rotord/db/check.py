"""What `rotord check` reads of the database itself and of the fleet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncpg import Connection


@dataclass(frozen=True, slots=True)
class Client:
    """A client that nobody has disabled, and how many addresses could send for it."""

    slug: str
    timezone: str
    addresses: int
    unsubscribe_host: str | None


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain that nobody has disabled."""

    name: str
    client: str
    providers: list[str]
    warmup: str


VERSION: Final = """
SELECT current_setting('server_version'), current_setting('server_version_num')::integer / 10000
"""


async def version(conn: Connection) -> tuple[str, int]:
    """Give the server's version as it says it, and its first number."""
    (row,) = await conn.fetch(VERSION)
    return row[0], row[1]


CLIENTS: Final = """
SELECT c.slug, c.timezone,
       (SELECT count(*)
        FROM rotord.domains AS d
        JOIN rotord.addresses AS a ON a.domain = d.name
        WHERE d.client = c.slug AND d.status = 'active' AND a.status = 'active' AND 'disabled' NOT IN (d.health, a.health)) AS addresses,
       c.unsubscribe_host
FROM rotord.clients AS c
WHERE c.status <> 'disabled'
ORDER BY c.slug
"""


async def clients(conn: Connection) -> list[Client]:
    """List them by slug."""
    return [Client(**row) for row in await conn.fetch(CLIENTS)]


DOMAINS: Final = """
SELECT d.name, d.client, d.providers, d.warmup
FROM rotord.domains AS d
JOIN rotord.clients AS c ON c.slug = d.client
WHERE 'disabled' NOT IN (d.status, c.status)
ORDER BY d.name
"""


async def domains(conn: Connection) -> list[Domain]:
    """List them by name."""
    return [Domain(**row) for row in await conn.fetch(DOMAINS)]
