"""20,000 rows into servers that nobody here wrote: Postfix's smtp-sink, and aiosmtpd with TLS and AUTH."""

import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, Truth, relay, running, wait_for_quiet
from tests.doubles.tls_receiver import PASSWORD, USERNAME
from tests.providers.test_smtp_tls import certificate
from tests.system.test_smtp_sink import free_port

pytestmark = [pytest.mark.system, pytest.mark.skipif(shutil.which("smtp-sink") is None, reason="needs the package postfix")]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def dumps() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@asynccontextmanager
async def process(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    one = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, cwd=ROOT)
    try:
        yield one
    finally:
        one.kill()
        await one.wait()


def dumped(dumps: Path) -> list[tuple[str, str]]:
    """(row, sender) of every message smtp-sink took."""
    seen = []
    for path in dumps.iterdir():
        head = path.read_bytes()
        row = re.search(rb"^X-Row: (.*?)\r?$", head, re.MULTILINE)
        sender = re.search(rb"^X-Mail-Args: <(.*?)>", head, re.MULTILINE)
        assert row is not None
        assert sender is not None
        seen.append((row.group(1).decode(), sender.group(1).decode()))
    return seen


@pytest.mark.timeout(500)
async def test_twenty_thousand_rows_into_real_servers(database_url: str, db: asyncpg.Connection, tmp_path: Path, dumps: Path) -> None:
    fleet = Fleet()
    limits = {0: (None, None, 9), 1: (None, 200, 12), 2: (700, 300, 12)}
    allowed = {0: 900, 1: 800, 2: 700}
    clients = [f"c{number}" for number in range(12)]
    for number, client in enumerate(clients):
        streams = ("main", "news") if number in {0, 4} else ("main",)
        await fleet.add(db, client, per_hour=limits[number % 3], streams=streams, providers=("sink", "tls"))
        for stream in streams:
            await insert_rows(db, client, 1667 // len(streams), stream=stream)
    pem, log = certificate(tmp_path, "right", "127.0.0.1"), tmp_path / "tls.jsonl"
    port = free_port()
    user = ("-u", "nobody") if os.geteuid() == 0 else ()
    # -W: one second more before the reply to the final dot, for one message in twenty
    sink = ("smtp-sink", *user, "-W", ".:1:5", "-d", f"{dumps}/%M.", f"127.0.0.1:{port}", "512")
    async with process(*sink), process(sys.executable, "-m", "tests.doubles.tls_receiver", str(pem), str(log)) as tls:
        assert tls.stdout is not None
        tls_port = int(await tls.stdout.readline())
        settings = relay("sink", port, 60) + relay(
            "tls", tls_port, 60, f'username = "{USERNAME}"\npassword = "{PASSWORD}"\nca_file = "{pem}"'
        ).replace('tls = "none"', 'tls = "starttls"')
        rig = Rig(database_url, tmp_path, settings)
        async with running(rig):
            await wait_for_quiet(db, 8.0, 400.0)
            assert await rig.stop() == 0
    pairs = dumped(dumps)
    pairs += [(entry["row"], entry["from"]) for entry in map(json.loads, log.read_text().splitlines())]
    rows, senders = Counter(row for row, _ in pairs), Counter(sender for _, sender in pairs)
    truth = Truth(rows, {address: [0.0] * count for address, count in senders.items()}, pairs)
    used = truth.worst(fleet.client_of)
    print(f"{len(pairs)} messages, used of allowed: {[round(used[c] / allowed[n % 3], 4) for n, c in enumerate(clients)]}")

    assert max(rows.values()) == 1
    for group in (fleet.itself, fleet.domain_of, fleet.client_of):
        for name, worst in truth.worst(group).items():
            assert worst <= fleet.limit_of.get(name, worst), name
    assert all(used[client] >= 0.97 * allowed[number % 3] for number, client in enumerate(clients))
    for row, sender in pairs:
        client, stream, _ = row.split("/")
        assert (fleet.client_of[sender], fleet.stream_of[sender]) == (client, stream)
    assert PASSWORD not in rig.log
