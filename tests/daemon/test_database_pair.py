"""Two PostgreSQL servers, one streaming to the other, both in `database.url`: the daemon follows the primary and loses nothing."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from rotord.embedded import EmbeddedPostgres
from rotord.embedded.account import choose_account
from rotord.embedded.binaries import binaries
from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, Truth, check_truth, receiver, relay, running, wait_until

ROOT = Path(__file__).parent.parent.parent
ROWS = 1500
LEASE = "[lease]\nttl_seconds = 5\n"


def socket_of(server: EmbeddedPostgres) -> str:
    return parse_qs(urlsplit(server.dsn).query)["host"][0]


async def follow(primary: EmbeddedPostgres, folder: Path) -> EmbeddedPostgres:
    """Copy the primary, and run the copy as its standby."""
    account = await choose_account(folder)
    account.make_dir(account.home)
    source = f"--dbname=host={socket_of(primary)} user=rotord"
    flags = [f"--pgdata={account.home / 'data'}", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
    copy = [*account.prefix, str(binaries().tool("pg_basebackup")), source, *flags]
    await asyncio.to_thread(subprocess.run, copy, check=True, capture_output=True, timeout=60, cwd="/")
    standby = EmbeddedPostgres(folder)
    await standby.start()
    return standby


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[tuple[EmbeddedPostgres, EmbeddedPostgres]]:
    """A primary with the schema, and a standby that has each commit before the primary's client hears of it."""
    primary = EmbeddedPostgres(folder / "primary")
    await primary.start()
    try:
        standby = await follow(primary, folder / "standby")
        try:
            db = await asyncpg.connect(primary.dsn)
            await db.execute((ROOT / "schema.sql").read_text())
            await db.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            await db.execute("SELECT pg_reload_conf()")
            await db.close()
            yield primary, standby
        finally:
            await standby.stop()
    finally:
        await primary.stop()


@pytest.mark.system
@pytest.mark.timeout(120)
@pytest.mark.parametrize("crash", [False, True], ids=["switchover", "failover"])
async def test_the_daemon_follows_the_primary_and_nothing_is_lost_or_twice(crash: bool, tmp_path: Path) -> None:
    async with pair(tmp_path) as (primary, standby), receiver(tmp_path, "relay", latency_ms="20,200") as one:
        db = await asyncpg.connect(primary.dsn)
        await Fleet().add(db, "acme", domains=4, addresses=10)
        await insert_rows(db, "acme", ROWS)
        url = f"postgresql:///rotord?user=rotord&host={socket_of(primary)},{socket_of(standby)}"
        async with running(Rig(url, tmp_path, LEASE + relay("relay", one.port, 20))) as rig:
            assert await wait_until(db, "count(*) > 300 FROM rotord.attempts", 30), rig.log[-3000:]
            db.terminate()
            if crash:
                assert primary.pid is not None
                os.killpg(primary.pid, signal.SIGKILL)
            else:
                await primary.stop()
            db = await asyncpg.connect(standby.dsn)
            assert await db.fetchval("SELECT pg_promote()")
            at_turn = await db.fetchval("SELECT count(*) FROM rotord.attempts")
            over = "count(*) = 0 FROM rotord.messages WHERE status IN ('queued', 'sending')"
            assert await wait_until(db, over, 60), rig.log[-3000:]
            assert (rig.starts, await rig.stop()) == (1, 0)
        uncertain = await check_truth(db, Truth.of(one), ROWS)
        begun = await db.fetchval("SELECT count(*) FROM rotord.attempts")
        await db.close()
    print(f"{at_turn} begun at the turn, {begun} in all, {uncertain} uncertain")

    assert at_turn < begun
    assert uncertain <= 20
