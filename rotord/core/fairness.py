"""Slots shared between clients: by weight, in virtual time, so that a million queued rows of one client cost another nothing."""

from __future__ import annotations

from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

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

    def in_turn(self, queues: Mapping[str, Sequence[T]], is_urgent: Callable[[T], bool]) -> Iterator[T]:
        """Each client's rows in its own order, what is urgent first, then whoever is furthest behind; `charge` between two steps counts.

        The shares above are of all slots; what a row needs (a provider's token, its slot) may be scarcer, and then this order decides.
        """
        heap = []
        for client, queue in queues.items():
            rows = iter(queue)
            for row in rows:
                heap.append((not is_urgent(row), self._standing(client), client, row, rows))
                break
        heapify(heap)
        while heap:
            _, _, client, row, rows = heap[0]
            yield row
            for following in rows:
                heapreplace(heap, (not is_urgent(following), self._standing(client), client, following, rows))
                break
            else:
                heappop(heap)

    def _standing(self, client: str) -> float:
        return max(self._virtual, self._passes.get(client, 0.0))

    def charge(self, client: str, weight: float, messages: int = 1) -> None:
        """Count messages a client has begun."""
        self._passes[client] = self._standing(client) + messages / weight

    def advance(self, waiting: Mapping[str, int]) -> None:
        """Move the present to the lowest of the clients that wait for their turn."""
        lowest = min((self._passes.get(client, 0.0) for client, want in waiting.items() if want > 0), default=self._virtual)
        self._virtual = max(self._virtual, lowest)
