"""Attachments of 10 MB by the dozen: within the memory bound, intact, and nobody else's mail waits for them."""

import asyncio
import re
from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet
from tests.daemon.rig import wait_until
from tests.daemon.scenes import first_accepted, percentile, quick_latencies, sending, stretch, told

MEGABYTE = 1024 * 1024
BOUND = 64 * MEGABYTE
# What a daemon needs beside the bodies: 60 MB of its own, and each body twice while it is read, rendered and sent.
BESIDE = 250 * MEGABYTE
BIG = """
INSERT INTO rotord.outbox (client, recipient, subject, body_text, headers, attachments)
SELECT 'big', 'r' || i || '@recipients.example', 'Big ' || i, 'See the attachment.', jsonb_build_object('X-Row', 'big/' || i),
       jsonb_build_array(jsonb_build_object('filename', 'a.bin', 'content_type', 'application/octet-stream',
                                            'content_base64', repeat('AAAA', 10 * 1024 * 1024 / 3)))
  FROM generate_series($1::int, $2::int) AS i
"""


async def _check(url: str, db: asyncpg.Connection, folder: Path, big: int) -> None:
    fleet = Fleet()
    await fleet.add(db, "big", domains=1, addresses=5)
    await fleet.add(db, "quick", domains=1, addresses=5)
    for first in range(1, big + 1, 10):
        await db.execute(BIG, first, first + 9)
    async with sending(url, folder, f"[engine]\nbytes_in_flight = {BOUND}\n") as (rig, one):
        await first_accepted(db, "quick")
        seconds = await quick_latencies(db, one, "quick", 3 * big, 0.1)
        assert await wait_until(db, f"count(*) = {big} FROM rotord.messages WHERE client = 'big' AND status = 'sent'", 20 + 2 * big)
        assert rig.daemon is not None
        status = await asyncio.to_thread(Path(f"/proc/{rig.daemon.pid}/status").read_text)
        sizes = [entry["size"] for entry in one.seen() if entry.get("row", "").startswith("big/")]
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]
    print(f"{big} messages of {sizes[0] / MEGABYTE:.1f} MB: peak {peak / MEGABYTE:.0f} MB of memory;", told("others meanwhile", seconds))

    assert len(sizes) == big
    assert min(sizes) > 10 * MEGABYTE * 4 / 3
    assert max(sizes) - min(sizes) < 200  # numbers in headers
    assert peak <= BOUND + BESIDE
    # Not what another client is promised (test_isolation.py), but that nothing stands still: 20 bodies are 270 MB to read and write.
    assert percentile(seconds, 0.99) <= 2.0 * stretch()


@pytest.mark.timeout(120)
async def test_20_messages_of_10_mb_stay_within_memory(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await _check(database_url, db, tmp_path, 20)


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_200_messages_of_10_mb_stay_within_memory(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await _check(database_url, db, tmp_path, 200)
