"""Request bodies: read within a bound and a time, never unpacked."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp.web import BaseRequest

#: the time for all of a body: a form is one packet, and a phone on a bad line needs no more for it
BODY_S: Final = 10.0


class Room:
    """Bytes that bodies of one route may fill together, counted as they come: whoever only announces much takes none of it."""

    def __init__(self, most: int) -> None:
        self._free = most

    @contextlib.contextmanager
    def share(self) -> Iterator[Share]:
        """Open a body's share; it is given back at the end of the block."""
        share = Share(self)
        try:
            yield share
        finally:
            self.give(share.taken)

    def take(self, size: int) -> bool:
        """Take some; False when there is not so much."""
        if size > self._free:
            return False
        self._free -= size
        return True

    def give(self, size: int) -> None:
        """Give some back."""
        self._free += size


class Share:
    """What one body fills."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.taken = 0

    def grow(self, size: int) -> None:
        """Fill more. Raises the answer for a body that finds no room (503)."""
        if not self._room.take(size):
            raise web.HTTPServiceUnavailable(text="too much at once\n", headers={"Retry-After": "60"})
        self.taken += size


async def read_body(request: BaseRequest, limit: int, within_s: float, share: Share | None = None) -> bytes:
    """Read all of it. Raises the answer for one that is too long (413), too slow (408), compressed (415) or finds no room (503)."""
    # A kilobyte can unpack to a gigabyte, and no sender of these requests packs them.
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise web.HTTPUnsupportedMediaType(text="compressed bodies are not taken\n")
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for chunk in request.content.iter_any():
                if share is not None:
                    share.grow(len(chunk))
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="the body came too slowly\n") from None
    except (web.RequestPayloadError, ConnectionError):
        raise web.HTTPBadRequest(text="the body ended early\n") from None
    return bytes(body)


def _too_large(limit: int) -> web.HTTPRequestEntityTooLarge:
    return web.HTTPRequestEntityTooLarge(limit, text=f"a body here has at most {limit} bytes\n")
