"""From an app's INSERT to the provider's socket while nothing else is to be done: one message at a time, by `rotord run`.

The API is bench/api_sink.py without latency. The time runs from before the INSERT until the sink has the last byte of the message, by one
clock.
"""

from __future__ import annotations

import asyncio
import random
import time

from bench.figures import Figure, Scale
from bench.http import PROVIDER
from bench.place import CLIENTS, OUTBOX, TEXT, daemon, place, receiver
from rotord.db.connect import open_connection

COUNTS = {Scale.TINY: 5, Scale.SHORT: 150, Scale.FULL: 1000}
PAUSE_S = (0.02, 0.12)


async def figures(scale: Scale) -> list[Figure]:
    took = []
    chance = random.Random(1)
    async with (
        place(100) as where,
        receiver("-m", "bench.api_sink", "--latency-ms", "0") as sink,
        where.clone() as url,
        daemon(where, url, 200, PROVIDER.format(port=sink.port, slots=200)),
    ):
        db = await open_connection(url)
        while await sink.taken() < 100:  # noqa: ASYNC110 - another process's count
            await asyncio.sleep(0.05)
        for number in range(COUNTS[scale]):
            await asyncio.sleep(chance.uniform(*PAUSE_S))
            began = time.monotonic()
            await db.execute(OUTBOX, CLIENTS, TEXT, None, 100 + number, 100 + number)
            while await sink.taken() < 101 + number:  # noqa: ASYNC110 - another process's count
                await asyncio.sleep(0.01)
            took.append((await sink.last() - began) * 1e3)
        await db.close()
    took.sort()
    return [
        Figure("p50", took[len(took) // 2], "ms", at_most=15),
        Figure("p99", took[int(len(took) * 0.99)], "ms", at_most=60),
        Figure("worst", took[-1], "ms", beside=f"of {len(took)}"),
    ]
