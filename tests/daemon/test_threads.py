"""Threads: one address, one message at a time, in order, each a reply to the one before; and what happens when the address falls away."""

import asyncio
from collections import defaultdict
from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet
from tests.daemon.policy_receiver import PolicyReceiver, listening
from tests.daemon.rig import Rig, relay, running, wait_until
from tests.daemon.scenes import insert

THREADS = 50
MESSAGES = 5
CONNECTIONS = 4
OVER = "count(*) = 0 FROM rotord.messages WHERE status IN ('queued', 'sending')"


async def _insert_threads(url: str) -> None:
    """Round after round one message more of each thread; its connection is another one each time, and all of them are at it at once."""
    connections = [await asyncpg.connect(url) for _ in range(CONNECTIONS)]

    async def part(connection: asyncpg.Connection, number: int, threads: list[int]) -> None:
        for thread in threads:
            await insert(connection, "acme", thread_key=f"t{thread}", recipient=f"t{thread}@recipients.example", subject=f"{number}")

    try:
        for number in range(MESSAGES):
            async with asyncio.TaskGroup() as group:
                for index, connection in enumerate(connections):
                    mine = [thread for thread in range(THREADS) if (thread + number) % CONNECTIONS == index]
                    group.create_task(part(connection, number, mine))
    finally:
        for connection in connections:
            await connection.close()


@pytest.mark.timeout(60)
async def test_threads_keep_their_address_their_order_and_their_chain(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await Fleet().add(db, "acme", domains=3, addresses=5)
    async with listening(PolicyReceiver()) as one, running(Rig(database_url, tmp_path, relay("relay", one.port, 20))):
        await _insert_threads(database_url)
        assert await wait_until(db, f"count(*) = {THREADS * MESSAGES} FROM rotord.messages WHERE status = 'sent'", 40)
    threads = defaultdict(list)
    for given in one.taken:
        threads[given.recipient].append(given)

    assert len(threads) == THREADS
    assert len({given.sender for given in one.taken}) > 10
    for messages in threads.values():
        ids = [given.header("message-id") for given in messages]
        assert [given.header("subject") for given in messages] == [str(number) for number in range(MESSAGES)]
        assert len({given.sender for given in messages}) == 1
        assert [given.header("in-reply-to") for given in messages] == ["", *ids[:-1]]
        assert [given.header("references").split() for given in messages] == [ids[:number] for number in range(MESSAGES)]


@pytest.mark.timeout(60)
async def test_a_thread_waits_for_its_address_or_moves_within_its_domain_or_fails(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    fleet = Fleet()
    for client in ("waits", "moves", "fails"):
        await fleet.add(db, client, domains=2, addresses=2 if client == "moves" else 1)
    async with listening(PolicyReceiver()) as one, running(Rig(database_url, tmp_path, relay("relay", one.port, 20))) as rig:
        for client in fleet.client_of.values():
            await insert(db, client, thread_key="t", recipient=f"{client}@recipients.example")
        assert await wait_until(db, "count(*) = 8 FROM rotord.messages WHERE status = 'sent'", 20), rig.log[-1000:]
        sender = {row["client"]: row["sender"] for row in await db.fetch("SELECT client, sender FROM rotord.threads")}
        await db.execute(
            "UPDATE rotord.addresses SET health = 'cooling', health_until = now() + interval '1 hour' WHERE email = $1", sender["waits"]
        )
        await db.execute("UPDATE rotord.addresses SET status = 'disabled' WHERE email = ANY ($1)", [sender["moves"], sender["fails"]])
        # An edit is in force within 2 s, so they are due after that.
        due = await db.fetchval("SELECT now() + interval '2 s'")
        later = {
            client: await insert(db, client, thread_key="t", recipient=f"{client}@recipients.example", send_after=due) for client in sender
        }
        ended = await wait_until(db, "count(*) = 10 FROM rotord.messages WHERE status IN ('sent', 'failed')", 10)
        held = await db.fetchval("SELECT status FROM rotord.messages WHERE id = $1", later["waits"])
        _, why = await rig.command("why", "message", str(later["waits"]), "--json")
        await db.execute("UPDATE rotord.addresses SET health = 'healthy', health_until = NULL WHERE email = $1", sender["waits"])
        assert await wait_until(db, f"status = 'sent' FROM rotord.messages WHERE id = {later['waits']}", 5)
    rows = {row["client"]: row for row in await db.fetch("SELECT * FROM rotord.messages WHERE id = ANY ($1)", list(later.values()))}
    print(f"failed: {rows['fails']['last_error']}; waited: {why['sentence']}")

    assert ended
    assert held == "queued"
    assert sender["waits"] in why["sentence"]
    assert rows["waits"]["sender"] == sender["waits"]
    assert (rows["moves"]["status"], rows["moves"]["sender"] != sender["moves"]) == ("sent", True)
    assert rows["moves"]["sender"].split("@")[1] == sender["moves"].split("@")[1]
    assert rows["fails"]["status"] == "failed"
    assert sender["fails"] in rows["fails"]["last_error"]
