"""What every sink is, and the one HTTP call they share. A sink's address is its secret: no error, log or exception names it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import aiohttp
import orjson
from yarl import URL

from rotord.core.replies import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotord.core.alerting import Words

TIMEOUT_S: Final = 10.0
#: an answer of any of the services is a few hundred bytes
_LARGEST_ANSWER: Final = 65_536
_TIMEOUT, _TOO_MANY = 408, 429
#: after a 429 that does not say how long
_TOO_MANY_S: Final = 30.0
#: shorter parts of a path are words, such as "services"
_SHORTEST_SECRET: Final = 12


class Told(NamedTuple):
    """What came of telling. `is_final`: trying again is of no use until a person has acted. `wait_s`: as the service asked."""

    is_told: bool
    error: str = ""
    wait_s: float | None = None
    is_final: bool = False


class Sink(Protocol):
    """One chat, channel, or the like."""

    name: str
    #: seconds between two messages, by the service's published limit
    every_s: float

    async def tell(self, words: Words) -> Told:
        """Say it; never raises for what the service or the network does."""
        ...

    async def check(self) -> Told:
        """See whether it could be told, without telling."""
        ...


class Answer(NamedTuple):
    """What a service answered; `error` instead when nothing came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    error: str = ""


async def post(url: str, content: Mapping[str, Any]) -> Answer:
    """Post JSON. A connection of its own: alerts are few. Redirects are not followed: they would carry the secret elsewhere."""
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), headers={"User-Agent": "rotord"}) as session,
            session.post(
                URL(url, encoded=True), data=orjson.dumps(content), headers={"Content-Type": "application/json"}, allow_redirects=False
            ) as response,
        ):
            body = b""
            while len(body) < _LARGEST_ANSWER and (piece := await response.content.read(_LARGEST_ANSWER - len(body))):
                body += piece
            return Answer(response.status, response.headers, _without_address(url, body))
    except TimeoutError:
        return Answer(0, {}, b"", f"no answer within {TIMEOUT_S:.0f} s")
    except aiohttp.ClientConnectorError as error:
        return Answer(0, {}, b"", f"cannot connect: {error.os_error.strerror or type(error).__name__}")
    except (aiohttp.ClientError, OSError, ValueError) as error:  # their texts may hold the address
        return Answer(0, {}, b"", type(error).__name__)


def _without_address(url: str, body: bytes) -> bytes:
    """Mask what a server repeats of the address it was asked at: a part of the path is the secret."""
    parts = [part for piece in URL(url, encoded=True).raw_path.split("/") for part in (piece, piece.removeprefix("bot"))]
    for part in sorted({url, *parts}, key=len, reverse=True):
        if len(part) >= _SHORTEST_SECRET:
            body = body.replace(part.encode(), b"***")
    return body


def refused(status: int, words: str, wait: object) -> Told:
    """What an answer other than the good one comes to; `wait`: the seconds that it asked for, None if it asked for none."""
    error = f"{status} {clean(words)}".strip()
    if status == _TOO_MANY:
        return Told(is_told=False, error=error, wait_s=_TOO_MANY_S if wait is None else _seconds(wait))
    return Told(is_told=False, error=error, is_final=300 <= status < 500 and status != _TIMEOUT)  # noqa: PLR2004 - HTTP's own numbers


def _seconds(text: object) -> float | None:
    """Read a number of seconds to wait; bounded, as a day without alerts is worse than one refused."""
    try:
        return min(max(float(str(text)), 0.0), 3600.0)
    except ValueError:
        return None
