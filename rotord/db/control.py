"""Pausing and resuming: a person's word on who may send, in force within a second by the triggers of these tables.

Owns `rotord.pauses`, `campaigns.status` and, with the fleet file, the `status` of clients, domains and addresses. It
moves a status between active and paused only: `disabled` is a stronger word, which neither pausing nor resuming takes
back. Providers live in the configuration, so the caller has checked a provider's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncpg import Connection, Record


class Target(StrEnum):
    """What can be paused. Names: '' for all, `client/stream`, `client/campaign`, else the thing's own."""

    ALL = "all"
    CLIENT = "client"
    STREAM = "stream"
    CAMPAIGN = "campaign"
    DOMAIN = "domain"
    ADDRESS = "address"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True)
class Change:
    """What a pause or resume found and left. `health` is rotord's own word on a domain or address, which it keeps."""

    before: str
    after: str
    created: bool = False
    health: str | None = None
    health_reason: str | None = None

    @property
    def changed(self) -> bool:
        """True when the command made a difference."""
        return self.before != self.after


class UnknownNameError(LookupError):
    """Nothing of that kind has that name; `known` are names among which the one that was meant may be."""

    def __init__(self, kind: Target, name: str, known: list[str]) -> None:
        super().__init__(f"there is no {kind} {name!r}")
        self.known = known


class DisabledError(ValueError):
    """Resuming does not enable what a person disabled."""


async def pause(conn: Connection, kind: Target, name: str) -> Change:
    """Pause it; pausing what is paused or disabled changes nothing. Raises UnknownNameError."""
    async with conn.transaction():
        match kind:
            case Target.ALL | Target.STREAM | Target.PROVIDER:
                await _known_without_row(conn, kind, name)
                made = await conn.fetchval(INSERT_PAUSE, kind, name)
                return Change("active" if made else "paused", "paused")
            case Target.CAMPAIGN:
                return await _set_campaign(conn, name, "paused")
            case Target.CLIENT | Target.DOMAIN | Target.ADDRESS:
                return await _set_status(conn, kind, name, "paused")


async def resume(conn: Connection, kind: Target, name: str) -> Change:
    """Undo a pause. Raises UnknownNameError, and DisabledError for what is disabled."""
    async with conn.transaction():
        match kind:
            case Target.ALL | Target.STREAM | Target.PROVIDER:
                gone = await conn.fetchval(DELETE_PAUSE, kind, name)
                if not gone:  # a stream that has left the fleet can still be resumed, so the name is checked last
                    await _known_without_row(conn, kind, name)
                return Change("paused" if gone else "active", "active")
            case Target.CAMPAIGN:
                return await _set_campaign(conn, name, "active")
            case Target.CLIENT | Target.DOMAIN | Target.ADDRESS:
                return await _set_status(conn, kind, name, "active")


#: a person's words that pausing and resuming leave as they are; a campaign that is done is over, but holds nothing
STRONGER: Final = frozenset({"disabled", "cancelled"})

INSERT_PAUSE: Final = """
INSERT INTO rotord.pauses (kind, name)
VALUES ($1, $2)
ON CONFLICT DO NOTHING
RETURNING true
"""

DELETE_PAUSE: Final = """
DELETE FROM rotord.pauses
WHERE kind = $1 AND name = $2
RETURNING true
"""

STREAMS: Final = """
SELECT DISTINCT client || '/' || stream
FROM rotord.domains
"""


async def _known_without_row(conn: Connection, kind: Target, name: str) -> None:
    if kind is Target.STREAM:
        streams = [row[0] for row in await conn.fetch(STREAMS)]
        if name not in streams:
            raise UnknownNameError(kind, name, streams)


ADD_CAMPAIGN: Final = """
INSERT INTO rotord.campaigns (client, name, status)
VALUES ($1, $2, $3)
ON CONFLICT (client, name) DO UPDATE
SET status = excluded.status
"""

CLIENT_SLUGS: Final = """
SELECT slug
FROM rotord.clients
"""


async def _set_campaign(conn: Connection, name: str, status: str) -> Change:
    """Campaigns begin with their first message, so one nobody has used yet can be paused beforehand."""
    found = await conn.fetchrow(FIND[Target.CAMPAIGN], name)
    if found is not None:
        return await _set_found(conn, Target.CAMPAIGN, name, found, status)
    client, _, campaign = name.partition("/")
    slugs = [row["slug"] for row in await conn.fetch(CLIENT_SLUGS)]
    if client not in slugs:
        raise UnknownNameError(Target.CAMPAIGN, name, [f"{slug}/{campaign}" for slug in slugs])
    await conn.execute(ADD_CAMPAIGN, client, campaign, status)
    return Change("active", status, created=True)


FIND: Final = {
    Target.CAMPAIGN: """
SELECT status, NULL AS health, NULL AS health_reason
FROM rotord.campaigns
WHERE client = split_part($1, '/', 1) AND name = substr($1, strpos($1, '/') + 1)
FOR UPDATE
""",
    Target.CLIENT: """
SELECT status, NULL AS health, NULL AS health_reason
FROM rotord.clients
WHERE slug = $1
FOR UPDATE
""",
    Target.DOMAIN: """
SELECT status, health, health_reason
FROM rotord.domains
WHERE name = $1
FOR UPDATE
""",
    Target.ADDRESS: """
SELECT status, health, health_reason
FROM rotord.addresses
WHERE email = $1
FOR UPDATE
""",
}

SET_STATUS: Final = {
    Target.CAMPAIGN: """
UPDATE rotord.campaigns
SET status = $2
WHERE client = split_part($1, '/', 1) AND name = substr($1, strpos($1, '/') + 1)
""",
    Target.CLIENT: """
UPDATE rotord.clients
SET status = $2
WHERE slug = $1
""",
    Target.DOMAIN: """
UPDATE rotord.domains
SET status = $2
WHERE name = $1
""",
    Target.ADDRESS: """
UPDATE rotord.addresses
SET status = $2
WHERE email = $1
""",
}

#: $1 is what was typed; of up to 100,000 addresses only those that share its domain or its beginning are looked at
NAMES: Final = {
    Target.CLIENT: """
SELECT slug
FROM rotord.clients
WHERE $1 <> ''
""",
    Target.DOMAIN: """
SELECT name
FROM rotord.domains
WHERE $1 <> ''
""",
    Target.ADDRESS: """
SELECT email
FROM rotord.addresses
WHERE domain = split_part($1, '@', 2) OR left(email, 3) = left($1, 3)
LIMIT 5000
""",
}


async def _set_status(conn: Connection, kind: Target, name: str, status: str) -> Change:
    found = await conn.fetchrow(FIND[kind], name)
    if found is None:
        raise UnknownNameError(kind, name, [row[0] for row in await conn.fetch(NAMES[kind], name)])
    return await _set_found(conn, kind, name, found, status)


async def _set_found(conn: Connection, kind: Target, name: str, found: Record, status: str) -> Change:
    before: str = found["status"]
    if before in STRONGER and status == "active":
        raise DisabledError(f"{kind} {name} is {before}")
    after = before if before in STRONGER else status
    if after != before:
        await conn.execute(SET_STATUS[kind], name, after)
    return Change(before, after, health=found["health"], health_reason=found["health_reason"])
