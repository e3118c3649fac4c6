"""`POST /webhooks/{provider}`, `/inbound/{provider}`: is it the provider's? Then it is stored, and only then answered 200, and read later.

unknown provider        404
not its signature       the provider's own "do not come again" (406 at Mailgun), but only while others of it do verify:
                        with a wrong key of ours every event would be lost for good. Until one verifies: 503, come again
stale, or its token
taken by another body   refused for good: the key is right, so nothing is lost
stored, or known        200
database away, too many 503
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from rotord.web.body import BODY_S, Room, read_body
from rotord.web.ports import Post, Stored, UnavailableError
from rotord.webhooks.base import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.web import BaseRequest

    from rotord.web.listener import Handler
    from rotord.web.ports import StorePost
    from rotord.webhooks.base import Webhook

_log = structlog.get_logger(__name__)
ROUTE: Final = "webhooks"
INBOUND_ROUTE: Final = "inbound"
#: of one body: SendGrid gathers events up to 768 kB; a mail has up to 30 MB
POST_BYTES: Final = {ROUTE: 1_000_000, INBOUND_ROUTE: 32_000_000}
#: of all bodies of a route that are being read or looked at: anybody may post 32 MB, and 256 at once
ROOM_BYTES: Final = 64_000_000
#: a post that verified longer ago says nothing about today's key
TRUST_S: Final = 3600.0
#: so many refusals in a row look like a key that was changed
DOUBT: Final = 20
_RETRY_AFTER: Final = {"Retry-After": "60"}
#: one line a minute for what anyone on the net can cause
_SAY_EVERY_S: Final = 60.0


@dataclass
class Source:
    """A configured provider that posts. `keys`: the present one and those before it; none refuses all."""

    webhook: Webhook
    keys: tuple[str, ...]
    verified_at: float = field(default=float("-inf"))
    refused_since: int = 0
    said_at: float = field(default=float("-inf"))

    def is_trusted(self, now: float) -> bool:
        """Whether our key is known to be right."""
        return now - self.verified_at < TRUST_S and self.refused_since < DOUBT


class WebhookRoute:
    """The handler. `posted` is told each post: provider, outcome. `now`: seconds since 1970; `clock` never steps."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        store: StorePost,
        posted: Callable[[str, str], None],
        now: Callable[[], float],
        clock: Callable[[], float],
        route: str,
        *,
        room: int = ROOM_BYTES,
    ) -> None:
        self._sources = sources
        self._store = store
        self._posted = posted
        self._now = now
        self._clock = clock
        self._name = route
        self._limit = POST_BYTES[route]
        self._room = Room(room)

    @property
    def methods(self) -> dict[str, Handler]:
        """For the listener's routes."""
        return {"POST": self.take}

    async def take(self, request: BaseRequest, provider: str) -> web.Response:
        """Verify, store, answer."""
        source = self._sources.get(provider)
        if source is None:
            raise web.HTTPNotFound(text="no such provider\n")
        with self._room.share() as share:
            return await self._take(provider, source, request, await read_body(request, self._limit, BODY_S, share))

    async def _take(self, provider: str, source: Source, request: BaseRequest, body: bytes) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        verdict = source.webhook.verify(source.keys, headers, body, self._now())
        if isinstance(verdict, Refused):
            return self._refuse(provider, source, verdict)
        source.verified_at, source.refused_since = self._clock(), 0
        post = Post(provider, self._name, verdict.token, sha256(body).digest(), headers.get("content-type", "")[:200], body)
        try:
            stored = await self._store(post)
        except UnavailableError:
            return self._answer(provider, "unavailable", 503)
        if stored is Stored.FORGED:
            return self._refuse(provider, source, Refused("token taken by another body", signed=True))
        return self._answer(provider, stored.value, 200)

    def _refuse(self, provider: str, source: Source, refused: Refused) -> web.Response:
        final = refused.signed or source.is_trusted(self._clock())
        source.refused_since += not refused.signed
        if self._clock() - source.said_at >= _SAY_EVERY_S:
            source.said_at = self._clock()
            _log.warning("post_refused", provider=provider, reason=refused.reason, for_good=final, has_key=bool(source.keys))
        outcome = "refused" if not refused.signed else "stale" if refused.reason == "stale" else "forged"
        return self._answer(provider, outcome if final else "unverified", source.webhook.refusal if final else 503)

    def _answer(self, provider: str, outcome: str, status: int) -> web.Response:
        self._posted(provider, outcome)
        return web.Response(status=status, text=f"{outcome}\n", headers=_RETRY_AFTER if status == 503 else None)  # noqa: PLR2004 - HTTP's
