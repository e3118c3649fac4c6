"""Events a second: stored from signed SendGrid batches of 100 over HTTP, then folded. One process is both sides.

python -m bench.events [--batches 300] [--half-load-s 10]

Answers are timed twice: as fast as they go, and at half of what is asked for (12,500 events a second), each post at its own moment whatever
became of those before it, while the folder works beside it as it does in a daemon.
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
import structlog
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.figures import Figure, Scale
from rotord.core.records import Term
from rotord.db import migrate, posts
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
HALF_LOAD = 12_500
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


async def post_at(session, url, at, body, headers, took):
    loop = asyncio.get_running_loop()
    await asyncio.sleep(at - loop.time())
    async with session.post(url, data=body, headers=headers) as answer:
        assert answer.status == 200
    took.append(loop.time() - at)


async def half_load(url, first, seconds):
    """Open-loop: how long each answer took from the moment when its post was due."""
    took, cpu_s = [], time.process_time()
    batches = [batch(first + number) for number in range(int(seconds * HALF_LOAD / A_BATCH))]
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        start = asyncio.get_running_loop().time() + 0.2
        for number, (body, headers) in enumerate(batches):
            group.create_task(post_at(session, url, start + number * A_BATCH / HALF_LOAD, body, headers, took))
    print(f"(this process, poster and listener, {(time.process_time() - cpu_s) / seconds:.0%} of a core)", end=" ")
    return took


async def fold_on(ingester, term):
    while True:
        if not await ingester.fold_some(term):
            await asyncio.sleep(0.02)


def said(took):
    took.sort()
    return f"answers p50 {took[len(took) // 2] * 1e3:.0f} ms, p99 {took[int(len(took) * 0.99)] * 1e3:.0f} ms"


async def main(count, half_load_s):
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
                print(f"stored {count * A_BATCH / stored_s:,.0f} events/s; {said(took)} ({PARALLEL} at once, as fast as they go)")
                async with await open_pool(server.dsn) as pool:
                    ingester, term = Ingester(PostgresEvents(pool), parsers({"sg": "sendgrid"}, b"x" * 32)), Term(holder, 1, 0.0, 0)
                    began = time.perf_counter()
                    while await ingester.fold_some(term):
                        pass
                    folded_s = time.perf_counter() - began
                    kept = await pool.fetchval("SELECT count(*) FROM rotord.events")
                    print(f"folded {kept / folded_s:,.0f} events/s ({kept:,} of {count * A_BATCH:,}; the last waited {folded_s:.1f} s)")
                    alone = await half_load(url, 1_000_000, half_load_s)
                    print(f"at {HALF_LOAD:,} events/s: {said(alone)}")
                    while await ingester.fold_some(term):
                        pass
                    folding = group.create_task(fold_on(ingester, term))
                    beside = await half_load(url, 2_000_000, half_load_s)
                    _, lag_s = await posts.standing(pool)
                    print(f"the same beside the folder: {said(beside)}; it lags {lag_s:.1f} s at the end")
                    folding.cancel()
                side.cancel()
            await connection.close()
    return count * A_BATCH / stored_s, kept / folded_s, sorted(beside)[int(len(beside) * 0.99)] * 1e3, lag_s


async def figures(scale):
    count, half_load_s = {Scale.TINY: (5, 0.1), Scale.SHORT: (300, 5), Scale.FULL: (1000, 20)}[scale]
    stored, folded, p99_ms, lag_s = await main(count, half_load_s)
    return [
        Figure("stored", stored, "events/s", at_least=25_000, beside=f"{PARALLEL} at once, as fast as they go"),
        Figure("folded", folded, "events/s"),
        Figure(f"answers at {HALF_LOAD:,} events/s beside the folder, p99", p99_ms, "ms"),
        Figure("how far the folder lags then", lag_s, "s"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--half-load-s", type=float, default=10)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))  # warnings: a line a batch would be measured, too
    asyncio.run(main(given.batches, given.half_load_s))
