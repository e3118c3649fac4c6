"""Rows that tests of commands start from: two clients, a domain and an address each, messages in any state."""

from datetime import UTC, datetime, timedelta
from typing import Any

from asyncpg import Connection

FLEET = """
INSERT INTO rotord.clients (slug) VALUES ('acme'), ('other');
INSERT INTO rotord.domains (name, client, stream) VALUES ('acme.example', 'acme', 'main'), ('other.example', 'other', 'news');
INSERT INTO rotord.addresses (email, domain) VALUES ('a@acme.example', 'acme.example'), ('o@other.example', 'other.example');
"""


async def add_fleet(db: Connection) -> None:
    await db.execute(FLEET)


async def insert(db: Connection, **columns: Any) -> int:
    """Insert a message as an app does; `client` acme, any recipient."""
    values = {"client": "acme", "recipient": "R@Example.org", "subject": "s", "body_text": "b", **columns}
    names = ", ".join(values)
    places = ", ".join(f"${i}" for i in range(1, len(values) + 1))
    return await db.fetchval(f"INSERT INTO rotord.outbox ({names}) VALUES ({places}) RETURNING id", *values.values())


async def begin(db: Connection, message: int, *, ago: timedelta = timedelta(), provider: str = "relay") -> int:
    """Put a message on the wire, as the dispatcher does, `ago` before now; returns the attempt's id."""
    began_at = datetime.now(UTC) - ago  # noqa: TID251 (a test's own past)
    attempt = (int(began_at.timestamp() * 1000) << 20) + message
    await db.execute(
        """
        INSERT INTO rotord.attempts (id, outbox_id, number, epoch, address, domain, client, provider, began_at, deadline_at)
        SELECT $1, id, attempts + 1, 1, 'a@acme.example', 'acme.example', client, $2, $3::timestamptz, $3::timestamptz + interval '60 s'
        FROM rotord.queue WHERE id = $4
        """,
        attempt,
        provider,
        began_at,
        message,
    )
    await db.execute(
        "UPDATE rotord.queue SET state = 'sending', attempt = $1, attempts = attempts + 1, message_id = '<m@x>' WHERE id = $2",
        attempt,
        message,
    )
    return attempt


async def make_uncertain(db: Connection, message: int, **begun: Any) -> int:
    """As the recorder leaves a message whose answer was lost."""
    attempt = await begin(db, message, **begun)
    await db.execute("UPDATE rotord.attempts SET outcome = 'uncertain', blame = 'network', code = '', reply = 'cut' WHERE id = $1", attempt)
    await db.execute("UPDATE rotord.queue SET state = 'uncertain', last_error = 'cut' WHERE id = $1", message)
    return attempt


async def fail(db: Connection, message: int) -> None:
    attempt = await begin(db, message)
    await db.execute("UPDATE rotord.attempts SET outcome = 'rejected', finished_at = now() WHERE id = $1", attempt)
    await db.execute(
        """
        WITH gone AS (DELETE FROM rotord.queue WHERE id = $1 RETURNING *)
        INSERT INTO rotord.message_state (id, client, status, message_id, attempts, last_error)
        SELECT id, client, 'failed', message_id, attempts, '550 no' FROM gone
        """,
        message,
    )


async def status(db: Connection, message: int) -> str:
    return await db.fetchval("SELECT status FROM rotord.messages WHERE id = $1", message)


async def queue_row(db: Connection, message: int) -> dict[str, Any] | None:
    row = await db.fetchrow("SELECT * FROM rotord.queue WHERE id = $1", message)
    return dict(row) if row else None
