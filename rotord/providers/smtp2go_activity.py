"""SMTP2GO's look-up: `POST /activity/search` by recipient and time, with our header X-Rotord-Attempt shown for each event."""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING, Any, Final

import orjson

from rotord.core.api_mail import address
from rotord.core.lookups import Found, Query, UnclearError
from rotord.core.mime import RenderError
from rotord.providers.answers import json_of
from rotord.providers.look_up import content_of, member, moment, objects, stamp
from rotord.providers.smtp2go import error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotord.core.http_replies import Answer
    from rotord.core.lookups import Search, Sought
    from rotord.providers.http import ApiConfig

HEADER: Final = "X-Rotord-Attempt"
LIMIT: Final = 1000
MOST_PAGES: Final = 5
_REFUSED: Final = frozenset({"rejected", "reject"})
_OF_SOMEBODY: Final = frozenset({"delivered", "opened", "open", "clicked", "click", "spam", "unsubscribed", "unsubscribe"})


class Smtp2goActivity:
    """Queries and answers; `base_url` ends in /v3, as for sending."""

    #: on the free plan; paid ones keep 30 days and more
    retention_s: float = 5 * 86_400.0

    def __init__(self, config: ApiConfig) -> None:
        self.secrets: tuple[str, ...] = (config.api_key,)
        self.headers: Mapping[str, str] = {"X-Smtp2go-Api-Key": config.api_key}
        self._url = f"{config.base_url}/activity/search"

    def search(self, sought: Sought) -> Search:
        """Follow the pages until one shows the attempt, or is the last."""
        try:
            recipient = address(sought.recipient, "recipient")
        except RenderError as error:
            raise UnclearError(str(error)) from error
        wanted: dict[str, Any] = {
            "start_date": stamp(floor(sought.since)),
            "end_date": stamp(ceil(sought.until)),
            "search_recipient": recipient,
            "custom_headers": [HEADER],
            "only_latest": False,
            "limit": LIMIT,
        }
        is_veiled = False
        for _ in range(MOST_PAGES):
            data = content_of((yield Query(self._url, orjson.dumps(wanted)))).get("data")
            if not isinstance(data, dict):
                raise UnclearError("its answer is not the documented one")
            events = objects(data, "events")
            mine = [event for event in events if _attempt(event) == str(sought.attempt_id)]
            if mine:
                return _found(mine)
            is_veiled = is_veiled or any(not isinstance(event.get("custom_headers"), dict) for event in events)
            token = data.get("continue_token")
            if not events or not token:
                if is_veiled:
                    raise UnclearError(f"an event is shown without its header {HEADER}")
                return None
            wanted["continue_token"] = token
        raise UnclearError(f"more than {MOST_PAGES} pages of events")

    def words(self, answer: Answer) -> str:
        """Code and text, as when sending."""
        return " ".join(error(json_of(answer.body))).strip()

    def is_barred(self, answer: Answer, words: str) -> str:
        """A key without the endpoint's permission is told so by a 400."""
        if "ENDPOINT_PERMISSION_DENIED" in words or answer.status == 401 or (answer.status in {402, 403} and words):  # noqa: PLR2004
            return "api_key may not search activity: give it the permission /activity/search, or resolve by hand"
        return ""


def _attempt(event: dict[str, Any]) -> str:
    headers = event.get("custom_headers")
    if not isinstance(headers, dict):
        return ""
    value = next((value for name, value in headers.items() if name.casefold() == HEADER.casefold()), "")
    return str(value[0] if isinstance(value, list) and value else value).strip()


def _found(events: list[dict[str, Any]]) -> Found:
    kinds = {str(event.get("event")) for event in events}
    refused = bool(kinds & _REFUSED) and not kinds & _OF_SOMEBODY
    words = ", ".join(sorted(kinds))
    if refused:
        reason = next((event for event in events if str(event.get("event")) in _REFUSED), {})
        words = f"rejected: {member(reason, 'reason') or member(reason, 'smtp_response') or member(reason, 'error') or ''}"
    # the first of it that the log has
    at = min((at for event in events if (at := moment(event.get("date"))) is not None), default=None)
    return Found(str(events[0].get("email_id") or ""), at, words, refused=refused)
