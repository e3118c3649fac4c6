"""The demo from its first step to its verdict. The database belongs to this process, which lends it to the daemon."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import asyncpg

from rotord.db import explain, migrate
from rotord.db.connect import open_connection
from rotord.demo import audit, children, usage
from rotord.demo.children import DemoError
from rotord.demo.outage import Outage
from rotord.demo.place import API_KEY, PER_HOUR, SLOTS
from rotord.demo.rows import DemoRow, Fate, Script, script
from rotord.embedded import EmbeddedPostgres, EmbeddedPostgresError
from rotord.fleet import apply, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from rotord.demo.place import Place
    from rotord.fleet import FleetFile

#: looks alive, and costs the daemon's database little
PROGRESS_S: Final = 0.25
# Twice what `make demo` may take: on a slow machine late is better than not at all.
DRAIN_S: Final = 120.0
# The third try of a message that was refused for now twice comes after 4 to 6 s; a limit that is used up opens after an hour.
STANDSTILL_S: Final = 20.0
LEADS_S: Final = 60.0
_POLL_S: Final = 0.05
_ROWS_AT_ONCE: Final = 500
#: that many unaccounted messages are explained; one asks the database for a second
EXPLAINED: Final = 10
#: by which its domains go, in turn: every one has a way out while one provider is away
_WAYS: Final = (("mailgun", "relay"), ("sendgrid", "mailgun"), ("relay", "sendgrid"), ("mailgun", "sendgrid", "relay"))
_AWAY: Final = "mailgun"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where it stands, `elapsed_s` after the first INSERT. `left` counts what is yet to be inserted too."""

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
    outage: Outage

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
    fleet = _dealt(read(fleet_file))
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
        port = await stack.enter_async_context(children.receiver(place.truth("relay")))
        screen.step("relay", f"SMTP on 127.0.0.1:{port}, refuses 3 % for now and 1 % for good, 1 % take 1-2 s")
        apis = {}
        for kind, latency_ms in (("mailgun", "5,20"), ("sendgrid", "20,120")):
            apis[kind] = await stack.enter_async_context(children.api(kind, API_KEY, place.truth(kind), latency_ms))
            screen.step(kind, f"its API on 127.0.0.1:{apis[kind].port}, answers after {latency_ms.replace(',', '-')} ms")
        place.configure({"relay": port, **{name: double.port for name, double in apis.items()}})
        began = loop.time()
        async with children.daemon(place.config, url, place.daemon_log) as process:
            outage = Outage(_AWAY, apis[_AWAY], screen.step)
            stage = _Stage(conn, url, place, process, screen, outage)
            began = loop.time()
            await stage.wait_for_leader()
            screen.step("daemon", f"rotord run, process {process.pid}, leads after {loop.time() - began:.1f} s")
            written = script(fleet, count)
            drain_s = await _drain(stage, written)
            # while the daemon leads: afterwards that none does would be the whole answer
            whys = await stage.explain_left()
            code = await children.end(process)
            if code != 0:
                raise DemoError(
                    f"the daemon ended with exit code {code}, its log {place.daemon_log} says:\n{children.tail(place.daemon_log)}"
                )
        found = await audit.audit(conn, place, {row.key: row.fate for row in written.rows})
        uses = usage.uses(fleet, PER_HOUR, ((d.at, d.sender, d.provider) for d in found.deliveries))
        for fault in found.faults[:EXPLAINED]:
            if fault.message and fault.message not in whys:
                whys[fault.message] = await children.explain(place.config, url, fault.message)
        return Report(found, uses, drain_s, whys, outage)


async def _drain(stage: _Stage, written: Script) -> float:
    """Insert all of it, wait until it is gone, and return the seconds from the first INSERT."""
    loop = asyncio.get_running_loop()
    total, (bound, rotating) = len(written.rows), written.waves()
    began = loop.time()
    await _suppress(stage.conn, written)
    if bound:
        await _insert(stage.conn, bound)
        stage.screen.step("outbox", f"{len(bound):,} rows first: threads and pinned senders, while there is room")
        await stage.watch(total, len(rotating), began)
    await _insert(stage.conn, rotating)
    stage.screen.step("outbox", f"{len(rotating):,} rows more, whose senders rotate")
    stage.outage.arm(len(rotating))
    await stage.watch(total, 0, began)
    stage.outage.end()
    return loop.time() - began


