"""The demo from its first step to its verdict. The database belongs to this process, which lends it to the daemon."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import asyncpg

from rotord.db import explain, migrate
from rotord.db.connect import open_connection
from rotord.demo import audit, children, usage
from rotord.demo.children import DemoError
from rotord.demo.place import RELAY_SLOTS, SANDBOX_SLOTS
from rotord.demo.rows import Script, script
from rotord.embedded import EmbeddedPostgres, EmbeddedPostgresError
from rotord.fleet import apply, read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from rotord.demo.place import Place
    from rotord.fleet import FleetFile

#: looks alive, and costs the daemon's database little
PROGRESS_S: Final = 0.25
# Twice what `make demo` may take: on a slow machine late is better than not at all.
DRAIN_S: Final = 120.0
LEADS_S: Final = 60.0
_POLL_S: Final = 0.05
_ROWS_AT_ONCE: Final = 500
#: that many unaccounted messages are explained; one asks the database for a second
EXPLAINED: Final = 10
_PROVIDER_LIMITS: Final[Mapping[str, int]] = {"relay": 20_000, "sandbox": 10_000}  # as place.py writes them


@dataclass(frozen=True, slots=True)
class Progress:
    """Where it stands, `elapsed_s` after the first row was inserted."""

    total: int
    sent: int
    left: int
    uncertain: int
    on_the_wire: int
    slots: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """The end."""

    audit: audit.Audit
    uses: list[usage.Use]
    drain_s: float
    whys: Mapping[int, str]

    @property
    def is_accounted_for(self) -> bool:
        """Every row, and no limit exceeded."""
        return not self.audit.faults and all(use.used <= use.limit for use in self.uses)


class Screen(Protocol):
    """Who watches."""

    def step(self, what: str, says: str) -> None:
        """Something was done."""

    def progress(self, progress: Progress) -> None:
        """It goes on."""


async def play(place: Place, fleet_file: Path, count: int, screen: Screen, log: FilteringBoundLogger) -> Report:
    """Send `count` messages, and judge. DemoError, FleetError, EmbeddedPostgresError and what the database raises end it early."""
    loop = asyncio.get_running_loop()
    fleet = read(fleet_file)
    is_kept = place.claim()
    async with AsyncExitStack() as stack:
        began = loop.time()
        server = EmbeddedPostgres(place.directory, log=log)
        url = (await stack.enter_async_context(server)).dsn
        place.clear()
        conn = await open_connection(url, application_name="rotord demo")
        stack.push_async_callback(_close, conn)
        version = await conn.fetchval("SHOW server_version")
        kept = "kept from the last demo, emptied" if is_kept else "new; the next demo finds it made"
        screen.step("database", f"PostgreSQL {version}, up in {loop.time() - began:.1f} s ({kept})")
        await _prepare(conn, fleet, screen)
        port = await stack.enter_async_context(children.receiver(place.relay_truth))
        place.configure(port)
        screen.step("relay", f"SMTP on 127.0.0.1:{port}, answers after 20-120 ms, 1 % after 1-2 s")
        screen.step("sandbox", "files, answers after 20-120 ms, refuses 2 % for now, 0.4 % for good")
        began = loop.time()
        async with children.daemon(place.config, url, place.daemon_log) as process:
            await _wait_for_leader(conn, process, place)
            screen.step("daemon", f"rotord run, process {process.pid}, leads after {loop.time() - began:.1f} s")
            began = loop.time()
            written = script(fleet, count)
            await _insert(conn, written)
            screen.step("outbox", f"{count:,} rows inserted in {loop.time() - began:.1f} s")
            await _watch(conn, process, place, screen, (count, began))
            drain_s = loop.time() - began
            code = await children.end(process)
            if code != 0:
                raise DemoError(
                    f"the daemon ended with exit code {code}, its log {place.daemon_log} says:\n{children.tail(place.daemon_log)}"
                )
        return await _report(conn, place, fleet, written, drain_s, url)


async def _prepare(conn: asyncpg.Connection, fleet: FleetFile, screen: Screen) -> None:
    # Limits reach a day back: on the last demo's ledger a few demos within an hour would wait for it, as they must.
    await conn.execute("DROP SCHEMA IF EXISTS rotord CASCADE", timeout=DRAIN_S)
    await migrate.migrate(conn)
    await apply(conn, fleet)
    screen.step("fleet", f"{len(fleet.clients)} clients, {len(fleet.domains)} domains, {len(fleet.addresses):,} addresses")


async def _wait_for_leader(conn: asyncpg.Connection, process: asyncio.subprocess.Process, place: Place) -> None:
    try:
        async with asyncio.timeout(LEADS_S):
            while True:
                _check(process, place)
                leader = await explain.leader(conn)
                if leader is not None and leader["is_leading"]:
                    return
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise DemoError(f"the daemon does not lead after {LEADS_S:.0f} s: see its log {place.daemon_log}") from None


def _check(process: asyncio.subprocess.Process, place: Place) -> None:
    if process.returncode is not None:
        raise DemoError(f"the daemon ended ({process.returncode}); its log {place.daemon_log} says:\n{children.tail(place.daemon_log)}")


SUPPRESS: Final = """
INSERT INTO rotord.suppressions (recipient, client, reason, source)
SELECT recipient, client, reason, 'demo'
FROM unnest($1::text[], $2::text[], $3::text[]) AS s (recipient, client, reason)
"""

INSERT: Final = """
INSERT INTO rotord.outbox (client, recipient, recipient_name, subject, body_text, body_html, stream, campaign, kind, sender, thread_key,
                           reply_to, headers, attachments, metadata, priority, send_after, expires_at, idempotency_key)
