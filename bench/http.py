"""Drain through an HTTP API: `rotord run` beside a bare loop (bench/bare_http.py), in turn, on clones of one database.

The API is SendGrid's, at bench/api_sink.py, which answers 20 ms after it has the request.
"""

from __future__ import annotations

from statistics import median

from bench.figures import Figure, Scale
from bench.place import Place, Receiver, Window, daemon, place, process, receiver, watch

SLOTS = 200
LATENCY_MS = 20
# Messages in the queue, of which the window is measured, and how often both are run in turn.
SIZES = {
    Scale.TINY: (900, Window(200, 500), 1),
    Scale.SHORT: (24_000, Window(4_000, 22_000), 2),
    Scale.FULL: (60_000, Window(6_000, 56_000), 4),
}
PROVIDER = 'kind = "sendgrid"\napi_key = "SG.key"\nbase_url = "http://127.0.0.1:{port}"\nmax_in_flight = {slots}'


async def ours(where: Place, sink: Receiver, window: Window) -> dict[str, float]:
    async with where.clone() as url, daemon(where, url, SLOTS, PROVIDER.format(port=sink.port, slots=SLOTS)) as child:
        return await watch(where, url, child, sink, window)


async def bare(where: Place, sink: Receiver, window: Window) -> dict[str, float]:
    async with where.clone() as url, process("-m", "bench.bare_http", url, f"http://127.0.0.1:{sink.port}", str(SLOTS)) as child:
        return await watch(where, url, child, sink, window)


async def figures(scale: Scale) -> list[Figure]:
    messages, window, rounds = SIZES[scale]
    found: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
    async with place(messages) as where, receiver("-m", "bench.api_sink", "--latency-ms", str(LATENCY_MS)) as sink:
        for _ in range(rounds):
            found["bare"].append(await bare(where, sink, window))
            found["ours"].append(await ours(where, sink, window))
    own, anchor = ({key: median(run[key] for run in runs) for key in runs[0]} for runs in (found["ours"], found["bare"]))

    def beside(key: str) -> str:
        return f"bare {anchor[key]:,.1f}; runs " + ", ".join(f"{run[key]:,.1f}" for run in found["ours"])

    return [
        Figure("messages a second", own["messages_a_second"], beside=beside("messages_a_second")),
        Figure("of the bare loop", own["messages_a_second"] / anchor["messages_a_second"], at_least=0.7),
        Figure("CPU of the daemon", own["client_us"], "us a message", at_most=300, beside=beside("client_us")),
        Figure("CPU of PostgreSQL", own["server_us"], "us a message", at_most=120, beside=beside("server_us")),
        Figure("write-ahead log", own["wal_bytes"], "B a message", beside=beside("wal_bytes")),
        Figure("round trips to PostgreSQL", own["round_trips"], "a message", beside=beside("round_trips")),
        Figure("cores used by the daemon", own["client_cores"], beside=beside("client_cores")),
        Figure("cores used by PostgreSQL", own["server_cores"], beside=beside("server_cores")),
    ]
