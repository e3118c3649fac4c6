"""Slots shared between clients: by weight, in virtual time, so that a million queued rows of one client cost another nothing."""

from __future__ import annotations

from collections import defaultdict
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

T = TypeVar("T")


class FairShare:
    """Who is next when clients compete. A client that comes back from silence starts at the present: it has no claim to the past."""

    __slots__ = ("_passes", "_virtual")

    def __init__(self) -> None:
        self._passes: dict[str, float] = {}
        self._virtual = 0.0

    def allocate(self, wants: Mapping[str, int], weights: Mapping[str, float], slots: int) -> dict[str, int]:
        """Share up to `slots` among clients that each could use `wants`; charges nothing."""
        heap = [(self._standing(client), client) for client, want in wants.items() if want > 0]
        heapify(heap)
        shares = dict.fromkeys(wants, 0)
        while slots > 0 and heap:
            pass_, client = heap[0]
            shares[client] += 1
            slots -= 1
            if shares[client] < wants[client]:
                heapreplace(heap, (pass_ + 1 / weights[client], client))
            else:
                heappop(heap)
        return shares

    def lead(self, client: str) -> float:
        """How far a client is ahead of the present; 0 for whoever is furthest behind."""
        return self._standing(client) - self._virtual

    def _standing(self, client: str) -> float:
        return max(self._virtual, self._passes.get(client, 0.0))

    def charge(self, client: str, weight: float, messages: int = 1) -> None:
        """Count messages a client has begun."""
        self._passes[client] = self._standing(client) + messages / weight

    def advance(self, waiting: Mapping[str, int]) -> None:
        """Move the present to the lowest of the clients that wait for their turn."""
        lowest = min((self._passes.get(client, 0.0) for client, want in waiting.items() if want > 0), default=self._virtual)
        self._virtual = max(self._virtual, lowest)


class FairOrder:
    """Whose row is next: the client's that is least ahead of the others that want the same provider; of equals, who was served longest ago.

    The shares above are of all slots. What a row needs (a provider's token, its slot) may be scarcer, and then this order decides. Time is
    counted for each provider, since who has one for himself runs ahead there and takes nothing from anybody.
    """

    __slots__ = ("_begun", "_last", "_providers")

    def __init__(self) -> None:
        self._providers: defaultdict[str, FairShare] = defaultdict(FairShare)
        self._last: dict[str, int] = {}
        self._begun = 0

    def advance(self, waiting: Mapping[str, Iterable[str]]) -> None:
        """Move each provider's present to the lowest of the clients that wait for it."""
        for provider, clients in waiting.items():
            self._providers[provider].advance(dict.fromkeys(clients, 1))

    def in_turn(
        self, queues: Mapping[str, Sequence[T]], is_urgent: Callable[[T], bool], providers: Callable[[T], Iterable[str]]
    ) -> Iterator[T]:
        """Each client's rows in its own order, what is urgent first, then by lead; `charge` between two steps counts."""

        def place(client: str, row: T) -> tuple[bool, float, int, str]:
            lead = min((self._providers[provider].lead(client) for provider in providers(row)), default=0.0)
            return not is_urgent(row), lead, self._last.get(client, 0), client

        heap = []
        for client, queue in queues.items():
            rows = iter(queue)
            for row in rows:
                heap.append((*place(client, row), row, rows))
                break
        heapify(heap)
        while heap:
            _, _, _, client, row, rows = heap[0]
            yield row
            for following in rows:
                heapreplace(heap, (*place(client, following), following, rows))
                break
            else:
                heappop(heap)

    def charge(self, client: str, provider: str, weight: float) -> None:
        """Count a message that a client has begun by a provider."""
        self._begun += 1
        self._last[client] = self._begun
        self._providers[provider].charge(client, weight)
