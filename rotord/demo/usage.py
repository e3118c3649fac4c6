"""How full each limit's fullest hour was, by what the receivers wrote down and not by what rotord counted."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rotord.fleet import FleetFile

HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Use:
    """The most of one name's `per_hour` that any 60 minutes held."""

    level: str
    name: str
    used: int
    limit: int

    @property
    def share(self) -> float:
        """Part of the limit; above 1 is a broken promise."""
        return self.used / self.limit if self.limit else float(self.used > 0)


def fullest_window(times: Iterable[float], window_s: float) -> int:
    """The most of these moments that any window of that length holds."""
    ordered = sorted(times)
    return max((end - bisect_left(ordered, at - window_s, hi=end) for end, at in enumerate(ordered, start=1)), default=0)


def uses(fleet: FleetFile, providers: Mapping[str, int], accepted: Iterable[tuple[float, str, str]]) -> list[Use]:
    """The use of every limited name, from (moment, sender, provider); `providers` are their limits an hour."""
    client_of = {domain.name: domain.client for domain in fleet.domains}
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for at, sender, provider in accepted:
        domain = sender.rpartition("@")[2]
        for level in (("address", sender), ("domain", domain), ("client", client_of.get(domain, "")), ("provider", provider)):
            times[level].append(at)
    return [Use(*key, fullest_window(times[key], HOUR_S), limit) for key, limit in _limits(fleet, providers) if key in times]


def worst(found: Iterable[Use]) -> list[Use]:
    """Of each level the fullest one."""
    best: dict[str, Use] = {}
    for use in found:
        if use.level not in best or use.share > best[use.level].share:
            best[use.level] = use
    return list(best.values())


def _limits(fleet: FleetFile, providers: Mapping[str, int]) -> Iterator[tuple[tuple[str, str], int]]:
    for address in fleet.addresses:
        if address.per_hour is not None:
            yield ("address", address.email), address.per_hour
    for domain in fleet.domains:
        if domain.per_hour is not None:
            yield ("domain", domain.name), domain.per_hour
    for client in fleet.clients:
        if client.per_hour is not None:
            yield ("client", client.slug), client.per_hour
    for name, limit in providers.items():
        yield ("provider", name), limit