SELECT r.client, r.recipient, r.recipient_name, r.subject, r.body_text, r.body_html, r.stream, r.campaign, r.kind, r.sender, r.thread_key,
       r.reply_to, r.headers, r.attachments, r.metadata, r.priority, now() + make_interval(secs => coalesce(r.send_in_s, 0)),
       now() + make_interval(secs => r.expires_in_s), r.idempotency_key
FROM ROWS FROM (jsonb_to_recordset($1::jsonb) AS (
  client text, recipient text, recipient_name text, subject text, body_text text, body_html text, stream text, campaign text, kind text,
  sender text, thread_key text, reply_to text, headers jsonb, attachments jsonb, metadata jsonb, priority smallint, send_in_s float8,
  expires_in_s float8, idempotency_key text)) WITH ORDINALITY AS r
ORDER BY r.ordinality
"""

CANCEL: Final = """
UPDATE rotord.outbox
SET cancelled_at = now()
WHERE idempotency_key = ANY($1::text[])
"""


async def _insert(conn: asyncpg.Connection, written: Script) -> None:
    columns = zip(*((s.recipient, s.client, s.reason) for s in written.suppressions), strict=True)
    if written.suppressions:
        await conn.execute(SUPPRESS, *map(list, columns))
    for at in range(0, len(written.rows), _ROWS_AT_ONCE):
        await conn.execute(INSERT, [row.columns for row in written.rows[at : at + _ROWS_AT_ONCE]], timeout=DRAIN_S)
    await conn.execute(CANCEL, [row.key for row in written.rows if row.fate == "cancelled"])


COUNTS: Final = """
SELECT count(*) AS queued,
       count(*) FILTER (WHERE state = 'uncertain') AS uncertain,
       count(*) FILTER (WHERE state = 'sending') AS sending,
       (SELECT count(*) FROM rotord.message_state WHERE status = 'sent') AS sent
FROM rotord.queue
"""


async def _watch(
    conn: asyncpg.Connection, process: asyncio.subprocess.Process, place: Place, screen: Screen, inserted: tuple[int, float]
) -> None:
    """Show how it goes until nothing is left; what is left when the time is over the audit tells. `inserted`: how many, since when."""
    loop = asyncio.get_running_loop()
    total, began = inserted
    while True:
        _check(process, place)
        (counts,) = await conn.fetch(COUNTS)
        elapsed_s = loop.time() - began
        left = counts["queued"] - counts["uncertain"]
        screen.progress(
            Progress(total, counts["sent"], left, counts["uncertain"], counts["sending"], RELAY_SLOTS + SANDBOX_SLOTS, elapsed_s)
        )
        if left == 0 or elapsed_s > DRAIN_S:
            return
        await asyncio.sleep(PROGRESS_S)


async def _report(conn: asyncpg.Connection, place: Place, fleet: FleetFile, written: Script, drain_s: float, url: str) -> Report:
    found = await audit.audit(conn, place, {row.key: row.fate for row in written.rows})
    uses = usage.uses(fleet, _PROVIDER_LIMITS, ((d.at, d.sender, d.provider) for d in found.deliveries))
    whys = {fault.message: await children.explain(place.config, url, fault.message) for fault in found.faults[:EXPLAINED] if fault.message}
    return Report(found, uses, drain_s, whys)


async def _close(conn: asyncpg.Connection) -> None:
    try:
        await conn.close(timeout=1)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        conn.terminate()


__all__ = ["DemoError", "EmbeddedPostgresError", "Progress", "Report", "Screen", "play"]
