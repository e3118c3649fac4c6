"""SendGrid's look-up, Email Logs: `POST /v3/logs` by recipient and time, then `GET /v3/logs/{id}` for the attempt's id.

The search knows neither custom_args nor our Message-ID, so each message to that recipient in that time is looked at. Not the older Email
Activity (`/v3/messages`): that one is an add-on with six requests a minute.
"""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import orjson

from rotord.core.api_mail import address
from rotord.core.lookups import Found, Query, UnclearError
from rotord.core.mime import RenderError
from rotord.providers.look_up import content_of, member, moment, objects, stamp
from rotord.providers.sendgrid import words_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotord.core.http_replies import Answer
    from rotord.core.lookups import Search, Sought
    from rotord.providers.http import ApiConfig

LIMIT: Final = 1000
#: a recipient with more messages than that in an hour and a half is asked after by a person
MOST_DETAILS: Final = 20


class SendgridLogs:
    """Queries and answers."""

    #: all plans
    retention_s: float = 30 * 86_400.0

    def __init__(self, config: ApiConfig) -> None:
        self.secrets: tuple[str, ...] = (config.api_key,)
        self.headers: Mapping[str, str] = {"Authorization": f"Bearer {config.api_key}"}
        self._url = f"{config.base_url}/v3/logs"

    def search(self, sought: Sought) -> Search:
        """Look at every message that it could be, those of its sender first."""
        listed: dict[str, dict[str, Any]] = {}
        for recipient in _spellings(sought.recipient):
            query = (
                f"to_email = '{recipient}' AND sg_message_id_created_at > TIMESTAMP \"{stamp(floor(sought.since) - 1)}\""
                f' AND sg_message_id_created_at < TIMESTAMP "{stamp(ceil(sought.until) + 1)}"'
            )
            found = objects(content_of((yield Query(self._url, orjson.dumps({"query": query, "limit": LIMIT})))), "messages")
            if len(found) >= LIMIT:
                raise UnclearError(f"{LIMIT} or more messages to its recipient")
            listed |= {one["sg_message_id"]: one for one in found if isinstance(one.get("sg_message_id"), str)}
        if len(listed) > MOST_DETAILS:
            raise UnclearError(f"{len(listed)} messages to its recipient")
        is_veiled = False
        for summary in sorted(listed.values(), key=lambda one: not _is_from(one, sought)):
            detail = content_of((yield Query(f"{self._url}/{quote(summary['sg_message_id'], safe='')}")))
            arguments = detail.get("custom_args")
            if member(detail, "custom_args", "rotord_attempt") == str(sought.attempt_id):
                return _found(summary, detail)
            is_veiled = is_veiled or (not isinstance(arguments, dict) and _is_from(summary, sought))
        if is_veiled:
            raise UnclearError("a message that it could be is shown without its custom_args")
        return None

    def words(self, answer: Answer) -> str:
        """As when sending."""
        return words_of(answer.body)

    def is_barred(self, answer: Answer, words: str) -> str:
        """401 and 403: the key or the plan has no Email Logs."""
        if answer.status == 401 or (answer.status in {402, 403} and words):  # noqa: PLR2004 - HTTP's own numbers
            return "api_key may not read Email Logs: give it that right (or buy it), or resolve by hand"
        return ""


def _spellings(recipient: str) -> list[str]:
    """The recipient as it was given, and in small letters, for nobody says which of them is kept."""
    try:
        given = address(recipient, "recipient")
    except RenderError as error:
        raise UnclearError(str(error)) from error
    if set(given) & set("'\"\\"):
        raise UnclearError("its query language has no way to write this recipient")
    return list(dict.fromkeys((given, given.lower())))


def _is_from(summary: dict[str, Any], sought: Sought) -> bool:
    return str(summary.get("from_email")).casefold() == sought.sender.casefold()


def _found(summary: dict[str, Any], detail: dict[str, Any]) -> Found:
    status = str(detail.get("status"))
    events = detail.get("events")
    reasons = [event.get("reason") for event in events if isinstance(event, dict)] if isinstance(events, list) else []
    reason = next((reason for reason in reasons if isinstance(reason, str) and reason), "")
    # A bounce is the recipient's server's word, and comes as an event.
    refused = status == "dropped"
    words = f"{status}: {reason}" if refused and reason else status
    return Found(summary["sg_message_id"], moment(summary.get("sg_message_id_created_at")), words, refused=refused)
