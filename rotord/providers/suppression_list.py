"""A provider's own suppression lists by HTTP: read a page, add some. Nothing is ever taken off.

What is asked and what an answer shows is each provider's own module (suppression_mailgun.py, suppression_sendgrid.py,
suppression_smtp2go.py), as pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from rotord.core.lookups import Query, Trouble, Unclear, UnclearError
from rotord.core.suppression_lists import Added, ListKey
from rotord.providers.asker import Asked, Asker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotord.core.http_replies import Answer
    from rotord.core.suppression_lists import Entry, Page, Span

#: requests, where look-ups are off and so say nothing; nobody publishes a number for lists
PER_MINUTE: Final = 30.0
#: so many refusals of single addresses in a row are trouble: SMTP2GO shuts out who causes too many errors, with his mail
MOST_REFUSED: Final = 5
_SUCCESS: Final = frozenset({200, 201, 202})


@dataclass(frozen=True, slots=True)
class ListConfig:
    """How it is asked."""

    per_minute: float
    connect_timeout_s: float = 10.0


class Addition(NamedTuple):
    """One request, and what it adds."""

    query: Query
    entries: tuple[Entry, ...]


class ListApi(Asked, Protocol):
    """What is particular to one provider. All pure."""

    #: those that keep mail from a recipient
    lists: tuple[str, ...]
    #: each domain has its own; else the account
    of_domains: bool
    #: entries that are added before it is written down how far that has come
    batch: int

    def page(self, key: ListKey, span: Span, cursor: str) -> Query:
        """Ask for a page. Raises UnclearError for a domain that it cannot be asked of."""

    def read(self, key: ListKey, cursor: str, answer: Answer) -> Page:
        """Read the answer (status 200, complete). Raises UnclearError for one that is not the documented one."""

    def additions(self, domain: str, entries: Sequence[Entry]) -> list[Addition]:
        """Write the requests that add them."""


class HttpLists:
    """One provider's. Only one task asks."""

    def __init__(self, name: str, api: ListApi, config: ListConfig) -> None:
        self.name = name
        self.of_domains = api.of_domains
        self.batch = api.batch
        self._api = api
        self._asker = Asker(api, config.per_minute, config.connect_timeout_s)

    def keys(self, domains: Sequence[str]) -> list[ListKey]:
        """Name the lists that there are."""
        return [ListKey(name, domain) for domain in (domains if self.of_domains else ("",)) for name in self._api.lists]

    async def page(self, key: ListKey, span: Span, cursor: str) -> Page | Unclear | Trouble:
        """Read one page. Never raises but for cancellation."""
        try:
            answer = await self._asker.ask(self._api.page(key, span, cursor))
            if isinstance(answer, Trouble):
                return answer
            if answer.status not in _SUCCESS:
                return self._asker.refused(answer)
            read = self._api.read(key, cursor, answer)
        except UnclearError as error:
            return Unclear(self._asker.scrubbed(str(error)))
        if "\0" in read.following:  # no text column takes it
            return Unclear("its answer names no page as the next one")
        return read if read.following != cursor or not cursor else Unclear("its answer names the same page as the next one")

    async def add(self, domain: str, entries: Sequence[Entry]) -> Added | Unclear | Trouble:
        """Add what may be there already. A request that is refused is made again in halves, so that one bad address costs no other."""
        taken, refused = 0, []
        try:
            waiting = self._api.additions(domain, entries)[::-1]
        except UnclearError as error:
            return Unclear(str(error))
        while waiting:
            query, part = waiting.pop()
            answer = await self._asker.ask(query)
            if isinstance(answer, Trouble):
                return answer
            if answer.status in _SUCCESS:
                taken += len(part)
                continue
            refusal = self._asker.refused(answer)
            if isinstance(refusal, Trouble):
                return refusal
            if len(part) > 1:
                middle = len(part) // 2
                waiting += [one for half in (part[middle:], part[:middle]) for one in self._api.additions(domain, half)]
                continue
            refused.append(refusal.reason)
            if len(refused) >= MOST_REFUSED:
                return Trouble(refusal.reason)
        return Added(taken, tuple(refused))

    async def close(self) -> None:
        """Close the connection."""
        await self._asker.close()
