"""procrastinate with the bench's handler: the payload, the same POST, a log row. Arguments: the database's URL, the API's, jobs at once."""

import asyncio
import sys

import aiohttp
import orjson
import uvloop
from procrastinate import App, PsycopgConnector
from psycopg_pool import AsyncConnectionPool

LOG = "INSERT INTO mail_log (message, status) VALUES (%s, %s)"


async def fill(url: str, jobs: int) -> None:
    app = App(connector=PsycopgConnector(conninfo=url))

    @app.task(name="send")
    async def send(message):
        raise NotImplementedError

    async with app.open_async(), AsyncConnectionPool(url, min_size=1, open=False) as pool:
        await app.schema_manager.apply_schema_async()
        async with pool.connection() as connection:
            rows = await (await connection.execute("SELECT payload FROM mail WHERE id < %s ORDER BY id", [jobs])).fetchall()
        for first in range(0, jobs, 1000):
            await send.batch_defer_async(*({"message": orjson.loads(row[0])} for row in rows[first : first + 1000]))


async def work(url: str, api: str, at_once: int) -> None:
    app = App(connector=PsycopgConnector(conninfo=url, min_size=5, max_size=20))
    async with (
        AsyncConnectionPool(url, min_size=5, max_size=20, open=False) as pool,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session,
    ):

        @app.task(name="send")
        async def send(message):
            body = orjson.dumps(message)
            async with session.post(f"{api}/v3/mail/send", data=body, headers={"Authorization": "Bearer SG.key"}) as answer:
                await answer.read()
            async with pool.connection() as connection:
                await connection.execute(LOG, [message["id"], answer.status])

        async with app.open_async():
            await app.run_worker_async(concurrency=at_once, delete_jobs="never", install_signal_handlers=False)


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        asyncio.run(fill(sys.argv[2], int(sys.argv[3])))
    else:
        uvloop.run(work(sys.argv[2], sys.argv[3], int(sys.argv[4])))
