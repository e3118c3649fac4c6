"""After a kill -9 only what had left without an answer is uncertain; what had begun and not left goes out, once."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.daemon.fleets import Fleet
from tests.daemon.policy_receiver import PolicyReceiver, listening
from tests.daemon.rig import Rig, relay, running, wait_until
from tests.daemon.scenes import insert, statuses

ROWS = 4


class Gated(PolicyReceiver):
    """Until it is opened it answers `early*` not even at RCPT, and `held*` not after the final dot."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = asyncio.Event()
        self.before = 0

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if address.startswith("early") and not self.opened.is_set():
            self.before += 1
            await self.opened.wait()
        return await super().handle_RCPT(server, session, envelope, address, options)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        answer = await super().handle_DATA(server, session, envelope)
        await self.opened.wait()
        return answer


@asynccontextmanager
async def on_the_wire(url: str, db: asyncpg.Connection, folder: Path) -> AsyncIterator[tuple[Rig, Gated]]:
    """Four messages that have begun and not left, four that have left and are not answered."""
    await Fleet().add(db, "acme", domains=1, addresses=5)
    for number in range(ROWS):
        await insert(db, "acme", recipient=f"early{number}@recipients.example")
        await insert(db, "acme", recipient=f"held{number}@recipients.example")
    gated = Gated()
    async with listening(gated):
        toml = "[lease]\nttl_seconds = 5\n" + relay("relay", gated.port, 2 * ROWS)
        async with running(Rig(url, folder, toml)) as rig:
            async with asyncio.timeout(30):
                while gated.before < ROWS or len(gated.taken) < ROWS:  # noqa: ASYNC110 - two counts of another task
                    await asyncio.sleep(0.05)
            yield rig, gated


@pytest.mark.timeout(90)
async def test_a_kill_leaves_uncertain_what_had_left_and_nothing_else(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    async with on_the_wire(database_url, db, tmp_path) as (rig, gated):
        await rig.kill(signal.SIGKILL)
        assert await statuses(db) == {"sending": 2 * ROWS}
        gated.opened.set()
        await rig.start()
        assert await wait_until(db, f"count(*) = {ROWS} FROM rotord.messages WHERE status = 'sent'", 30)
        assert await rig.stop() == 0

    assert await statuses(db) == {"sent": ROWS, "uncertain": ROWS}
    assert Counter(one.recipient for one in gated.taken) == {
        f"{kind}{n}@recipients.example": 1 for kind in ("early", "held") for n in range(ROWS)
    }
    not_sent = await db.fetchval("SELECT count(*) FROM rotord.attempts WHERE outcome = 'not_sent'")
    assert not_sent == ROWS


@pytest.mark.timeout(90)
async def test_what_a_frozen_process_of_the_same_node_might_still_send_is_uncertain(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    async with on_the_wire(database_url, db, tmp_path) as (rig, _):
        frozen = rig.daemon
        assert frozen is not None
        frozen.send_signal(signal.SIGSTOP)
        try:
            await rig.start()
            assert await wait_until(db, "count(*) FILTER (WHERE status = 'sending') = 0 FROM rotord.messages", 30)
            assert await statuses(db) == {"uncertain": 2 * ROWS}
        finally:
            frozen.kill()
            await frozen.wait()
