"""Where a drain is measured: a durable PostgreSQL, a database filled once and cloned for each run, and the processes on both sides.

fsync and full_page_writes are on in all that is measured here; the server's other settings are those the daemon gives its own.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.usage import Usage, usage
from rotord.db.connect import open_connection
from rotord.db.migrate import migrate
from rotord.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLIENTS, ADDRESSES_A_CLIENT, ADDRESSES_A_DOMAIN = 12, 100, 25
HTML = "<p class='body'>Dear customer, this line of the letter is of an ordinary length.</p>\n" * 49
TEXT = "Dear customer,\n\nthank you for your order.\n" * 8
FLEET = """
INSERT INTO rotord.clients (slug) SELECT 'client-' || i FROM generate_series(0, {clients} - 1) AS i;
INSERT INTO rotord.domains (name, client, providers)
SELECT 'd' || i || '.example', 'client-' || i % {clients}, '{{main}}' FROM generate_series(0, {domains} - 1) AS i;
INSERT INTO rotord.addresses (email, domain, display_name)
SELECT 'a' || i || '@d' || i % {domains} || '.example', 'd' || i % {domains} || '.example', 'Acme GmbH'
  FROM generate_series(0, {addresses} - 1) AS i;
"""
OUTBOX = """
INSERT INTO rotord.outbox (client, recipient, recipient_name, subject, body_text, body_html)
SELECT 'client-' || i % $1::int, 'r' || i || '@example.org', 'Jane Doe', 'Your order of last week, number ' || i, $2, $3
  FROM generate_series($4::int, $5::int) AS i
"""
# From one look at the receiver's count to the next.
LOOK_S = 0.02


@dataclass(slots=True)
class Place:
    """A server with a filled template."""

    server: EmbeddedPostgres
    folder: Path
    clones: int = 0

    @property
    def pid(self) -> int:
        assert self.server.pid is not None
        return self.server.pid

    def url(self, database: str) -> str:
        return self.server.dsn.replace("/rotord?", f"/{database}?")

    @asynccontextmanager
    async def clone(self) -> AsyncIterator[str]:
        """A database of the template's rows, for one run."""
        self.clones += 1
        name = f"run_{self.clones}"
        admin = await open_connection(self.server.dsn)
        try:
            await admin.execute(f"CREATE DATABASE {name} TEMPLATE filled", timeout=300)
            await admin.execute("CHECKPOINT", timeout=300)
            yield self.url(name)
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)", timeout=300)
        finally:
            await admin.close()


@asynccontextmanager
async def place(messages: int) -> AsyncIterator[Place]:
    """A durable server with a template of 1,200 addresses and so many queued messages of 4 kB."""
    with tempfile.TemporaryDirectory(prefix="rotord-bench-") as folder:
        async with EmbeddedPostgres(Path(folder)) as server:
            found = Place(server, Path(folder))
            admin = await open_connection(server.dsn)
            await admin.execute("CREATE DATABASE filled")
            await admin.close()
            db = await open_connection(found.url("filled"))
            await migrate(db)
            addresses = CLIENTS * ADDRESSES_A_CLIENT
            await db.execute(FLEET.format(clients=CLIENTS, domains=addresses // ADDRESSES_A_DOMAIN, addresses=addresses))
            for first in range(0, messages, 1000):  # an app that inserts a thousand at a time
                await db.execute(OUTBOX, CLIENTS, TEXT, HTML, first, min(first + 1000, messages) - 1, timeout=60)
            await db.execute("VACUUM ANALYZE", timeout=300)
            await db.close()
            yield found


@asynccontextmanager
async def process(*words: str, log: Path | None = None, stdout: int | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a module of this Python; killed at the end if it still runs."""
    with (log or Path("/dev/null")).open("ab") as sink:
        child = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdout=sink if stdout is None else stdout, stderr=None if log is None else sink
        )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


@dataclass(frozen=True, slots=True)
class Receiver:
    """The receiving side as a process of its own; it says how many messages it took."""

    pid: int
    port: int

    async def taken(self) -> int:
        return int(await self._told("/count"))

    async def last(self) -> float:
        """When the last message was there, on time.monotonic's clock."""
        return float(await self._told("/last"))

    async def _told(self, path: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET %s HTTP/1.1\r\n\r\n" % path.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        told = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
        writer.close()
        return told


@asynccontextmanager
async def receiver(*words: str) -> AsyncIterator[Receiver]:
    async with process(*words, stdout=asyncio.subprocess.PIPE) as child:
        assert child.stdout is not None
        port = int(await child.stdout.readline())
        yield Receiver(child.pid, port)


@dataclass(frozen=True, slots=True)
class Window:
    """From which message to which a run is measured: what starts and what runs dry is left out."""

    first: int
    last: int


async def watch(where: Place, url: str, client: asyncio.subprocess.Process, sink: Receiver, window: Window) -> dict[str, float]:
    """What a message cost a process that drains, between two messages of the receiver's count."""
    db = await open_connection(url)
    marks: list[Usage] = []
    give_up = time.monotonic() + 120
    before = await sink.taken()
    for bound in (window.first, window.last):
        while (taken := await sink.taken() - before) < bound:
            if client.returncode is not None or time.monotonic() > give_up:
                raise RuntimeError(f"the drain stopped after {taken} messages (exit {client.returncode})")
            await asyncio.sleep(LOOK_S)
        marks.append(await usage(db, client.pid, where.pid, sink.pid, taken))
    await db.close()
    return marks[1].each(marks[0])


CONFIG = """
[database]
url = "{url}"
[state]
dir = "{state}"
[http]
listen = "127.0.0.1:0"
public_url = "https://rotor.example.com"
[engine]
concurrency = {slots}
[log]
format = "json"
[providers.main]
{provider}
"""


@asynccontextmanager
async def daemon(where: Place, url: str, slots: int, provider: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`rotord run` on a clone, with one provider."""
    state = Path(tempfile.mkdtemp(prefix="daemon-", dir=where.folder))
    config = state / "rotord.toml"
    config.write_text(CONFIG.format(url=url, state=state, slots=slots, provider=provider))
    async with process("-m", "rotord", "--config", str(config), "run", log=state / "log") as child:
        try:
            yield child
        except RuntimeError:
            print((state / "log").read_text()[-4000:], file=sys.stderr)
            raise
