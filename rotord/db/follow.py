"""One message of our own, from its INSERT to its end: what `rotord send-test` inserts, reads and calls back.

It is an outbox row like any app's, so that it goes the whole way under every limit. All times are the database's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from asyncpg import Connection, Record

#: before every message of its client that waits for the same address
PRIORITY: Final = 1000


@dataclass(frozen=True, slots=True)
class Progress:
    """A message at `now`: its status as rotord.messages has it, and its attempts, the oldest first."""

    now: datetime
    status: str
    state: str | None
    due_at: datetime | None
    last_error: str | None
    settled_at: datetime | None
    attempts: list[Record]

    @property
    def is_over(self) -> bool:
        """True when nothing more becomes of it by itself."""
        return self.status not in {"queued", "sending"}


SENDER: Final = """
SELECT a.email, a.status AS address_status, a.health AS address_health, a.health_reason AS address_health_reason,
       d.name AS domain, d.status AS domain_status, d.health AS domain_health, d.health_reason AS domain_health_reason,
       d.stream, d.providers, clock_timestamp() AS now,
       c.slug AS client, c.status AS client_status,
       ARRAY(SELECT p.kind || ' ' || p.name
             FROM rotord.pauses AS p
             WHERE p.kind = 'all' OR (p.kind, p.name) = ('stream', d.client || '/' || d.stream)) AS pauses,
       ARRAY(SELECT p.name FROM rotord.pauses AS p WHERE p.kind = 'provider') AS paused_providers
FROM rotord.addresses AS a
JOIN rotord.domains AS d ON d.name = a.domain
JOIN rotord.clients AS c ON c.slug = d.client
WHERE a.email = rotord.lower_case($1)
"""


async def sender(conn: Connection, email: str) -> Record | None:
    """Read an address with all that a person may have said about it, its domain, its stream and its client."""
    return await conn.fetchrow(SENDER, email)


IS_ADDRESS: Final = """
SELECT rotord.is_address($1)
"""


async def is_address(conn: Connection, recipient: str) -> bool:
    """Ask the rule that the outbox has for its recipients."""
    return bool(await conn.fetchval(IS_ADDRESS, recipient))


# expires_at: whatever becomes of the command, its message goes out now or never
INSERT: Final = """
INSERT INTO rotord.outbox (client, stream, kind, sender, recipient, subject, body_text, body_html, priority, expires_at)
VALUES ($1, $2, 'transactional', $3, $4, $5, $6, $7, $8, now() + $9::interval)
RETURNING id, created_at
"""


async def insert(
    conn: Connection, chosen: Record, recipient: str, subject: str, text: str, html: str, expires_in: timedelta
) -> tuple[int, datetime]:
    """Insert a transactional message from the address `chosen`; its id and the time it was taken."""
    (row,) = await conn.fetch(
        INSERT, chosen["client"], chosen["stream"], chosen["email"], recipient, subject, text, html, PRIORITY, expires_in
    )
    return row["id"], row["created_at"]


MESSAGE: Final = """
SELECT clock_timestamp() AS now, m.status, q.state, q.due_at, m.last_error, m.settled_at
FROM rotord.messages AS m
LEFT JOIN rotord.queue AS q ON q.id = m.id
WHERE m.id = $1
"""

ATTEMPTS: Final = """
SELECT number, address, provider, began_at, finished_at, outcome, blame, code, reply
FROM rotord.attempts
WHERE outbox_id = $1
ORDER BY id
"""


async def progress(conn: Connection, outbox_id: int) -> Progress:
    """Read where it stands. The attempts are read last, so a message that is over has all of them, finished."""
    (message,) = await conn.fetch(MESSAGE, outbox_id)
    return Progress(**message, attempts=await conn.fetch(ATTEMPTS, outbox_id))


CALL_BACK: Final = """
UPDATE rotord.outbox
SET cancelled_at = now()
WHERE id = $1
  AND EXISTS (SELECT FROM rotord.queue AS q WHERE q.id = $1 AND q.state <> 'uncertain')
"""


async def call_back(conn: Connection, outbox_id: int) -> Progress:
    """Cancel it unless it is over, and say how it stands then."""
    await conn.execute(CALL_BACK, outbox_id)
    return await progress(conn, outbox_id)
