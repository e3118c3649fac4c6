"""Request bodies: read within a bound and a time, never unpacked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest

#: the time for all of a body: a form is one packet, and a phone on a bad line needs no more for it
BODY_S: Final = 10.0


async def read_body(request: BaseRequest, limit: int, within_s: float) -> bytes:
    """Read all of it. Raises the answer for one that is too long (413), too slow (408) or compressed (415)."""
    # A kilobyte can unpack to a gigabyte, and no sender of these requests packs them.
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise web.HTTPUnsupportedMediaType(text="compressed bodies are not taken\n")
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for chunk in request.content.iter_any():
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