def _dealt(fleet: FleetFile) -> FleetFile:
    """The example's domains name the two providers of its configuration; the demo has others."""
    domains = [replace(domain, providers=_WAYS[number % len(_WAYS)]) for number, domain in enumerate(fleet.domains)]
    return replace(fleet, domains=type(fleet.domains)(domains))


async def _prepare(conn: asyncpg.Connection, fleet: FleetFile, screen: Screen) -> None:
    # Limits reach a day back: on the last demo's ledger a few demos within an hour would wait for it, as they must.
    await conn.execute("DROP SCHEMA IF EXISTS rotord CASCADE", timeout=DRAIN_S)
    await migrate.migrate(conn)
    await apply(conn, fleet)
    screen.step("fleet", f"{len(fleet.clients)} clients, {len(fleet.domains)} domains, {len(fleet.addresses):,} addresses")


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


async def _suppress(conn: asyncpg.Connection, written: Script) -> None:
    columns = zip(*((s.recipient, s.client, s.reason) for s in written.suppressions), strict=True)
    if written.suppressions:
        await conn.execute(SUPPRESS, *map(list, columns))


async def _insert(conn: asyncpg.Connection, rows: Sequence[DemoRow]) -> None:
    for at in range(0, len(rows), _ROWS_AT_ONCE):
        await conn.execute(INSERT, [row.columns for row in rows[at : at + _ROWS_AT_ONCE]], timeout=DRAIN_S)
    await conn.execute(CANCEL, [row.key for row in rows if row.fate is Fate.CANCELLED])


COUNTS: Final = """
SELECT count(*) AS live,
       count(*) FILTER (WHERE state = 'uncertain') AS uncertain,
       count(*) FILTER (WHERE state = 'sending') AS sending,
       (SELECT count(*) FROM rotord.message_state WHERE status = 'sent') AS sent
FROM rotord.queue
"""

LEFT: Final = """
SELECT id
FROM rotord.queue
ORDER BY id
LIMIT $1
"""


@dataclass(frozen=True, slots=True)
class _Stage:
    """The daemon at work, seen from the database."""

    conn: asyncpg.Connection
    url: str
    place: Place
    process: asyncio.subprocess.Process
    screen: Screen
    outage: Outage

    async def wait_for_leader(self) -> None:
        try:
            async with asyncio.timeout(LEADS_S):
                while True:
                    self._check()
                    leader = await explain.leader(self.conn)
                    if leader is not None and leader["is_leading"]:
                        return
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise DemoError(f"the daemon does not lead after {LEADS_S:.0f} s: see its log {self.place.daemon_log}") from None

    async def watch(self, total: int, to_come: int, began: float) -> None:
        """Show how it goes until the queue is empty but for uncertain ones, or stands still; the audit tells what is left."""
        loop = asyncio.get_running_loop()
        left, moved_at = -1, began
        while True:
            self._check()
            (counts,) = await self.conn.fetch(COUNTS)
            live = counts["live"] - counts["uncertain"]
            now = loop.time()
            if live + to_come != left:
                left, moved_at = live + to_come, now
            slots = sum(SLOTS.values())
            self.outage.look(live)
            self.screen.progress(Progress(total, counts["sent"], left, counts["uncertain"], counts["sending"], slots, now - began))
            if live == 0 or now - began > DRAIN_S or now - moved_at > STANDSTILL_S:
                return
            await asyncio.sleep(PROGRESS_S)

    async def explain_left(self) -> dict[int, str]:
        left = await self.conn.fetch(LEFT, EXPLAINED)
        return {row["id"]: await children.explain(self.place.config, self.url, row["id"]) for row in left}

    def _check(self) -> None:
        if self.process.returncode is not None:
            log = self.place.daemon_log
            raise DemoError(f"the daemon ended ({self.process.returncode}); its log {log} says:\n{children.tail(log)}")


async def _close(conn: asyncpg.Connection) -> None:
    try:
        await conn.close(timeout=1)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        conn.terminate()


__all__ = ["DemoError", "EmbeddedPostgresError", "Progress", "Report", "Screen", "play"]
