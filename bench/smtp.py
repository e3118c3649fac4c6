"""Drain through SMTP, 50 connections: `rotord run` beside two bare loops (bench/bare_smtp.py), in turn.

The one runs the daemon's SQL and aiosmtplib with ready bytes; the other has no database at all.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from bench.drains import SIZES, Run, by_the_daemon, compared
from bench.figures import Figure
from bench.place import place, process, receiver, watch

if TYPE_CHECKING:
    from bench.figures import Scale

CONNECTIONS = 50
PROVIDER = 'kind = "smtp"\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\nconnections = {connections}'


async def figures(scale: Scale) -> list[Figure]:
    messages, window, rounds = SIZES[scale]
    bares: list[Run] = []
    readies: list[Run] = []
    own: list[Run] = []
    async with place(messages) as where, receiver("-m", "bench.smtp_sink") as sink:

        async def bare(*, with_sql: bool) -> Run:
            words = ("-m", "bench.bare_smtp", str(sink.port), str(CONNECTIONS))
            async with where.clone() as url, process(*words, *([url] if with_sql else [])) as child:
                return await watch(where, url, child, sink, window)

        for _ in range(rounds):
            bares.append(await bare(with_sql=True))
            readies.append(await bare(with_sql=False))
            own.append(await by_the_daemon(where, sink, window, 200, PROVIDER.format(port=sink.port, connections=CONNECTIONS)))
    speed, cost = (median(run[key] for run in readies) for key in ("messages_a_second", "client_us"))
    return [
        *compared(bares, own, at_least=0.7, client_us=None, server_us=None),
        Figure(
            "of ready bytes without a database, by the clock",
            median(run["messages_a_second"] for run in own) / speed,
            at_least=0.7,
            beside=f"{speed:,.0f} messages a second",
        ),
        Figure(
            "of ready bytes, by CPU of the client",
            cost / median(run["client_us"] for run in own),
            beside=f"{cost:,.0f} us a message",
        ),
    ]
