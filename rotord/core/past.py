"""What was sent in the last 24 hours, as the pool takes it when it is rebuilt.

A day of a big fleet is millions of attempts. Each counts in the caps of its address, domain, client and provider, but only by its time: so
the ledger is told as times, address by address. What decides by single answers (the breakers, the turns among providers) forgets all but
the newest ones, and is told those.
"""

from __future__ import annotations

from collections import defaultdict
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from rotord.core.limits import in_cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rotord.core.model import Blame, Outcome

#: Answers of each provider that are told one by one. While its breaker is open a provider gets a probe in 30 s, 2,880 a day, and what was
#: on the wire: among so many there are 200 in a row that found it closed, and then nothing older matters.
NEWEST: Final = 10_000


class LedgerRow(NamedTuple):
    """An attempt of the last 24 h as the ledger tells it; `counts_at` = its finish, at the latest (or if cut off) its deadline.

    `blame` is None too for what its daemon cut itself.
    """

    address: str
    domain: str
    client: str
    provider: str
    began_at: float
    counts_at: float
    outcome: Outcome | None
    blame: Blame | None = None
    campaign: str = ""


class Use(NamedTuple):
    """What an address asked of a provider for a campaign, in no order. `began_at`: of the used ones, if its client is paced.

    `given_back`: proven not accepted, so that only the provider's request counts, and the turn.
    """

    address: str
    domain: str
    client: str
    provider: str
    used: Sequence[float]
    given_back: Sequence[float] = ()
    began_at: Sequence[float] = ()
    campaign: str = ""

    @property
    def whom(self) -> tuple[str, str, str, str, str]:
        """Their names, in the order of `Level`; '' = none."""
        return self.address, self.domain, self.client, self.provider, self.campaign and f"{self.client}/{self.campaign}"


class Past(NamedTuple):
    """All attempts, and the newest answers of each provider in the order of `counts_at`."""

    uses: list[Use]
    answers: Sequence[LedgerRow]


class Level(StrEnum):
    """Whose caps count an attempt."""

    ADDRESS = "address"
    DOMAIN = "domain"
    CLIENT = "client"
    PROVIDER = "provider"
    CAMPAIGN = "campaign"


class Times:
    """What counts for one of them: lists of times, and the same lists as large caps round them."""

    __slots__ = ("began_at", "cells", "exact")

    def __init__(self) -> None:
        self.exact: list[Sequence[float]] = []
        self.cells: list[Sequence[float]] = []
        self.began_at: list[float] = []


class ByWhom:
    """`Use`s as those need them whose caps count them. Rounded once for all."""

    def __init__(self) -> None:
        #: from the many to the few
        self.times: dict[Level, defaultdict[str, Times]] = {level: defaultdict(Times) for level in Level}

    def add(self, use: Use) -> None:
        """Count it for each."""
        cells = in_cells(use.used)
        for of_level, name in zip(self.times.values(), use.whom, strict=True):
            if name:
                times = of_level[name]
                times.exact.append(use.used)
                times.cells.append(cells)
                if use.began_at:
                    times.began_at += use.began_at
        if use.given_back:
            requests = self.times[Level.PROVIDER][use.provider]
            requests.exact.append(use.given_back)
            requests.cells.append(in_cells(use.given_back))


def past_of(rows: Iterable[LedgerRow]) -> Past:
    """The same from single rows."""
    answers = sorted(rows, key=lambda row: row.counts_at)
    uses: dict[tuple[str, str, str, str, str], list[LedgerRow]] = defaultdict(list)
    for row in answers:
        uses[*row[:4], row.campaign].append(row)
    return Past([_use(rows) for rows in uses.values()], answers)


def _use(rows: Sequence[LedgerRow]) -> Use:
    counting = [row for row in rows if row.outcome is None or not row.outcome.proves_not_accepted]
    given_back = [row.counts_at for row in rows if row.outcome is not None and row.outcome.proves_not_accepted]
    times, began = [row.counts_at for row in counting], [row.began_at for row in counting]
    return Use(*rows[0][:4], times, given_back, began, rows[0].campaign)
