"""Asking an HTTP API something that is no mail: one request at a time, not more often than its rate, with an end to everything.

What is asked and what an answer shows is each provider's own modules', as pure functions. Here is the call, and what an answer means that
is none: a question changes no message, so each only says when to ask again.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
from yarl import URL

from rotord.core.http_replies import Answer, retry_after_s
from rotord.core.lookups import Trouble, Unclear
from rotord.core.replies import clean
from rotord.providers.answers import masked
from rotord.providers.http_request import read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotord.core.lookups import Query

#: a page of events: 1,000 of about a kilobyte
ANSWER_LIMIT: Final = 4 * 1024 * 1024
#: for one request; a search takes longer than a send
TIMEOUT_S: Final = 30.0
#: 429 without a hint: SMTP2GO shuts a node out for a minute, with its mail
TOO_MANY_S: Final = 60.0


class Asked(Protocol):
    """What is particular to one provider. All pure."""

    secrets: tuple[str, ...]
    headers: Mapping[str, str]

    def words(self, answer: Answer) -> str:
        """Find the API's own error text; '' if the body is not the API's."""

    def is_barred(self, answer: Answer, words: str) -> str:
        """Say what a person has to do if this key or plan may not ask; '' if the answer does not say so."""


class Asker:
    """One provider's. Only one task asks."""

    def __init__(self, api: Asked, per_minute: float, connect_timeout_s: float) -> None:
        self._api = api
        self._gap_s = 60.0 / per_minute
        self._connect_timeout_s = connect_timeout_s
        self._next_at = 0.0
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, query: Query) -> Answer | Trouble:
        """Wait for the turn and ask. Never raises but for cancellation; an answer is complete, whatever its status."""
        await self._turn()
        if self._session is None:
            # A connection each: they are seldom, and one that was idle may be dead.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=1, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_timeout_s),
                headers={"User-Agent": "rotord", "Accept": "application/json", "Accept-Encoding": "identity"},
                auto_decompress=False,
            )
        headers = {**self._api.headers, **({} if query.body is None else {"Content-Type": "application/json"})}
        method = "GET" if query.body is None else "POST"
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._session.request(
                    method, URL(query.url, encoded=True), data=query.body, headers=headers, allow_redirects=False
                ) as response,
            ):
                content = await read(response, ANSWER_LIMIT)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            words = "no answer in time" if isinstance(error, TimeoutError) else clean(str(error) or type(error).__name__)
            return Trouble(self.scrubbed(words))
        if len(content) > ANSWER_LIMIT:
            return Trouble(f"an answer of more than {ANSWER_LIMIT:,} bytes")
        return Answer(response.status, response.headers, content)

    def refused(self, answer: Answer) -> Unclear | Trouble:
        """Say what an answer means that is no success."""
        words = self._api.words(answer)
        text = self.scrubbed(f"{answer.status} {clean(words)}".rstrip())
        remedy = self._api.is_barred(answer, words)
        if remedy:
            return Trouble(f"{text}; {remedy}", lasting=True)
        if answer.status == 429:  # noqa: PLR2004 - HTTP's own number
            wait_s = retry_after_s(answer.headers, words, time.time())
            return Trouble(text, TOO_MANY_S if wait_s is None else wait_s)
        # Not the API's own words: somebody between us and it.
        if words and 400 <= answer.status < 500 and answer.status != 408:  # noqa: PLR2004
            return Unclear(text)
        return Trouble(text)

    def scrubbed(self, text: str) -> str:
        """Mask the provider's secrets."""
        return masked(text, self._api.secrets)

    async def close(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _turn(self) -> None:
        now = asyncio.get_running_loop().time()
        starts_at = max(now, self._next_at)
        self._next_at = starts_at + self._gap_s
        await asyncio.sleep(starts_at - now)
