"""SendGrid's suppression lists, of the account: bounces, invalid addresses, spam reports, global unsubscribes.

Blocks are left out: they keep back one message, not the next. So are unsubscribes of a group, since nothing is sent to a group from here.
Only the global unsubscribes can be added to, and they have no text: what is added comes back as "unsubscribe".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import orjson

from rotord.core.lookups import Query, UnclearError
from rotord.core.suppression_lists import page
from rotord.providers.answers import json_of
from rotord.providers.sendgrid import words_of
from rotord.providers.suppression_list import Addition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rotord.core.http_replies import Answer
    from rotord.core.suppression_lists import Entry, ListKey, Page, Span
    from rotord.providers.http import ApiConfig

PAGE: Final = 500
#: what came onto a list is asked for from a day before the last pass on: nobody says when an entry can first be seen
OVERLAP_S: Final = 86_400.0
_REASONS: Final = {
    "bounces": "hard_bounce",
    "invalid_emails": "hard_bounce",
    "spam_reports": "complaint",
    "unsubscribes": "unsubscribe",
}


class SendgridLists:
    """Queries and answers."""

    lists: tuple[str, ...] = tuple(_REASONS)
    of_domains = False
    batch = 500

    def __init__(self, config: ApiConfig) -> None:
        self.secrets: tuple[str, ...] = (config.api_key,)
        self.headers: Mapping[str, str] = {"Authorization": f"Bearer {config.api_key}"}
        self._base_url = config.base_url

    def page(self, key: ListKey, span: Span, cursor: str) -> Query:
        """The cursor is the offset. What comes onto the list meanwhile is left for the next pass, so that no page moves."""
        wanted = {"limit": PAGE, "offset": int(cursor or 0), "end_time": int(span.until)}
        if span.since is not None:
            wanted["start_time"] = int(span.since - OVERLAP_S)
        return Query(f"{self._base_url}/v3/suppression/{key.name}?{urlencode(wanted)}")

    def read(self, key: ListKey, cursor: str, answer: Answer) -> Page:
        """A page that is not full is the last one."""
        content = json_of(answer.body)
        if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
            raise UnclearError("its answer is not the documented one")
        reason = _REASONS[key.name]
        return page([(item.get("email"), reason) for item in content], str(int(cursor or 0) + PAGE) if len(content) >= PAGE else "")

    def additions(self, domain: str, entries: Sequence[Entry]) -> list[Addition]:  # noqa: ARG002 - the account's
        """One request."""
        body = orjson.dumps({"recipient_emails": [entry.recipient for entry in entries]})
        return [Addition(Query(f"{self._base_url}/v3/asm/suppressions/global", body), tuple(entries))]

    def words(self, answer: Answer) -> str:
        """As when sending."""
        return words_of(answer.body)

    def is_barred(self, answer: Answer, words: str) -> str:
        """401 and 403: the key lacks the right."""
        if answer.status == 401 or (answer.status in {402, 403} and words):  # noqa: PLR2004 - HTTP's own numbers
            return "api_key may not use suppressions: give it the right suppression.read (and asm.suppressions.global.create for additions)"
        return ""
