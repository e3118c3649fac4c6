"""A provider's own list of whom it gives no mail to: what a page of it says, and what is added to it. Values, and the words of our mark.

What is added carries our reason in a text where the list has one, so that it comes back as what it was and not as what the list is for:
an unsubscribe that was added to a list of bounces would keep a person's invoices from them.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from rotord.core.events import mailbox

#: what a suppression can be for; transactional mail minds only hard_bounce and manual
REASONS: Final = ("hard_bounce", "complaint", "unsubscribe", "manual")
#: pages of one pass: ten million addresses at Mailgun
MOST_PAGES: Final = 10_000
_MARK: Final = re.compile(r"rotord: (\w+)")


class ListKey(NamedTuple):
    """One list: a domain's, or the account's (domain '')."""

    name: str
    domain: str = ""


class Span(NamedTuple):
    """What a pass reads, seconds since 1970: all (since None), or what came onto the list from then on. `until`: its own begin."""

    since: float | None
    until: float


class Entry(NamedTuple):
    """One suppression, as it was read or is to be added; `at`: when it was made, seconds since 1970."""

    recipient: str
    reason: str
    at: float = 0.0


class Page(NamedTuple):
    """A page of a list. `following`: the cursor of the next one, '' after the last; `others`: entries that are no address or no reason."""

    entries: tuple[Entry, ...]
    following: str = ""
    others: int = 0


class Added(NamedTuple):
    """What a provider took, and what it refused for itself, in its words."""

    taken: int
    refused: tuple[str, ...] = ()


def marked(reason: str) -> str:
    """Write our reason for a list that has a text."""
    return f"rotord: {reason}"


def reason_of(text: object, otherwise: str) -> str:
    """Read our mark back; `otherwise` for what is not ours."""
    found = _MARK.fullmatch(text.strip()) if isinstance(text, str) else None
    return found[1] if found is not None and found[1] in REASONS else otherwise


def page(read: list[tuple[object, str]], following: str) -> Page:
    """Make a page of addresses as they stand there, each with its reason ('': none that we know)."""
    entries = [Entry(found, reason) for address, reason in read if reason and (found := mailbox(address)) and found.count("@") == 1]
    return Page(tuple(entries), following, len(read) - len(entries))
