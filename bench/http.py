"""Drain through an HTTP API: `rotord run` beside a bare loop (bench/bare_http.py), in turn, on clones of one database.

The API is SendGrid's, at bench/api_sink.py, which answers 20 ms after it has the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.drains import SIZES, Run, by_the_daemon, compared, in_turn
from bench.place import Place, Receiver, Window, place, process, receiver, watch

if TYPE_CHECKING:
    from bench.figures import Figure, Scale

SLOTS = 200
LATENCY_MS = 20
PROVIDER = 'kind = "sendgrid"\napi_key = "SG.key"\nbase_url = "http://127.0.0.1:{port}"\nmax_in_flight = {slots}'


async def ours(where: Place, sink: Receiver, window: Window) -> Run:
    return await by_the_daemon(where, sink, window, SLOTS, PROVIDER.format(port=sink.port, slots=SLOTS))


async def bare(where: Place, sink: Receiver, window: Window) -> Run:
    async with where.clone() as url, process("-m", "bench.bare_http", url, f"http://127.0.0.1:{sink.port}", str(SLOTS)) as child:
        return await watch(where, url, child, sink, window)


async def figures(scale: Scale) -> list[Figure]:
    messages, window, rounds = SIZES[scale]
    async with place(messages) as where, receiver("-m", "bench.api_sink", "--latency-ms", str(LATENCY_MS)) as sink:
        runs = await in_turn(rounds, lambda: bare(where, sink, window), lambda: ours(where, sink, window))
    return compared(*runs, at_least=0.7, client_us=300, server_us=120)
