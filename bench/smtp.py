"""Drain through SMTP, 50 connections: `rotord run` beside aiosmtplib fed with ready bytes (bench/bare_smtp.py), which has no database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.drains import SIZES, Run, by_the_daemon, compared, in_turn
from bench.place import place, process, receiver, watch

if TYPE_CHECKING:
    from bench.figures import Figure, Scale

CONNECTIONS = 50
PROVIDER = 'kind = "smtp"\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\nconnections = {connections}'


async def figures(scale: Scale) -> list[Figure]:
    messages, window, rounds = SIZES[scale]
    async with place(messages) as where, receiver("-m", "bench.smtp_sink") as sink:

        async def bare() -> Run:
            async with where.clone() as url, process("-m", "bench.bare_smtp", str(sink.port), str(CONNECTIONS)) as child:
                return await watch(where, url, child, sink, window)

        async def ours() -> Run:
            return await by_the_daemon(where, sink, window, 200, PROVIDER.format(port=sink.port, connections=CONNECTIONS))

        runs = await in_turn(rounds, bare, ours)
    return compared(*runs, at_least=0.7, client_us=None, server_us=None)
