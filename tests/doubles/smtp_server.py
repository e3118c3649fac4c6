"""An SMTP server that follows a script, to misbehave at one exact point. Its `messages` is the truth about what it got."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from rotord.core.replies import Phase

HANG = "hang"
CLOSE = "close"
USUAL = {
    Phase.GREETING: b"220 scripted ESMTP\r\n",
    "ehlo": b"250-scripted\r\n250 8BITMIME\r\n",
    Phase.MAIL: b"250 2.1.0 Ok\r\n",
    Phase.RCPT: b"250 2.1.5 Ok\r\n",
    Phase.DATA: b"354 go on\r\n",
    Phase.FINAL_DOT: b"250 2.0.0 Ok: queued as 1\r\n",
    "rset": b"250 2.0.0 Ok\r\n",
    "quit": b"221 2.0.0 bye\r\n",
}
_PHASES = {b"EHLO": "ehlo", b"MAIL": Phase.MAIL, b"RCPT": Phase.RCPT, b"DATA": Phase.DATA, b"RSET": "rset", b"QUIT": "quit"}


@dataclass
class ScriptedServer:
    """`script` maps a phase to the bytes it answers, HANG (nothing), CLOSE (cut), or (bytes, CLOSE): answer, then cut.

    `cut_after`: the session is cut once that many bytes of the client have been read; the rest is as if never sent.
    """

    script: dict[str, bytes | str | tuple[bytes, str]] = field(default_factory=dict)
    cut_after: int | None = None
    port: int = 0
    messages: list[bytes] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    sessions: list[asyncio.Transport] = field(default_factory=list)

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Session(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.cut()

    def cut(self):
        for transport in self.sessions:
            transport.abort()
        self.sessions.clear()


class _Session(asyncio.Protocol):
    def __init__(self, server):
        self.server = server
        self.buffer = bytearray()
        self.read = 0
        self.in_data = False
        self.hanging = False

    def connection_made(self, transport):
        self.transport = transport
        self.server.sessions.append(transport)
        self.act(Phase.GREETING)

    def data_received(self, data):
        cut_after = self.server.cut_after
        if cut_after is not None:
            data = data[: max(0, cut_after - self.read)]
        self.read += len(data)
        self.buffer += data
        while not self.hanging and self.step():
            pass
        if cut_after is not None and self.read >= cut_after:
            self.transport.abort()

    def step(self):
        end = self.buffer.find(b"\r\n.\r\n" if self.in_data else b"\r\n")
        if end < 0:
            return False
        if self.in_data:
            self.server.messages.append(bytes(self.buffer[: end + 2]))
            del self.buffer[: end + 5]
            self.in_data = False
            self.act(Phase.FINAL_DOT)
            return True
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        self.server.commands.append(line)
        phase = _PHASES.get(line.split(b" ")[0], "rset")
        self.in_data = phase is Phase.DATA and phase not in self.server.script
        self.act(phase)
        return True

    def act(self, phase):
        action = self.server.script.get(phase, USUAL[phase])
        reply, then = action if isinstance(action, tuple) else (action, "")
        if reply == HANG:
            self.hanging = True
        elif reply == CLOSE:
            self.transport.abort()
        else:
            self.transport.write(reply)
            if then == CLOSE:
                self.transport.close()
