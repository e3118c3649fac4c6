"""pgqueuer with the bench's handler: the payload, the same POST, a log row. Arguments: the database's URL, the API's, jobs at once."""

import asyncio
import json
import sys

import aiohttp
import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.queries import Queries

PAYLOADS = "SELECT payload FROM mail WHERE id >= $1 AND id < $1 + 1000 ORDER BY id"
LOG = "INSERT INTO mail_log (message, status) VALUES ($1, $2)"


async def fill(url: str, jobs: int) -> None:
    connection = await asyncpg.connect(url)
    queries = Queries.from_asyncpg_connection(connection)
    await queries.install()
    for first in range(0, jobs, 1000):
        payloads = [row[0] for row in await connection.fetch(PAYLOADS, first)]
        await queries.enqueue(["send"] * len(payloads), [payload.encode() for payload in payloads], [0] * len(payloads))
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


async def work(url: str, api: str, at_once: int) -> None:
    async with (
        asyncpg.create_pool(url, min_size=5, max_size=20) as pool,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session,
    ):
        queue = PgQueuer(AsyncpgPoolDriver(pool))

        @queue.entrypoint("send")
        async def send(job):
            message = json.loads(job.payload)
            async with session.post(f"{api}/v3/mail/send", data=job.payload, headers={"Authorization": "Bearer SG.key"}) as answer:
                await answer.read()
            await pool.execute(LOG, message["id"], answer.status)

        await queue.run(batch_size=at_once // 2, max_concurrent_tasks=at_once)


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        asyncio.run(fill(sys.argv[2], int(sys.argv[3])))
    else:
        uvloop.run(work(sys.argv[2], sys.argv[3], int(sys.argv[4])))
