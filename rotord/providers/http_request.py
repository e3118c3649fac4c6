"""One HTTP request of one message: its parts, the body that knows whether it has left, and the call that reads the answer."""

from __future__ import annotations

import asyncio
import select
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
from aiohttp.payload import Payload
from yarl import URL

from rotord.core.http_replies import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.abc import AbstractStreamWriter

    from rotord.providers.deadlines import Deadline

#: a message's answer is some hundred bytes
ANSWER_LIMIT: Final = 65_536
_CHUNK: Final = 65_536


class Request(NamedTuple):
    """One POST."""

    url: str
    body: bytes
    content_type: str
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        """Tell where it goes; not the headers, for they hold the key."""
        return f"Request({self.url!r}, {len(self.body)} bytes of {self.content_type})"


def _unnoted() -> None:
    """Tell nobody."""


class Body(Payload):
    """A request's body that knows whether its last byte may have left."""

    def __init__(self, request: Request, leaving: Callable[[], None] = _unnoted) -> None:
        super().__init__(request.body, content_type=request.content_type)
        self._size = len(request.body)
        #: a byte of it may have left
        self.begun = False
        #: its last byte may have left
        self.left = False
        self._over = False
        self._leaving = leaving

    def end(self) -> None:
        """Write nothing more: who sends it has drawn his conclusions."""
        self._over = True

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return it as text; aiohttp asks for it where it shows a body."""
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write it all, the last chunk once the others are with the kernel."""
        if _has_news(writer):
            # Twice round the loop, so that it hears of an end that the server put to an idle connection before anything is written.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        content = memoryview(self._value)
        last = max(len(content) - 1, 0) // _CHUNK * _CHUNK
        self._check(writer)
        self.begun = True
        for start in range(0, last, _CHUNK):
            await writer.write(content[start : start + _CHUNK])
            self._check(writer)
        # No await between these: what is said here is what happens.
        self._leaving()
        self.left = True
        await writer.write(content[last:])

    def _check(self, writer: AbstractStreamWriter) -> None:
        protocol = getattr(writer, "protocol", None)
        # `should_close` besides: an answer lies there already, which is none to this, or a refusal to hear the rest.
        if self._over or protocol is None or not protocol.is_connected() or protocol.should_close:
            raise ConnectionResetError("connection lost before the message was sent")


def _has_news(writer: AbstractStreamWriter) -> bool:
    """Whether the kernel has something of this connection that the loop has not told yet."""
    protocol = getattr(writer, "protocol", None)
    transport = getattr(protocol, "transport", None)
    if transport is None or transport.is_closing():
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def call(session: aiohttp.ClientSession | None, request: Request, body: Body, deadline: Deadline) -> Answer:
    """Make the request. Raises ClientError or OSError when no status came back; a status whose body broke off is an answer."""
    if session is None or session.closed:
        raise aiohttp.ClientConnectionError("the provider is closed")
    with deadline:
        response = await session.post(_url(request.url), data=body, headers=request.headers, allow_redirects=False)
    try:
        if response.content.is_eof():  # it came with its head, as a short one does
            content = response.content.read_nowait()
        else:
            with deadline:
                content = await read(response, ANSWER_LIMIT)
    except (aiohttp.ClientError, OSError):
        # The status was read, and says more than a lost answer.
        return Answer(response.status, response.headers, b"", complete=False)
    finally:
        response.close()
    return Answer(response.status, response.headers, content[:ANSWER_LIMIT], complete=len(content) <= ANSWER_LIMIT)


@lru_cache(maxsize=1024)  # Mailgun's are one a domain
def _url(url: str) -> URL:
    return URL(url, encoded=True)


async def read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read a body: all of it, or one byte more than `limit`."""
    content = b""
    while len(content) <= limit and (piece := await response.content.read(limit + 1 - len(content))):
        content += piece
    return content
