"""Mailgun's look-up: `GET /v3/{domain}/events` by Message-ID, which is ours and in every event.

`v:rotord-attempt` tells one attempt of a message from another; opens and clicks come without it. Whose key is a domain's sending key
may post messages and nothing else, so there is no look-up with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import aiohttp

from rotord.core.lookups import Found, Query, UnclearError
from rotord.core.mime import RenderError, ascii_domain
from rotord.providers.answers import json_of
from rotord.providers.look_up import content_of, member, objects
from rotord.providers.mailgun import words_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotord.core.http_replies import Answer
    from rotord.core.lookups import Search, Sought
    from rotord.providers.http import ApiConfig

PAGE: Final = 300
MOST_PAGES: Final = 5
#: nobody can have got a message of which there is none of these, but one of the others
_OF_SOMEBODY: Final = frozenset({"delivered", "opened", "clicked", "complained", "unsubscribed", "stored"})


class MailgunEvents:
    """Queries and answers; `base_url` says the region, as for sending."""

    #: "at least 3 days", whatever the plan
    retention_s: float = 3 * 86_400.0

    def __init__(self, config: ApiConfig) -> None:
        authorization = aiohttp.encode_basic_auth("api", config.api_key)
        self.secrets: tuple[str, ...] = (config.api_key, authorization.removeprefix("Basic "))
        self.headers: Mapping[str, str] = {"Authorization": authorization}
        self._base_url = config.base_url

    def search(self, sought: Sought) -> Search:
        """Follow the pages until one shows the message, or is empty."""
        events = f"{self._base_url}/v3/{_domain(sought)}/events"
        # with its angle brackets the id finds events of others
        wanted = {"message-id": sought.message_id.strip("<>"), "begin": int(sought.since), "ascending": "yes", "limit": PAGE}
        url = f"{events}?{urlencode(wanted)}"
        saw_another = False
        for _ in range(MOST_PAGES):
            content = content_of((yield Query(url)))
            items = objects(content, "items")
            if not items:
                if saw_another:
                    raise UnclearError("it has another attempt of this message")
                return None
            mine, others = _events_of(sought, items)
            saw_another = saw_another or others
            if mine:
                return _found(mine)
            url = f"{events}/{_page(content)}"
        raise UnclearError(f"more than {MOST_PAGES} pages of events")

    def words(self, answer: Answer) -> str:
        """As when sending."""
        return words_of(json_of(answer.body))

    def is_barred(self, answer: Answer, words: str) -> str:
        """A sending key is refused like a wrong one, so both are named."""
        if answer.status == 401 or (answer.status in {402, 403} and words):  # noqa: PLR2004 - HTTP's own numbers
            return "api_key may not read events (a domain's sending key never may): give an account's key, or resolve by hand"
        return ""


def _domain(sought: Sought) -> str:
    try:
        return ascii_domain(sought.sender.rpartition("@")[2], "sender").lower()
    except RenderError as error:
        raise UnclearError(str(error)) from error


def _page(content: dict[str, Any]) -> str:
    """Take the next page's name out of its address: the key goes to the configured host, whatever the answer says."""
    following = member(content, "paging", "next")
    try:
        name = urlsplit(following).path.partition("/events/")[2] if isinstance(following, str) else ""
    except ValueError:  # not an address
        name = ""
    if not name:
        raise UnclearError("its answer names no next page")
    return quote(name, safe="=%/+,")


def _events_of(sought: Sought, items: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    """Pick this attempt's events of one page; and whether there are those of another attempt."""
    mine, nameless, others = [], [], False
    for item in items:
        if member(item, "message", "headers", "message-id") != sought.message_id.strip("<>"):
            continue
        attempt = member(item, "user-variables", "rotord-attempt")
        if attempt is None:
            nameless.append(item)
        elif str(attempt) == str(sought.attempt_id):
            mine.append(item)
        else:
            others = True
    return (mine or nameless if not others else mine), others


def _found(events: list[dict[str, Any]]) -> Found:
    first, kinds = events[0], {str(event.get("event")) for event in events}
    at = first.get("timestamp")
    refusals = [words for event in events if (words := _refusal(event))]
    refused = bool(refusals) and not kinds & _OF_SOMEBODY
    return Found(
        str(member(first, "message", "headers", "message-id")),
        float(at) if isinstance(at, (int, float)) else None,
        refusals[0] if refused else ", ".join(sorted(kinds)),
        refused=refused,
    )


def _refusal(event: dict[str, Any]) -> str:
    """Say why it did not try, in its words; '' if it did."""
    if event.get("event") == "rejected":
        return f"rejected: {member(event, 'reject', 'reason') or ''}"
    reason = event.get("reason")
    if event.get("event") == "failed" and isinstance(reason, str) and reason.startswith("suppress-"):
        return f"failed: {reason}"
    return ""
