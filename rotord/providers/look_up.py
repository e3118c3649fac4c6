"""Asking an HTTP API whether it has a message.

What is asked and what an answer shows is each provider's own module (mailgun_events.py, sendgrid_logs.py, smtp2go_activity.py), as pure
generators; the call itself is asker.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from rotord.core.lookups import Found, Missing, Timetable, Trouble, Unclear, UnclearError
from rotord.core.replies import clean
from rotord.providers.answers import json_of
from rotord.providers.asker import Asked, Asker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rotord.core.http_replies import Answer
    from rotord.core.lookups import Finding, Search, Sought

#: of one look-up, pages and details together
MOST_REQUESTS: Final = 30
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


class LookUpApi(Asked, Protocol):
    """What is particular to one provider. All pure."""

    #: the shortest time for which it keeps its events, whatever the plan
    retention_s: float

    def search(self, sought: Sought) -> Search:
        """Write the queries of one look-up, read their answers (status 200, complete)."""


class HttpLookUp:
    """One provider's. Only one task asks."""

    def __init__(self, name: str, api: LookUpApi, config: LookUpConfig) -> None:
        self.name = name
        self.timetable = timetable(api, config.grace_s)
        self._api = api
        self._config = config
        self._asker = Asker(api, config.per_minute, config.connect_timeout_s)

    async def ask(self, sought: Sought) -> Finding:
        """Look one message up. Never raises but for cancellation."""
        if self._config.redirect_to:
            sought = replace(sought, recipient=self._config.redirect_to)
        finding = await self._search(sought)
        if isinstance(finding, Found):
            return _checked(finding, sought, self._asker.scrubbed)
        return finding if isinstance(finding, Missing) else finding._replace(reason=self._asker.scrubbed(finding.reason))

    async def close(self) -> None:
        """Close the connection."""
        await self._asker.close()

    async def _search(self, sought: Sought) -> Finding:
        search = self._api.search(sought)
        try:
            query = next(search)
            for _ in range(MOST_REQUESTS):
                answer = await self._asker.ask(query)
                if isinstance(answer, Trouble):
                    return answer
                if answer.status != 200:  # noqa: PLR2004 - HTTP's own number
                    return self._asker.refused(answer)
                query = search.send(answer)
        except StopIteration as end:
            return Missing() if end.value is None else end.value
        except UnclearError as error:
            return Unclear(str(error))
        finally:
            search.close()
        return Unclear(f"it took more than {MOST_REQUESTS} requests")


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
