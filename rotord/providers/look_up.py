"""Asking an HTTP API whether it has a message: one request at a time, not more often than its rate, with an end to everything.

What is asked and what an answer shows is each provider's own module (mailgun_events.py, sendgrid_logs.py, smtp2go_activity.py), as pure
generators. Here is the call, and what answers other than 200 mean: a look-up is a read, so each of them only says when to ask again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import aiohttp
from yarl import URL

from rotord.core.http_replies import Answer, retry_after_s
from rotord.core.lookups import Found, Missing, Timetable, Trouble, Unclear, UnclearError
from rotord.core.replies import clean
from rotord.providers.answers import json_of, masked
from rotord.providers.http_request import read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rotord.core.lookups import Finding, Query, Search, Sought

#: a page of events: 1,000 of about a kilobyte
ANSWER_LIMIT: Final = 4 * 1024 * 1024
#: of one look-up, pages and details together
MOST_REQUESTS: Final = 30
#: for one request; a search takes longer than a send
TIMEOUT_S: Final = 30.0
#: 429 without a hint: SMTP2GO shuts a node out for a minute, with its mail
TOO_MANY_S: Final = 60.0
#: Second look-ups come as long after the first one as that came after the attempt; at least so long.
SOONEST_AGAIN_S: Final = 1.0
#: a message is dated by its provider; what lies further from the attempt is no date of it
_FAR_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class LookUpConfig:
    """`redirect_to`: in a rehearsal every message went to this recipient. `per_minute`: requests, not messages; 0: never asks."""

    grace_s: float
    per_minute: float
    connect_timeout_s: float = 10.0
    redirect_to: str = ""


class LookUpApi(Protocol):
    """What is particular to one provider. All pure."""

    secrets: tuple[str, ...]
    headers: Mapping[str, str]
    #: the shortest time for which it keeps its events, whatever the plan
    retention_s: float

    def search(self, sought: Sought) -> Search:
        """Write the queries of one look-up, read their answers (status 200, complete)."""

    def words(self, answer: Answer) -> str:
        """Find the API's own error text; '' if the body is not the API's."""

    def is_barred(self, answer: Answer, words: str) -> str:
        """Say what a person has to do if this key or plan has no look-up; '' if the answer does not say so."""


class HttpLookUp:
    """One provider's. Only one task asks."""

    def __init__(self, name: str, api: LookUpApi, config: LookUpConfig) -> None:
        self.name = name
        self.timetable = timetable(api, config.grace_s)
        self._api = api
        self._config = config
        self._gap_s = 60.0 / config.per_minute
        self._next_at = 0.0
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, sought: Sought) -> Finding:
        """Look one message up. Never raises but for cancellation."""
        if self._config.redirect_to:
            sought = replace(sought, recipient=self._config.redirect_to)
        finding = await self._search(sought)
        if isinstance(finding, Found):
            return _checked(finding, sought, self._scrubbed)
        return finding if isinstance(finding, Missing) else finding._replace(reason=self._scrubbed(finding.reason))

    async def close(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _search(self, sought: Sought) -> Finding:
        search = self._api.search(sought)
        try:
            query = next(search)
            for _ in range(MOST_REQUESTS):
                answer = await self._call(query)
                if isinstance(answer, Trouble):
                    return answer
                if answer.status != 200:  # noqa: PLR2004 - HTTP's own number
                    return self._refused(answer)
                query = search.send(answer)
        except StopIteration as end:
            return Missing() if end.value is None else end.value
        except UnclearError as error:
            return Unclear(str(error))
        finally:
            search.close()
        return Unclear(f"it took more than {MOST_REQUESTS} requests")

    async def _call(self, query: Query) -> Answer | Trouble:
        await self._turn()
        if self._session is None:
            # A connection each: they are seldom, and one that was idle may be dead.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=1, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=self._config.connect_timeout_s),
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
            return Trouble("no answer in time" if isinstance(error, TimeoutError) else clean(str(error) or type(error).__name__))
        if len(content) > ANSWER_LIMIT:
            return Trouble(f"an answer of more than {ANSWER_LIMIT:,} bytes")
        return Answer(response.status, response.headers, content)

    async def _turn(self) -> None:
        now = asyncio.get_running_loop().time()
        starts_at = max(now, self._next_at)
        self._next_at = starts_at + self._gap_s
        await asyncio.sleep(starts_at - now)

    def _refused(self, answer: Answer) -> Finding:
        words = self._api.words(answer)
        text = f"{answer.status} {clean(words)}".rstrip()
        remedy = self._api.is_barred(answer, words)
        if remedy:
            return Trouble(f"{text}; {remedy}", lasting=True)
        if answer.status == 429:  # noqa: PLR2004
            wait_s = retry_after_s(answer.headers, words, time.time())
            return Trouble(text, TOO_MANY_S if wait_s is None else wait_s)
        # Not the API's own words: somebody between us and it.
        if words and 400 <= answer.status < 500 and answer.status != 408:  # noqa: PLR2004
            return Unclear(text)
        return Trouble(text)

    def _scrubbed(self, text: str) -> str:
        return masked(text, self._api.secrets)


def timetable(api: LookUpApi | type[LookUpApi], grace_s: float) -> Timetable:
    """When a provider's messages are asked after, `grace_s` after their attempts at first."""
    return Timetable(grace_s, max(grace_s, SOONEST_AGAIN_S), api.retention_s)


def _checked(found: Found, sought: Sought, scrubbed: Callable[[str], str]) -> Found:
    at = found.at if found.at is not None and sought.since - _FAR_S <= found.at <= sought.until + _FAR_S else None
    return found._replace(provider_message_id=clean(scrubbed(found.provider_message_id)), at=at, words=clean(scrubbed(found.words)))


def content_of(answer: Answer) -> dict[str, Any]:
    """Read the JSON object of a 200; raises UnclearError if it is none."""
    content = json_of(answer.body)
    if not isinstance(content, dict):
        raise UnclearError("its answer is not the documented one")
    return content


def objects(content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Read a list of objects; raises UnclearError if it is none."""
    found = content.get(name)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UnclearError(f"its answer has no list of {name}")
    return found


def member(content: Mapping[str, Any], *names: str) -> Any:
    """Follow names into an object; None where there is none."""
    found: Any = content
    for name in names:
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


def stamp(at: float) -> str:
    """Write a time as ISO 8601, UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: object) -> float | None:
    """Read an ISO 8601 time; without a zone it is UTC. None if it is none."""
    try:
        read = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return None if read is None else (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
