"""Slots shared between clients: by weight, in virtual time, so that a million queued rows of one client cost another nothing."""

from __future__ import annotations

from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class FairShare:
    """Who is next when clients compete. A client that comes back from silence starts at the present: it has no claim to the past."""

    __slots__ = ("_passes", "_virtual")

    def __init__(self) -> None:
        self._passes: dict[str, float] = {}
        self._virtual = 0.0

    def allocate(self, wants: Mapping[str, int], weights: Mapping[str, float], slots: int) -> dict[str, int]:
        """Share up to `slots` among clients that each could use `wants`; charges nothing."""
        heap = [(max(self._virtual, self._passes.get(client, 0.0)), client) for client, want in wants.items() if want > 0]
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

    def charge(self, client: str, weight: float, messages: int = 1) -> None:
        """Count messages a client has begun."""
        start = max(self._virtual, self._passes.get(client, 0.0))
        self._passes[client] = start + messages / weight

    def advance(self, waiting: Mapping[str, int]) -> None:
        """Move the present to the lowest of the clients that wait for their turn."""
        lowest = min((self._passes.get(client, 0.0) for client, want in waiting.items() if want > 0), default=self._virtual)
        self._virtual = max(self._virtual, lowest)
