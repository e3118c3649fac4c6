"""The daemon on the databases that people have: behind pgbouncer in transaction mode, on PostgreSQL 15, with a dead first host."""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import pytest

from rotord.embedded import EmbeddedPostgres
from rotord.embedded.account import choose_account
from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, Truth, receiver, relay, running, wait_for_quiet, wait_until
from tests.daemon.scenes import first_accepted, quick_latencies, told

pytestmark = pytest.mark.system
ROOT = Path(__file__).parent.parent.parent
OLDEST = Path("/usr/lib/postgresql/15/bin")
FAST = {"fsync": "off", "full_page_writes": "off", "max_connections": "100", "shared_buffers": "64MB"}
# (client, domain, address) an hour for 2 domains of 10 addresses each, and what that allows.
LIMITS = {"addresses": ((None, None, 10), 200), "domains": ((None, 80, 10), 160), "client": ((120, 80, 10), 120)}
# 6543: one of the ports by which rotord knows a transaction pooler.
BOUNCER = """
[databases]
* = host={host} port=5432 user=rotord
[pgbouncer]
listen_port = 6543
unix_socket_dir = {folder}
unix_socket_mode = 0777
auth_type = any
pool_mode = transaction
default_pool_size = 10
logfile = {folder}/pgbouncer.log
pidfile = {folder}/pgbouncer.pid
"""


@asynccontextmanager
async def _server(folder: Path, binaries: Path | None = None) -> AsyncIterator[tuple[EmbeddedPostgres, asyncpg.Connection]]:
    """A server with the schema; of another version if its data was made by that version's initdb."""
    if binaries is not None:
        account = await choose_account(folder)
        account.make_dir(account.home)
        words = [
            f"--pgdata={account.home / 'data'}",
            "--username=rotord",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]
        await asyncio.to_thread(subprocess.run, [*account.prefix, binaries / "initdb", *words], check=True, capture_output=True, cwd="/")
    async with EmbeddedPostgres(folder, settings=FAST) as server:
        db = await asyncpg.connect(server.dsn)
        await db.execute((ROOT / "schema.sql").read_text())
        try:
            yield server, db
        finally:
            await db.close()


def _configure(folder: Path, socket_dir: str) -> Path:
    folder.chmod(0o777)
    config = folder / "pgbouncer.ini"
    config.write_text(BOUNCER.format(host=socket_dir, folder=folder))
    return config


@asynccontextmanager
async def _pgbouncer(server: EmbeddedPostgres) -> AsyncIterator[str]:
    """pgbouncer before a server, as the server's own account; its URL."""
    (socket_dir,) = parse_qs(urlsplit(server.dsn).query)["host"]
    account = await choose_account(server._state_dir)
    with tempfile.TemporaryDirectory() as name:
        config = _configure(Path(name), socket_dir)
        process = await asyncio.create_subprocess_exec(*account.prefix, "pgbouncer", "-q", str(config))
        url = f"postgresql://rotord@/rotord?host={quote(name, safe='')}&port=6543"
        try:
            async with asyncio.timeout(20):
                while not await _answers(url):
                    assert process.returncode is None
            yield url
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _answers(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, statement_cache_size=0)
    except (OSError, asyncpg.PostgresError):
        await asyncio.sleep(0.1)
        return False
    await connection.close()
    return True


async def _check_limits(url: str, db: asyncpg.Connection, folder: Path) -> None:
    """P1, P3 and P5 in a short form, by the receiver's log; and how long a single row takes."""
    fleet = Fleet()
    for client, (per_hour, _) in LIMITS.items():
        await fleet.add(db, client, domains=2, addresses=10, per_hour=per_hour)
        await insert_rows(db, client, 300)
    await fleet.add(db, "quick", domains=1, addresses=1)
    async with receiver(folder, "relay", latency_ms="5,50") as one, running(Rig(url, folder, relay("relay", one.port, 20))) as rig:
        await wait_for_quiet(db, 4.0, 60.0)
        truth = Truth.of(one)
        await first_accepted(db, "quick")
        print(told("one row at a time", await quick_latencies(db, one, "quick", 50, 0.1)))
        assert await rig.stop() == 0
    used = truth.worst(fleet.client_of)
    print(f"used of what is allowed: {used}")

    assert max(truth.rows.values()) == 1
    for group in (fleet.itself, fleet.domain_of, fleet.client_of):
        for name, worst in truth.worst(group).items():
            assert worst <= fleet.limit_of.get(name, worst), name
    assert used == {client: allowed for client, (_, allowed) in LIMITS.items()}
    for row, sender in truth.pairs:
        assert fleet.client_of[sender] == row.split("/")[0]


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="needs the package pgbouncer")
@pytest.mark.timeout(180)
async def test_limits_hold_behind_pgbouncer_in_transaction_mode(tmp_path: Path) -> None:
    async with _server(tmp_path / "server") as (server, db), _pgbouncer(server) as url:
        await _check_limits(url, db, tmp_path)


@pytest.mark.skipif(not OLDEST.exists(), reason="needs Debian's postgresql-15")
@pytest.mark.timeout(180)
async def test_limits_hold_on_the_oldest_postgresql_that_is_promised(tmp_path: Path) -> None:
    async with _server(tmp_path / "server", OLDEST) as (server, db):
        assert db.get_server_version().major == 15
        await _check_limits(server.dsn, db, tmp_path)


@pytest.mark.timeout(90)
async def test_a_dead_first_host_is_passed_over(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    parts = urlsplit(database_url)
    (socket_dir,) = parse_qs(parts.query)["host"]
    url = f"postgresql://rotord@{parts.path}?host=127.0.0.1,{quote(socket_dir, safe='')}&port=1,5432"
    await Fleet().add(db, "acme", domains=1, addresses=5)
    await insert_rows(db, "acme", 200)
    async with receiver(tmp_path, "relay") as one, running(Rig(url, tmp_path, relay("relay", one.port, 10))) as rig:
        assert await wait_until(db, "count(*) = 200 FROM rotord.messages WHERE status = 'sent'", 40), rig.log[-2000:]
        assert await rig.stop() == 0
