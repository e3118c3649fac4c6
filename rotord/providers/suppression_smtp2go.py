"""SMTP2GO's suppression list, one for the account: `/suppression/view`, `/suppression/add`.

Entries that name a whole domain are left out: a suppression here is one recipient's. Without times it shows the last 30 days, so a pass
asks from the beginning, or from a day before the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from rotord.core.lookups import Query, UnclearError
from rotord.core.suppression_lists import marked, page, reason_of
from rotord.providers.answers import json_of
from rotord.providers.look_up import content_of, objects, stamp
from rotord.providers.smtp2go import error
from rotord.providers.suppression_list import Addition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rotord.core.http_replies import Answer
    from rotord.core.suppression_lists import Entry, ListKey, Page, Span
    from rotord.providers.http import ApiConfig

OVERLAP_S: Final = 86_400.0
#: older than SMTP2GO
BEGINNING: Final = "2000-01-01T00:00:00Z"
#: "compliance" is its own word that nothing may be sent there
_REASONS: Final = {
    "bounce": "hard_bounce",
    "spam": "complaint",
    "unsubscribe": "unsubscribe",
    "manual": "manual",
    "compliance": "manual",
}


class Smtp2goLists:
    """Queries and answers; `base_url` ends in /v3, as for sending."""

    lists: tuple[str, ...] = ("suppressions",)
    of_domains = False
    # each is a request
    batch = 20

    def __init__(self, config: ApiConfig) -> None:
        self.secrets: tuple[str, ...] = (config.api_key,)
        self.headers: Mapping[str, str] = {"X-Smtp2go-Api-Key": config.api_key}
        self._base_url = config.base_url

    def page(self, key: ListKey, span: Span, cursor: str) -> Query:  # noqa: ARG002 - there is one list
        """The cursor is its continue_token."""
        wanted = {
            "start_date": BEGINNING if span.since is None else stamp(span.since - OVERLAP_S),
            "end_date": stamp(span.until + OVERLAP_S),  # its clock and ours differ
            "sort": "asc",
            **({"continue_token": cursor} if cursor else {}),
        }
        return Query(f"{self._base_url}/suppression/view", orjson.dumps(wanted))

    def read(self, key: ListKey, cursor: str, answer: Answer) -> Page:  # noqa: ARG002 - its answer has it all
        """The last page has no continue_token."""
        data = content_of(answer).get("data")
        if not isinstance(data, dict):
            raise UnclearError("its answer is not the documented one")
        token = data.get("continue_token")
        results = objects(data, "results")
        return page([(item.get("email_address"), _reason(item)) for item in results], token if isinstance(token, str) and results else "")

    def additions(self, domain: str, entries: Sequence[Entry]) -> list[Addition]:  # noqa: ARG002 - the account's
        """One request each."""
        url = f"{self._base_url}/suppression/add"
        return [
            Addition(Query(url, orjson.dumps({"email_address": entry.recipient, "block_description": marked(entry.reason)})), (entry,))
            for entry in entries
        ]

    def words(self, answer: Answer) -> str:
        """Code and text, as when sending."""
        return " ".join(error(json_of(answer.body))).strip()

    def is_barred(self, answer: Answer, words: str) -> str:
        """A key without the endpoint's permission is told so by a 400."""
        if "ENDPOINT_PERMISSION_DENIED" in words or answer.status == 401 or (answer.status in {402, 403} and words):  # noqa: PLR2004
            return "api_key may not use suppressions: give it the permissions /suppression/view and /suppression/add"
        return ""


def _reason(item: dict[str, Any]) -> str:
    listed = item.get("reason")
    reason = _REASONS.get(listed.casefold(), "") if isinstance(listed, str) else ""
    return reason_of(item.get("block_description"), reason) if reason == "manual" else reason
