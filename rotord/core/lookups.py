"""Asking a provider whether it has a message: what is asked, what comes of it, and when a message's turn is.

A search is a generator without I/O: it yields the queries of one look-up, is sent the answers, and returns what it found. Found is
proof. Not found is none, whatever the provider's retention: its log lags behind, so a message is asked after again, less and less often.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from rotord.core.http_replies import Answer

#: A provider's clock and ours differ, and it dates what it took by its own.
SKEW_S: Final = 300.0
#: What was answered by an error may still be taken later; nobody has told of more than minutes.
LATE_S: Final = 3600.0
#: the longest time between two look-ups of a message
SELDOM_S: Final = 86_400.0
_MOST_DOUBLINGS: Final = 30  # beyond a day from any first time


@dataclass(frozen=True, slots=True)
class Sought:
    """A message that its provider may have. On the wire from `began_at` to `over_at` at the latest; asked after `look_ups` times."""

    outbox_id: int
    attempt_id: int
    message_id: str
    sender: str
    recipient: str
    began_at: float
    over_at: float
    look_ups: int = 0

    @property
    def since(self) -> float:
        """The earliest time that a provider may give to it."""
        return self.began_at - SKEW_S

    @property
    def until(self) -> float:
        """The latest one."""
        return self.over_at + LATE_S


class Query(NamedTuple):
    """One request; a body makes it a POST of JSON."""

    url: str
    body: bytes | None = None


class Found(NamedTuple):
    """The provider has it. `at`: when it took it, on its clock. `refused`: it took it and said no, for good, to nobody's inbox."""

    provider_message_id: str
    at: float | None
    words: str
    refused: bool = False


class Missing(NamedTuple):
    """The look-up was complete and did not show it."""


class Unclear(NamedTuple):
    """This message cannot be asked after, or the answer cannot be read; others can."""

    reason: str


class Trouble(NamedTuple):
    """Nothing can be asked now. `lasting`: a person has to act, as for a key without the right."""

    reason: str
    wait_s: float | None = None
    lasting: bool = False


Finding: TypeAlias = Found | Missing | Unclear | Trouble
Search: TypeAlias = "Generator[Query, Answer, Found | None]"
Searcher: TypeAlias = Callable[[Sought], Search]


class UnclearError(Exception):
    """A search cannot go on; the text says why."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """Seconds: from the end of an attempt to its first look-up, from there to the second, and for how long the provider remembers."""

    grace_s: float
    again_s: float
    retention_s: float

    def due_at(self, over_at: float, look_ups: int, looked_up_at: float) -> float | None:
        """When a message is to be asked after next; None once the provider has forgotten it by then. The same as db.reconcile.DUE."""
        gap_s = min(self.again_s * 2.0 ** min(look_ups - 1, _MOST_DOUBLINGS), SELDOM_S)
        due_at = looked_up_at + gap_s if look_ups else over_at + self.grace_s
        return due_at if due_at < over_at + self.retention_s else None
