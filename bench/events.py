"""Events a second: stored from signed SendGrid batches of 100 over HTTP, then folded. One process is both sides.

python -m bench.events [--batches 300]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import aiohttp
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rotord.core.records import Term
from rotord.db import migrate
from rotord.db.connect import open_connection, open_pool
from rotord.db.event_store import PostgresEvents
from rotord.embedded import EmbeddedPostgres
from rotord.engine.ingester import Ingester
from rotord.http_side import HttpSide
from rotord.posting import parsers, sources
from rotord.web.listener import bind
from rotord.web.metrics import Counters
from rotord.webhooks import sendgrid

A_BATCH = 100
PARALLEL = 10
PRIVATE = ec.generate_private_key(ec.SECP256R1())


def batch(number):
    at = int(time.time())
    items = [
        {
            "event": "delivered",
            "email": f"r{number}.{n}@example.org",
            "timestamp": at,
            "sg_message_id": f"m{number}.{n}",
            "response": "250 OK",
        }
        for n in range(A_BATCH)
    ]
    body = json.dumps(items).encode()
    signature = PRIVATE.sign(str(at).encode() + body, ec.ECDSA(hashes.SHA256()))
    return body, {sendgrid.SIGNATURE: base64.b64encode(signature).decode(), sendgrid.TIMESTAMP: str(at)}


async def post(url, batches, took):
    async with aiohttp.ClientSession() as session:
        while batches:
            body, headers = batches.pop()
            began = time.perf_counter()
            async with session.post(url, data=body, headers=headers) as answer:
                assert answer.status == 200
            took.append(time.perf_counter() - began)


async def main(count):
    der = PRIVATE.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    keys = {"sg": ("sendgrid", base64.b64encode(der).decode())}
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedPostgres(Path(folder)) as server:
            connection = await open_connection(server.dsn)
            await migrate.migrate(connection)
            holder = uuid4()
            await connection.execute(
                "INSERT INTO rotord.lease VALUES ('main', $1, 1, now(), now() + interval '1 day') ON CONFLICT (name) DO UPDATE"
                " SET holder = $1, epoch = 1, expires_at = now() + interval '1 day'",
                holder,
            )
            bound = bind("127.0.0.1:0")
            url = f"http://127.0.0.1:{bound.getsockname()[1]}/webhooks/sg"
            http = HttpSide(bound, Counters("bench"), {}, {"webhooks": sources(keys)})
            async with asyncio.TaskGroup() as group:
                side = group.create_task(http.run(server.dsn, b"x" * 32, lambda: True))
                batches, took = [batch(number) for number in range(count)], []
                began = time.perf_counter()
                async with asyncio.TaskGroup() as posters:
                    for _ in range(PARALLEL):
                        posters.create_task(post(url, batches, took))
                stored_s = time.perf_counter() - began
                side.cancel()
            took.sort()
            print(f"stored {count * A_BATCH / stored_s:,.0f} events/s; answers p50 {took[len(took) // 2] * 1e3:.0f} ms,", end=" ")
            print(f"p99 {took[int(len(took) * 0.99)] * 1e3:.0f} ms ({PARALLEL} at once, as fast as they go)")
            async with await open_pool(server.dsn) as pool:
                ingester = Ingester(PostgresEvents(pool), parsers({"sg": "sendgrid"}, b"x" * 32))
                began = time.perf_counter()
                while await ingester.fold_some(Term(holder, 1, 0.0, 0)):
                    pass
                folded_s = time.perf_counter() - began
                kept = await pool.fetchval("SELECT count(*) FROM rotord.events")
            print(f"folded {kept / folded_s:,.0f} events/s ({kept:,} of {count * A_BATCH:,}; the last waited {folded_s:.1f} s)")
            await connection.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batches", type=int, default=300)
    asyncio.run(main(parser.parse_args().batches))
