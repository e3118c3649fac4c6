"""An SMTP server that takes everything and keeps nothing, as cheaply as Python can: a bare protocol that looks for line ends.

    python -m bench.smtp_sink

Prints its port. `GET /count` on it is answered with how many messages it took so far, behind its greeting.
"""

from __future__ import annotations

import asyncio

import uvloop

END = b"\r\n.\r\n"
REPLIES = {b"EHLO": b"250-sink\r\n250-8BITMIME\r\n250 SIZE\r\n", b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}


class Sink(asyncio.Protocol):
    """One session."""

    taken = 0

    def __init__(self) -> None:
        self._buffer = b""
        self._in_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._in_data or b"\r\n" in self._buffer:
            if self._in_data:
                end = self._buffer.find(END)
                if end < 0:
                    return
                self._buffer, self._in_data = self._buffer[end + len(END) :], False
                Sink.taken += 1
                self._transport.write(b"250 2.0.0 taken as %d\r\n" % Sink.taken)
                continue
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            word = line[:4].upper()
            if word == b"GET ":
                self._buffer, count = b"", b"%d" % Sink.taken
                self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(count), count))
                return
            self._in_data = word == b"DATA"
            self._transport.write(REPLIES.get(word, b"250 2.0.0 ok\r\n"))


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
