"""A TCP relay that cuts at an exact byte: `up` bytes of the client reach the server, `down` bytes of its answers come back."""

from __future__ import annotations

import asyncio


class CutRelay:
    """None: no cut. A cut resets both sides at once, as a broken network does; `ups` are the bytes that each connection sent."""

    def __init__(self, port, *, up=None, down=None):
        self.up, self.down = up, down
        self.connections = 0
        self._port = port

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _relay(self, reader, writer):
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, far_writer, self.up))
                group.create_task(self._pass(far_reader, writer, self.down))
        except* OSError:
            pass
        finally:
            writer.transport.abort()
            far_writer.transport.abort()

    async def _pass(self, reader, writer, left):
        while data := await reader.read(65_536):
            if left is not None:
                data = data[:left]
                left -= len(data)
            writer.write(data)
            await writer.drain()
            if left == 0:
                raise ConnectionResetError
        raise ConnectionResetError
