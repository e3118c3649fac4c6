"""`/u/{token}`: RFC 8058. POST unsubscribes, GET asks; no redirect, no cookie, no login.

A POST is answered 200 only when the suppression is committed. Repeating one is harmless, so nothing is rate-limited away and no Origin
is asked for. A scanner that follows links changes nothing, since it sends GET. A rehearsal's link looks the same and unsubscribes nobody:
its tester is not the recipient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from aiohttp import web

from rotord.core import received
from rotord.core.unsubscribe import rehearsal_key, verify
from rotord.web import page
from rotord.web.body import BODY_S, read_body
from rotord.web.ports import Source, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp.web import BaseRequest

    from rotord.web.listener import Handler
    from rotord.web.ports import FindAddressee, Unsubscribe

#: 26 bytes say it; multipart and a mailbox provider's own fields need a few hundred
BODY_LIMIT: Final = 8192
#: more fields than this are no unsubscribe form
_FIELDS: Final = 20
_MEANINGS: Final = {("list-unsubscribe", "one-click"): Source.ONE_CLICK, page.FORM_FIELD: Source.PAGE}
_RETRY_AFTER_S: Final = 60


class UnsubscribeRoute:
    """The handlers. `keys` verify tokens: the present one and those before it. `unsubscribed` is told each success."""

    def __init__(
        self,
        keys: tuple[bytes, ...],
        find: FindAddressee,
        unsubscribe: Unsubscribe,
        unsubscribed: Callable[[Source], None],
        *,
        body_s: float = BODY_S,
    ) -> None:
        self._keys = keys
        self._rehearsal_keys = tuple(map(rehearsal_key, keys))
        self._find = find
        self._unsubscribe = unsubscribe
        self._unsubscribed = unsubscribed
        self._body_s = body_s

    @property
    def methods(self) -> dict[str, Handler]:
        """For the listener's routes."""
        return {"GET": self.ask, "POST": self.act}

    async def ask(self, request: BaseRequest, token: str) -> web.Response:
        """Show the page; change nothing."""
        language = _language(request)
        row, _ = self._row(token)
        try:
            addressee = None if row is None else await self._find(row)
        except UnavailableError:
            return _unavailable(language)
        return _unknown(language) if addressee is None else _html(language, page.ask(language, addressee))

    async def act(self, request: BaseRequest, token: str) -> web.Response:
        """Unsubscribe, and say so."""
        language = _language(request)
        row, in_earnest = self._row(token)
        if row is None:
            return _unknown(language)
        source = meaning(request.headers.get("Content-Type", ""), await read_body(request, BODY_LIMIT, self._body_s))
        if source is None:
            raise web.HTTPBadRequest(text="the body must be List-Unsubscribe=One-Click (RFC 8058)\n")
        try:
            addressee = await (self._unsubscribe(row, source) if in_earnest else self._find(row))
        except UnavailableError:
            return _unavailable(language)
        if addressee is None:
            return _unknown(language)
        if in_earnest:
            self._unsubscribed(source)
        return _html(language, page.done(language, addressee))

    def _row(self, token: str) -> tuple[int | None, bool]:
        """Give the message a token names, and whether it is more than a rehearsal's."""
        row = verify(self._keys, token)
        return (verify(self._rehearsal_keys, token), False) if row is None else (row, True)


def meaning(content_type: str, body: bytes) -> Source | None:
    """Say who pressed, from a form's fields; None for a body that says neither. Case and space round a value are let pass."""
    fields = _multipart(content_type, body) if content_type.strip().lower().startswith("multipart/") else _urlencoded(body)
    for name, value in fields:
        source = _MEANINGS.get((name.strip().lower(), value.strip().lower()))
        if source is not None:
            return source
    return None


def _urlencoded(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode("latin-1"), max_num_fields=_FIELDS)
    except ValueError:
        return []


def _multipart(content_type: str, body: bytes) -> Iterator[tuple[str, str]]:
    # Not the standard library's parser of mail: a charset with a NUL in it, and it raises.
    head = b"Content-Type: " + content_type.encode("utf-8", "replace") + b"\r\n\r\n"
    for part in received.read(head + body).parts[:_FIELDS]:
        yield received.parameters(part.header("content-disposition")).get("name", ""), part.text()


def _language(request: BaseRequest) -> page.Language:
    return page.preferred_language(request.headers.get("Accept-Language", ""))


def _html(language: page.Language, text: str, status: int = 200) -> web.Response:
    headers = {
        "Content-Security-Policy": page.CONTENT_SECURITY_POLICY,
        "Content-Language": language.value,
        "Vary": "Accept-Language",
    }
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def _unknown(language: page.Language) -> web.Response:
    return _html(language, page.unknown(language), 404)


def _unavailable(language: page.Language) -> web.Response:
    response = _html(language, page.unavailable(language), 503)
    response.headers["Retry-After"] = str(_RETRY_AFTER_S)
    return response
