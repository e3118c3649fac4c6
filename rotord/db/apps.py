"""Which database role may insert mail for which clients.

Owns `rotord.app_clients` and the memberships in `rotord_app`; what such a role may see and do is schema.sql's business. Roles
belong to the whole server and may own other things, so removing an app takes its rights and leaves the role.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Connection, Record

#: PostgreSQL cuts longer names silently, and a cut one may be somebody else's
MAX_ROLE_BYTES: Final = 63
#: PostgreSQL's own default for scram-sha-256
_SCRAM_ITERATIONS: Final = 4096
_SALT_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class App:
    """A role and the clients it may insert for, in order."""

    role: str
    clients: tuple[str, ...]


class AppError(ValueError):
    """The role or a client is not what it must be; says what to do."""


async def add_app(conn: Connection, role: str, clients: Sequence[str], password: str | None = None) -> str:
    """Let `role` insert for `clients`, besides those it may already; make it if there is none. Returns what was done.

    Without a password a new role logs in by whatever else the server allows it (peer, a certificate, a password set later).
    """
    if not clients:
        raise AppError("name at least one client")
    if not role or "\0" in role or len(role.encode()) > MAX_ROLE_BYTES:
        raise AppError(f"a role's name has 1 to {MAX_ROLE_BYTES} bytes")
    async with conn.transaction():
        await _refuse_unknown(conn, clients)
        found = await conn.fetchrow(ROLE, role)
        if found is None:
            await _run(conn, "CREATE ROLE %1$I LOGIN", role)
        else:
            _refuse_unfit(role, found)
        if password is not None:
            await _run(conn, "ALTER ROLE %1$I LOGIN PASSWORD %2$L", role, _scram(password))
        await _run(conn, "GRANT rotord_app TO %1$I", role)
        await conn.execute(ADD, role, list(clients))
        may = [row["client"] for row in await conn.fetch(CLIENTS_OF, role)]
    made = "was made and" if found is None else "was there already and"
    return f"role {role} {made} may insert for {', '.join(may)}"


async def list_apps(conn: Connection) -> list[App]:
    """Read all apps, by role."""
    return [App(row["role"], tuple(row["clients"])) for row in await conn.fetch(LIST)]


async def remove_app(conn: Connection, role: str, clients: Sequence[str] | None = None) -> str:
    """Take from `role` the right to insert for `clients` (None: for all); with the last one it loses rotord_app. Returns what was done."""
    async with conn.transaction():
        gone = [row["client"] for row in await conn.fetch(REMOVE, role, None if clients is None else list(clients))]
        if not gone:
            raise AppError(f"role {role} inserts for none of them" if clients else f"there is no app {role}")
        left = [row["client"] for row in await conn.fetch(CLIENTS_OF, role)]
        if not left and await conn.fetchval(IS_MEMBER, role):
            await _run(conn, "REVOKE rotord_app FROM %1$I", role)
    now = f"still may for {', '.join(left)}" if left else "the role itself stays: DROP ROLE removes it"
    return f"role {role} may no longer insert for {', '.join(gone)}; {now}"


ROLE: Final = """
SELECT r.rolsuper OR r.rolbypassrls AS is_above_policies,
       r.rolinherit,
       pg_has_role(r.oid, c.relowner, 'MEMBER') AS is_owner
FROM pg_roles AS r, pg_class AS c
WHERE r.rolname = $1
  AND c.oid = 'rotord.outbox'::regclass
"""

IS_MEMBER: Final = """
SELECT EXISTS (
  SELECT
  FROM pg_auth_members AS m
  JOIN pg_roles AS r ON r.oid = m.member
  WHERE r.rolname = $1
    AND m.roleid = 'rotord_app'::regrole)
"""

QUOTE: Final = """
SELECT format($1, VARIADIC $2::text[])
"""

UNKNOWN: Final = """
SELECT wanted
FROM unnest($1::text[]) AS wanted
WHERE NOT EXISTS (SELECT FROM rotord.clients WHERE slug = wanted)
"""

SLUGS: Final = """
SELECT slug
FROM rotord.clients
"""

ADD: Final = """
INSERT INTO rotord.app_clients (role, client)
SELECT $1, client
FROM unnest($2::text[]) AS client
ON CONFLICT DO NOTHING
"""

REMOVE: Final = """
DELETE FROM rotord.app_clients
WHERE role = $1
  AND ($2::text[] IS NULL OR client = ANY ($2))
RETURNING client
"""

CLIENTS_OF: Final = """
SELECT client
FROM rotord.app_clients
WHERE role = $1
ORDER BY client
"""

LIST: Final = """
SELECT role, array_agg(client ORDER BY client) AS clients
FROM rotord.app_clients
GROUP BY role
ORDER BY role
"""


async def _run(conn: Connection, template: str, *values: str) -> None:
    """Run a statement that takes no parameters, with its names and literals quoted by the server itself."""
    await conn.execute(await conn.fetchval(QUOTE, template, list(values)))


async def _refuse_unknown(conn: Connection, clients: Sequence[str]) -> None:
    unknown = [row["wanted"] for row in await conn.fetch(UNKNOWN, list(clients))]
    if not unknown:
        return
    near = get_close_matches(unknown[0], [row["slug"] for row in await conn.fetch(SLUGS)], n=1)
    raise AppError(f"there is no client {', '.join(unknown)}" + (f"; did you mean {near[0]}?" if near else ""))


def _refuse_unfit(role: str, found: Record) -> None:
    if found["is_above_policies"] or found["is_owner"]:
        raise AppError(f"role {role} is a superuser, bypasses row-level security or owns rotord's tables: an app needs a plain role")
    if not found["rolinherit"]:
        raise AppError(f"role {role} does not inherit: ALTER ROLE {role} INHERIT first")


def _scram(password: str) -> str:
    """Make the verifier PostgreSQL stores, here, so that the password reaches neither the wire nor the server's log."""
    if not password:
        raise AppError("the password is empty: type one, or give it on standard input")
    if not password.isascii() or not password.isprintable():
        # Others are normalised (SASLprep) before they are hashed, which is more than a generated password needs.
        raise AppError("a password has printable ASCII characters only")
    salt = secrets.token_bytes(_SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{salt64}${stored64}:{server64}"
