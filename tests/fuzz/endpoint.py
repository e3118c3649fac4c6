"""schemathesis against the HTTP side on a real PostgreSQL: `make fuzz`, or python -m tests.fuzz.endpoint [SECONDS].

What is posted with the right token is stored and folded beside it. Held: no answer but those that tests/fuzz/routes.json allows (503 of a
post only while nothing verifies), no post that the folder falls over, and memory that stays where it came to.
"""

import asyncio
import base64
import shutil
import sys
import tempfile
from pathlib import Path
from uuid import uuid4

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rotord.core.records import Term
from rotord.db import migrate
from rotord.db.connect import open_connection, open_pool
from rotord.db.event_store import PostgresEvents
from rotord.embedded import EmbeddedPostgres
from rotord.engine.ingester import Ingester
from rotord.http_side import HttpSide
from rotord.posting import by_route, parsers
from rotord.web.listener import bind
from rotord.web.metrics import Counters

HERE = Path(__file__).parent
KEY = b"k" * 32
MOST_GROWTH_KB = 60_000


def program():
    """Schemathesis stands in a virtual environment of its own."""
    found = Path(sys.prefix) / "fuzz" / "bin" / "schemathesis"
    return str(found) if found.exists() else shutil.which("schemathesis") or sys.exit("run `make fuzz`: it brings schemathesis")


def resident_kb():
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def fold_on(ingester, term):
    while True:
        if not await ingester.fold_some(term):
            await asyncio.sleep(0.2)


async def watch(seen):
    while True:
        await asyncio.sleep(5)
        seen.append(resident_kb())


async def fuzz(seconds, server):
    connection = await open_connection(server.dsn)
    await migrate.migrate(connection)
    holder = uuid4()
    await connection.execute(
        "INSERT INTO rotord.lease VALUES ('main', $1, 1, now(), now() + interval '1 day') ON CONFLICT (name) DO UPDATE"
        " SET holder = $1, epoch = 1, expires_at = now() + interval '1 day'",
        holder,
    )
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    kinds = {"mg": "mailgun", "sg": "sendgrid", "s2": "smtp2go", "relay": "smtp"}
    keys = {"mg": "key", "sg": base64.b64encode(der).decode(), "s2": "secret", "relay": "secret"}
    bound, counters, seen = bind("127.0.0.1:0"), Counters("fuzz"), []
    side = HttpSide(bound, counters, {}, by_route({name: (kind, keys[name]) for name, kind in kinds.items()}, KEY))
    async with await open_pool(server.dsn) as pool, asyncio.TaskGroup() as group:
        ingester = Ingester(PostgresEvents(pool), parsers(kinds, KEY))
        running = [
            group.create_task(side.run(server.dsn, KEY, lambda: True)),
            group.create_task(fold_on(ingester, Term(holder, 1, 0.0, 0))),
            group.create_task(watch(seen)),
        ]
        process = await asyncio.create_subprocess_exec(
            program(), "run", str(HERE / "routes.json"), "--url", f"http://127.0.0.1:{bound.getsockname()[1]}",
            "--header", "Authorization: Bearer secret", "--checks", "status_code_conformance", "--max-time", str(seconds),
            "--no-shrink", "--suppress-health-check", "all",
        )  # fmt: skip
        code = await process.wait()
        for task in running:
            task.cancel()
    posts = await connection.fetchrow(
        "SELECT count(*), count(*) FILTER (WHERE fault LIKE 'not read: %'), count(folded_at) FROM rotord.provider_posts"
    )
    await connection.close()
    print(f"{posts[0]} posts stored, {posts[2]} folded, {posts[1]} that a parser fell over; memory, MB: {[kb // 1024 for kb in seen]}")
    return code or posts[1] or (len(seen) > 4 and max(seen[len(seen) // 2 :]) > max(seen[: len(seen) // 2]) + MOST_GROWTH_KB)


async def main(seconds=600):
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedPostgres(Path(folder)) as server:
            return await fuzz(seconds, server)


if __name__ == "__main__":
    sys.exit(int(asyncio.run(main(*map(int, sys.argv[1:])))))
