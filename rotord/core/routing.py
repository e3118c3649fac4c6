"""Which provider carries a message: what each may be asked for now, and turns by weight among those that may.

The engine says how many slots each provider has ready (`slots`); everything else is counted here. A provider's cap counts requests: a
refused message gives address, domain and client their place back, never the provider. A provider that fails is closed by its breaker.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from rotord.core.breaker import Breaker
from rotord.core.limits import MonthBudget, RollingCap, SecondBucket
from rotord.core.model import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotord.core.model import ProviderLimits

# A provider knows no kinds: all of its limits are open to either.
_ANY = Kind.TRANSACTIONAL


class ProviderGate:
    """One configured provider: its limits, whether it fails, whether a person paused it, and the slots that are ready."""

    __slots__ = ("breaker", "bucket", "cap", "limits", "month", "paused", "slots")

    def __init__(self, limits: ProviderLimits) -> None:
        self.limits = limits
        self.cap = RollingCap(limits.per_hour, limits.per_day)
        self.bucket = SecondBucket(limits.per_second) if limits.per_second is not None else None
        self.month = MonthBudget(limits.per_month, is_spread=limits.is_month_spread) if limits.per_month is not None else None
        self.breaker = Breaker()
        self.paused = False
        self.slots = 0

    def limits_open_at(self, now: float) -> float:
        """When limits and breaker let one more request begin, slots aside; `inf` while paused or only a settled attempt can open it."""
        if self.paused:
            return inf
        at = self.cap.free_at(now, _ANY)
        if (breaker_at := self.breaker.free_at()) > at:
            at = breaker_at
        if self.bucket is not None and (bucket_at := self.bucket.free_at(now)) > at:
            at = bucket_at
        if self.month is not None and (month_at := self.month.free_at(now)) > at:
            at = month_at
        return at

    def is_open(self, now: float) -> bool:
        """True when a message could begin with it now."""
        return self.slots > 0 and self.limits_open_at(now) <= now

    def take(self, now: float) -> None:
        """Reserve a slot and a request."""
        self.slots -= 1
        self.cap.hold()
        self.breaker.began(now)
        if self.bucket is not None:
            self.bucket.take(now)
        if self.month is not None:
            self.month.take(now)

    def give_back(self, taken_at: float) -> None:
        """Undo `take`: the message did not begin. The second's token comes back by itself, the slot with the engine's next count."""
        self.cap.release()
        self.breaker.taken_back(taken_at)
        if self.month is not None:
            self.month.give_back(taken_at)


class Route:
    """The providers of a domain, in its order. Equal domains share one Route, so that turns are counted once for all of them."""

    __slots__ = ("_passes", "gates")

    def __init__(self, gates: Sequence[ProviderGate]) -> None:
        self.gates = tuple(gates)
        self._passes = [0.0] * len(self.gates)

    def pick(self, now: float, avoid: str = "") -> ProviderGate | None:
        """The open provider that is preferred, among equals the one whose turn it is; None when none is open.

        On a tie it is the earlier one in the domain's list.
        The one named `avoid` has just failed the message, and is picked only when no other is open.
        """
        if len(self.gates) == 1:
            gate = self.gates[0]
            return gate if gate.is_open(now) else None
        best: ProviderGate | None = None
        avoided: ProviderGate | None = None
        lowest = (inf, inf)
        for gate, pass_ in zip(self.gates, self._passes, strict=True):
            if avoid and gate.limits.name == avoid:
                avoided = gate
            elif (rank := (gate.limits.preference, pass_)) < lowest and gate.is_open(now):
                best, lowest = gate, rank
        if best is None and avoided is not None and avoided.is_open(now):
            return avoided
        return best

    def charge(self, gate: ProviderGate) -> None:
        """Count a turn. One that was closed does not catch up: its virtual time follows the lowest open one."""
        if len(self.gates) == 1 or gate not in self.gates:
            return
        index = self.gates.index(gate)
        turn = self._passes[index]
        self._passes = [max(own, turn) for own in self._passes]
        self._passes[index] += 1 / gate.limits.weight

    def refund(self, gate: ProviderGate) -> None:
        """Take a turn back that came to nothing."""
        if gate in self.gates:
            self._passes[self.gates.index(gate)] -= 1 / gate.limits.weight

    def open_gates(self, now: float) -> list[ProviderGate]:
        """Those that could take a message now."""
        return [gate for gate in self.gates if gate.is_open(now)]

    def opens_at(self, now: float) -> float:
        """The earliest time at which some provider may open: `now` when one lacks only a slot, which any answer frees; `inf`: unknown."""
        return min((max(now, gate.limits_open_at(now)) for gate in self.gates), default=inf)
