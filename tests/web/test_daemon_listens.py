"""The listener of a real daemon: there before it leads, on standbys too, gone last; a busy port is a clear end."""

import asyncio
import json
import signal
import socket

import aiohttp
import asyncpg
import pytest

from rotord.core.unsubscribe import token
from rotord.db.keys import unsubscribe_key
from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, receiver, relay, running, wait_until

LEASE = "[lease]\nttl_seconds = 5\n"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def rig(url, folder, port, toml):
    folder.mkdir()
    return Rig(url, folder, LEASE + toml, environment={"ROTORD_HTTP__LISTEN": f"127.0.0.1:{port}"})


async def ask(port: int, path: str, within_s: float = 30.0, **form: str) -> tuple[int, str]:
    """Ask until somebody answers."""
    async with asyncio.timeout(within_s), aiohttp.ClientSession() as client:
        while True:
            try:
                async with client.request("POST" if form else "GET", f"http://127.0.0.1:{port}{path}", data=form or None) as answer:
                    return answer.status, await answer.text()
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.1)


@pytest.mark.timeout(120)
async def test_leader_and_standby_answer_and_their_word_holds(database_url, db: asyncpg.Connection, tmp_path):
    fleet = Fleet()
    await fleet.add(db, "acme", domains=1, addresses=2)
    first, second = free_port(), free_port()
    async with receiver(tmp_path, "relay") as one:
        toml = relay("relay", one.port)
        async with running(rig(database_url, tmp_path / "one", first, toml)) as leader:
            assert json.loads((await ask(first, "/readyz"))[1])["database"] == "reachable"
            assert await wait_until(db, "count(*) > 0 FROM rotord.lease WHERE expires_at > now()", 20)
            await insert_rows(db, "acme", 3)
            assert await wait_until(db, "count(*) = 3 FROM rotord.messages WHERE status = 'sent'", 20)
            async with running(rig(database_url, tmp_path / "two", second, toml)) as standby:
                assert json.loads((await ask(second, "/readyz"))[1]) | {"epoch": 1} == {
                    "ready": True, "role": "standby", "database": "reachable", "schema": "current", "epoch": 1,
                }  # fmt: skip
                # what the receiver holds carries a link; the standby, which made none, answers it
                row = await db.fetchrow("SELECT id, recipient FROM rotord.messages ORDER BY id LIMIT 1")
                link = "/u/" + token(await unsubscribe_key(db), row["id"])
                assert (await ask(second, link))[0] == 200
                assert (await ask(second, link, **{"List-Unsubscribe": "One-Click"}))[0] == 200
                await insert_rows(db, "acme", 3)
                assert await wait_until(db, "count(*) = 5 FROM rotord.messages WHERE status = 'sent'", 20)
                assert await db.fetchval("SELECT count(*) FROM rotord.messages WHERE status = 'suppressed'") == 1
                text = (await ask(first, "/metrics"))[1]
                assert 'rotord_messages_total{client="acme",outcome="accepted",provider="relay"} 5.0' in text
                assert "rotord_leader 1.0" in text
                assert "rotord_leader 0.0" in (await ask(second, "/metrics"))[1]
                assert await standby.stop() == 0
            assert await leader.stop() == 0
    assert row["recipient"] not in leader.log + standby.log
    assert "Traceback" not in leader.log + standby.log


@pytest.mark.timeout(60)
async def test_a_busy_port_ends_the_start_with_one_sentence(database_url, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = rig(database_url, tmp_path / "one", port, '[providers.box]\nkind = "sandbox"\n')
        await daemon.start()
        assert daemon.daemon is not None
        code = await asyncio.wait_for(daemon.daemon.wait(), 30)

    assert code == 1
    assert f"http.listen: cannot listen on 127.0.0.1:{port}: another process listens there" in daemon.log
    assert "Traceback" not in daemon.log


@pytest.mark.timeout(60)
async def test_the_listener_outlives_the_engine(database_url, db: asyncpg.Connection, tmp_path):
    """While the last answers are waited for, an unsubscribe is still taken."""
    fleet = Fleet()
    await fleet.add(db, "acme", domains=1, addresses=2)
    port = free_port()
    async with (
        receiver(tmp_path, "relay", latency_ms="4000,4000") as one,
        running(rig(database_url, tmp_path / "one", port, relay("relay", one.port))) as daemon,
    ):
        await ask(port, "/healthz")
        await insert_rows(db, "acme", 2)
        assert await wait_until(db, "count(*) = 2 FROM rotord.attempts", 20)
        assert daemon.daemon is not None
        daemon.daemon.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            while "waiting_for_answers" not in daemon.log:  # noqa: ASYNC110 - the log tells nobody
                await asyncio.sleep(0.05)
        link = "/u/" + token(await unsubscribe_key(db), await db.fetchval("SELECT min(id) FROM rotord.outbox"))
        assert (await ask(port, link, **{"List-Unsubscribe": "One-Click"}))[0] == 200
        assert daemon.daemon.returncode is None
        assert await asyncio.wait_for(daemon.daemon.wait(), 30) == 0
    assert await db.fetchval("SELECT count(*) FROM rotord.suppressions") == 1
