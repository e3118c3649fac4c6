"""Mailgun's suppression lists: bounces, complaints and unsubscribes of each domain.

Each keeps all mail of its domain from an address, so an unsubscribe by tag is one here too. A list has no order in time: every pass reads
all of it. Whose key is a domain's sending key may post messages and nothing else.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import orjson

from rotord.core.lookups import Query, UnclearError
from rotord.core.mime import RenderError, ascii_domain
from rotord.core.suppression_lists import marked, page, reason_of
from rotord.providers.answers import json_of
from rotord.providers.look_up import content_of, member, objects
from rotord.providers.mailgun import words_of
from rotord.providers.suppression_list import Addition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rotord.core.http_replies import Answer
    from rotord.core.suppression_lists import Entry, ListKey, Page, Span
    from rotord.providers.http import ApiConfig

PAGE: Final = 1000
_REASONS: Final = {"bounces": "hard_bounce", "complaints": "complaint", "unsubscribes": "unsubscribe"}
#: where what is suppressed here goes; "manual" has no list of its own, and the text of a bounce keeps the word
_LISTS: Final = {"hard_bounce": "bounces", "manual": "bounces", "complaint": "complaints", "unsubscribe": "unsubscribes"}


class MailgunLists:
    """Queries and answers; `base_url` says the region, as for sending."""

    lists: tuple[str, ...] = tuple(_REASONS)
    of_domains = True
    # its answer to more: "Batch size should be less than 1000"
    batch = 500

    def __init__(self, config: ApiConfig) -> None:
        authorization = aiohttp.encode_basic_auth("api", config.api_key)
        self.secrets: tuple[str, ...] = (config.api_key, authorization.removeprefix("Basic "))
        self.headers: Mapping[str, str] = {"Authorization": authorization}
        self._base_url = config.base_url

    def page(self, key: ListKey, span: Span, cursor: str) -> Query:  # noqa: ARG002 - it has no times
        """The cursor is the query of the page's address."""
        return Query(f"{self._address(key.domain, key.name)}?{cursor or urlencode({'limit': PAGE})}")

    def read(self, key: ListKey, cursor: str, answer: Answer) -> Page:  # noqa: ARG002 - its answer has it all
        """The last page is the one without items."""
        content = content_of(answer)
        items = objects(content, "items")
        otherwise = _REASONS[key.name]
        read = [(item.get("address"), reason_of(item.get("error"), otherwise)) for item in items]
        return page(read, _next(content) if items else "")

    def additions(self, domain: str, entries: Sequence[Entry]) -> list[Addition]:
        """One request for each list that takes some."""
        made = []
        for name in dict.fromkeys(_LISTS.values()):
            part = tuple(entry for entry in entries if _LISTS[entry.reason] == name)
            if part:
                body = orjson.dumps([_item(name, entry) for entry in part])
                made.append(Addition(Query(self._address(domain, name), body), part))
        return made

    def words(self, answer: Answer) -> str:
        """As when sending."""
        return words_of(json_of(answer.body))

    def is_barred(self, answer: Answer, words: str) -> str:
        """A sending key is refused like a wrong one, so both are named."""
        if answer.status == 401 or (answer.status in {402, 403} and words):  # noqa: PLR2004 - HTTP's own numbers
            return "api_key may not read suppressions (a domain's sending key never may): give an account's key"
        return ""

    def _address(self, domain: str, name: str) -> str:
        try:
            return f"{self._base_url}/v3/{ascii_domain(domain, 'domain').lower()}/{name}"
        except RenderError as error:
            raise UnclearError(str(error)) from error


def _next(content: dict[str, object]) -> str:
    """Take the query out of the next page's address: the key goes to the configured host, whatever the answer says."""
    following = member(content, "paging", "next")
    try:
        query = urlsplit(following).query if isinstance(following, str) else ""
    except ValueError:  # not an address
        query = ""
    fields = [(name, value) for name, value in parse_qsl(query) if name in {"page", "address", "term"}]
    if not fields:
        raise UnclearError("its answer names no next page")
    return urlencode([*fields, ("limit", PAGE)])


def _item(name: str, entry: Entry) -> dict[str, object]:
    # `+0000`, not `GMT`: what its documentation calls RFC 2822
    item: dict[str, object] = {"address": entry.recipient, "created_at": format_datetime(datetime.fromtimestamp(entry.at, UTC))}
    if name == "bounces":
        item |= {"code": "550", "error": marked(entry.reason)}
    elif name == "unsubscribes":
        item |= {"tags": ["*"]}
    return item
