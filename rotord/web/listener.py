"""The socket, its bounds, and the way from a request to its route.

    accept -- at most `connections` at once; the others wait in the kernel's queue: who is refused may not come again
      headers ------- headers_s from connect or first byte, else the connection is cut
        route ------- 404, 405, or a handler, which has answer_s
          idle ------ idle_s, and not at all while others wait

aiohttp parses; a request that is not HTTP, or could be read in two ways, is answered 400 by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import structlog
from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest

_log = structlog.get_logger(__name__)

#: how many connections wait; the kernel cuts it to net.core.somaxconn
BACKLOG: Final = 4096
#: while no file can be opened, try again this often
_AGAIN_S: Final = 0.5
#: for requests that are being answered when the process ends; twice so long for those that will not end
_CLOSING_S: Final = 1.0
#: nothing here is for caches, search engines or frames, nor for guessing its type
_HEADERS: Final = {
    "Server": "rotord",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}

#: gets the request and what follows the route's prefix
Handler: TypeAlias = Callable[["BaseRequest", str], Awaitable[web.Response]]
#: by path, or by prefix (ends in `/`, one more segment follows): a handler for each method; HEAD is GET without its body
Routes: TypeAlias = Mapping[str, Mapping[str, Handler]]
#: told each answer: route ("" for none) and status
Answered: TypeAlias = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Connections at once, and seconds."""

    connections: int = 256  # well below the 1,024 files that a process may open by default: mail needs most of them
    headers_s: float = 10.0
    answer_s: float = 20.0  # for a handler as a whole, its body and its database included
    idle_s: float = 75.0  # above the 60 s for which nginx keeps an idle connection, so that it is not cut under a request


class ListenError(Exception):
    """The address cannot be listened on, and what to do about it."""


def bind(listen: str) -> socket.socket:
    """Listen on `host:port`; connections wait until `Listener.run` accepts them. Raises ListenError."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    try:
        family, *_, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        both = host == "::" and socket.has_dualstack_ipv6()
        bound = socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        why = "another process listens there (a second rotord?)" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        raise ListenError(f"http.listen: cannot listen on {listen}: {why}; set it to an address that is free") from error
    bound.setblocking(False)
    return bound


class Listener:
    """Answers on a bound socket. One task runs `run`."""

    def __init__(self, bound: socket.socket, routes: Routes, answered: Answered, bounds: Bounds | None = None) -> None:
        self._socket = bound
        self._routes = routes
        self._answered = answered
        self._bounds = bounds or Bounds()
        self._places = asyncio.Semaphore(self._bounds.connections)
        self._one_waits = False
        self._server = web.Server(self._respond)

    async def run(self) -> None:
        """Accept until cancelled, then finish what is being answered and close."""
        loop = asyncio.get_running_loop()
        _log.info("listening", at="{}:{}".format(*self._socket.getsockname()[:2]))
        try:
            while True:
                try:
                    accepted, _ = await loop.sock_accept(self._socket)
                except ConnectionAbortedError:  # gone before it was its turn
                    continue
                except OSError as error:
                    _log.warning("connection_not_accepted", error=error.strerror)
                    await asyncio.sleep(_AGAIN_S)
                    continue
                try:
                    await self._take_place()
                except asyncio.CancelledError:
                    accepted.close()
                    raise
                await loop.connect_accepted_socket(self._connection, accepted)
        finally:
            self._socket.close()
            self._server.pre_shutdown()
            await self._server.shutdown(_CLOSING_S)

    async def _take_place(self) -> None:
        """Wait for a place. Who is accepted has the oldest idle connection's, or that of the first to be answered."""
        if self._places.locked():
            idle = (one for one in self._server.connections if isinstance(one, Connection) and one.is_idle)
            oldest = next(idle, None)
            if oldest is not None:
                oldest.force_close()
        self._one_waits = True
        await self._places.acquire()
        self._one_waits = False

    def _connection(self) -> Connection:
        return Connection(self._server, self._bounds, self._places.release)

    async def _respond(self, request: BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)  # noqa: S101 - this server makes no others
        with connection.answering():
            try:
                route, response = await self._answer(request)
            except web.HTTPException as refusal:
                self._answered("", refusal.status)
                self._finish(refusal)
                raise
        self._answered(route, response.status)
        self._finish(response)
        return response

    async def _answer(self, request: BaseRequest) -> tuple[str, web.Response]:
        route, tail = self._route(request.path)
        methods = self._routes[route]
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            raise web.HTTPMethodNotAllowed(request.method, [*methods, *(["HEAD"] if "GET" in methods else [])], text="method not allowed\n")
        try:
            async with asyncio.timeout(self._bounds.answer_s):
                return route, await handler(request, tail)
        except TimeoutError:
            raise web.HTTPServiceUnavailable(text="this took too long\n", headers={"Retry-After": "60"}) from None

    def _route(self, path: str) -> tuple[str, str]:
        if path in self._routes and not path.endswith("/"):
            return path, ""
        prefix, _, tail = path.rpartition("/")
        if f"{prefix}/" in self._routes and tail:
            return f"{prefix}/", tail
        raise web.HTTPNotFound(text="not found\n")

    def _finish(self, response: web.StreamResponse) -> None:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if self._one_waits:
            response.force_close()


class Connection(web.RequestHandler):
    """One client. aiohttp's, with a deadline for headers; `lost` is called once, at its end."""

    __slots__ = ("_busy", "_deadline", "_headers_s", "_lost")

    def __init__(self, server: web.Server, bounds: Bounds, lost: Callable[[], None]) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=bounds.idle_s,
            lingering_time=1.0,  # what is left of a refused body is read for so long, so that its sender sees the refusal
            access_log=None,  # type: ignore[arg-type] # None is what aiohttp itself passes for "no log"
            auto_decompress=False,
        )
        self._headers_s = bounds.headers_s
        self._lost = lost
        self._busy = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the time for the first headers."""
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Start the time for the next headers at their first byte."""
        if self._deadline is None and not self._busy:
            self._expect_headers()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        self._stop_deadline()
        super().connection_lost(exc)
        self._lost()

    @property
    def is_idle(self) -> bool:
        """True when it has been answered and has asked for nothing since."""
        return not self._busy and self._deadline is None

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """While the headers are there and the answer is not."""
        self._stop_deadline()
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what is no request (400, said to nobody: the net is full of it) and what was our own fault (500, logged)."""
        if status != 400:  # noqa: PLR2004
            super().handle_error(request, status, exc, message)
        response = web.Response(status=status, text="bad request\n" if status == 400 else "error\n", headers=_HEADERS)  # noqa: PLR2004
        response.force_close()
        return response

    def _expect_headers(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(self._headers_s, self.force_close)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
