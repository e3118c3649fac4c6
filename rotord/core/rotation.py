"""Whose turn it is: a stride ring, used twice, for the domains of a pool and for the addresses of a domain.

Each member has a `pass_`, its virtual time. The member with the smallest pass is next and pays 1 / weight for its turn, so turns come in
proportion to weight (quota x health). Messages that rotation did not choose (pinned, threads) are charged like any other, or their
address would get its share twice (Jain 0.970 instead of 0.9935 with 25 % of them).

A member without room is *parked* until a time and stands before nobody; back from parking it starts at the present virtual time, so that
no catch-up burst follows. Every operation is O(log n), also when everything is parked. (Waldspurger & Weihl 1995.)
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T")

_READY, _PARKED, _OUT = range(3)


class Member(Generic[T]):
    """One place in a ring. Made by `StrideRing.add`; `item` is whatever takes the turn."""

    __slots__ = ("item", "number", "pass_", "place", "until", "weight")

    def __init__(self, item: T, weight: float, pass_: float, number: int) -> None:
        self.item = item
        self.weight = weight
        self.pass_ = pass_
        self.number = number
        self.until = -inf
        self.place = _READY


class StrideRing(Generic[T]):
    """Members in the order of their virtual time. Times are the caller's `now`."""

    __slots__ = ("_asleep", "_next_number", "_ready", "_size", "virtual")

    def __init__(self) -> None:
        self.virtual = 0.0
        self._ready: list[tuple[float, int, Member[T]]] = []
        self._asleep: list[tuple[float, int, Member[T]]] = []
        self._next_number = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, item: T, weight: float, used: float = 0.0) -> Member[T]:
        """Give `item` a place. `used` turns were taken before (the ledger's), so that a rebuilt ring goes on where it stopped."""
        self._next_number += 1
        pass_ = max(self.virtual, (used + 0.5) / weight)
        member = Member(item, weight, pass_, self._next_number)
        heappush(self._ready, (member.pass_, member.number, member))
        self._size += 1
        return member

    def remove(self, member: Member[T]) -> None:
        """Take a member out for good. Its entry goes when it is met."""
        if member.place != _OUT:
            member.place = _OUT
            self._size -= 1

    def first(self, now: float) -> Member[T] | None:
        """The member whose turn it is, or None when all are parked (then `next_at` says until when)."""
        self._wake(now)
        ready = self._ready
        while ready:
            pass_, number, member = ready[0]
            if member.place != _READY:
                heappop(ready)
            elif pass_ < member.pass_:
                heapreplace(ready, (member.pass_, number, member))
            else:
                return member
        return None

    def charge(self, member: Member[T]) -> None:
        """Make a member pay for a turn, whether rotation gave it or a pin did."""
        self.virtual = max(self.virtual, min(member.pass_, self._lowest()))
        member.pass_ += 1 / member.weight

    def refund(self, member: Member[T]) -> None:
        """Take a turn back that came to nothing (the row was gone at begin)."""
        member.pass_ = max(0.0, member.pass_ - 1 / member.weight)
        if member.place == _READY:
            heappush(self._ready, (member.pass_, member.number, member))
            if len(self._ready) > 2 * self._size + 64:
                self._rebuild()

    def park(self, member: Member[T], until: float) -> None:
        """Take the member that `first` just gave out of the turns until a time; `inf` = until `free`."""
        if member.place == _READY:
            if self._ready and self._ready[0][2] is member:
                heappop(self._ready)
            member.place = _PARKED
        member.until = until
        if until < inf:
            heappush(self._asleep, (until, member.number, member))
            if len(self._asleep) > 2 * self._size + 64:
                self._asleep = [entry for entry in self._asleep if entry[2].place == _PARKED and entry[2].until == entry[0]]
                heapify(self._asleep)

    def free(self, member: Member[T]) -> None:
        """Bring a parked member back before its time: a place was given back, a limit raised, a person resumed it."""
        if member.place == _PARKED:
            self._return(member)

    def next_at(self) -> float:
        """When the next parked member comes back; `inf` when only `free` can bring one."""
        asleep = self._asleep
        while asleep and (asleep[0][2].place != _PARKED or asleep[0][2].until != asleep[0][0]):
            heappop(asleep)
        return asleep[0][0] if asleep else inf

    def reweigh(self, member: Member[T], weight: float) -> None:
        """Change a weight; what was paid stays paid."""
        member.weight = weight

    def _wake(self, now: float) -> None:
        while self.next_at() <= now:
            self._return(heappop(self._asleep)[2])

    def _return(self, member: Member[T]) -> None:
        member.place = _READY
        member.until = -inf
        member.pass_ = max(member.pass_, self.virtual)
        heappush(self._ready, (member.pass_, member.number, member))

    def _lowest(self) -> float:
        return self._ready[0][0] if self._ready else inf

    def _rebuild(self) -> None:
        members = {number: member for _, number, member in self._ready if member.place == _READY}
        self._ready = [(member.pass_, number, member) for number, member in members.items()]
        heapify(self._ready)
