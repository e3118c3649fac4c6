"""A server that answers like SendGrid's API after a latency, as cheaply as Python can: a bare protocol, nothing is parsed but the length.

    python -m bench.api_sink [--latency-ms 20]

Prints its port. `GET /count` is answered at once with how many messages it took so far, `GET /last` with when the last of them was there,
on the clock of time.monotonic, which is the whole machine's. The doubles of tests/doubles are too slow here: they read every request as
the API does, which takes as long as sending it.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import uvloop

DATE = b"Tue, 24 Nov 2026 12:00:00 GMT"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nServer: nginx\r\nDate: " + DATE + b"\r\nContent-Length: 0\r\nX-Message-Id: %022d\r\n\r\n"
TOLD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
NOTHING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Sink(asyncio.Protocol):
    """One connection."""

    taken = 0
    last = 0.0

    def __init__(self, loop: asyncio.AbstractEventLoop, latency_s: float) -> None:
        self._loop = loop
        self._latency_s = latency_s
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer = buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        if buffer.startswith(b"POST"):
            start = buffer.index(b"Content-Length: ") + 16
            if len(buffer) - end - 4 < int(buffer[start : buffer.index(b"\r\n", start)]):
                return
            self._buffer = b""
            Sink.taken, Sink.last = Sink.taken + 1, time.monotonic()
            self._loop.call_later(self._latency_s, self._answer, ACCEPTED % Sink.taken)
            return
        self._buffer = b""
        told = b"%d" % Sink.taken if buffer.startswith(b"GET /count") else b"%.6f" % Sink.last
        self._answer(TOLD % (len(told), told) if buffer.startswith((b"GET /count", b"GET /last")) else NOTHING)

    def _answer(self, words: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(words)


async def serve(latency_s: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Sink(loop, latency_s), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency-ms", type=float, default=20.0)
    uvloop.run(serve(parser.parse_args().latency_ms / 1000))
