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
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")

# How many members one question wakes at most: a thousand domains whose hour ends in the same second must not stall the loop.
WAKE_AT_MOST = 256
# One turn of a member of weight 1. Virtual time is counted in whole numbers, so that a turn taken back leaves no trace and the order in
# which a ledger is read does not matter.
ONE_TURN = 2**40
_NOWHERE = -1


class Member(Generic[T]):
    """One place in a ring. Made by `StrideRing.add`; `item` is whatever takes the turn.

    `until` is -inf unless it is parked. Its one valid entry among the ready is that with `key`, which `pass_` may have outrun.
    """

    __slots__ = ("item", "key", "number", "pass_", "stride", "until")

    def __init__(self, item: T, stride: int, pass_: int, number: int) -> None:
        self.item = item
        self.stride = stride
        self.pass_ = pass_
        self.number = number
        self.key = _NOWHERE
        self.until = -inf

    def charge(self) -> None:
        """Make it pay for a turn, whether rotation gave it or a pin did."""
        self.pass_ += self.stride


Ready: TypeAlias = tuple[int, int, Member[T]]
Asleep: TypeAlias = tuple[float, int, Member[T]]


class StrideRing(Generic[T]):
    """Members in the order of their virtual time. Times are the caller's `now`.

    While `ready` is empty, nobody has a turn before `next_at`; it may hold entries that are void, so it says nothing when it is not.
    """

    __slots__ = ("_asleep", "_next_number", "_size", "ready", "virtual")

    def __init__(self) -> None:
        self.virtual = 0
        self.ready: list[Ready[T]] = []
        self._asleep: list[Asleep[T]] = []
        self._next_number = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, item: T, weight: float, used: int = 0) -> Member[T]:
        """Give `item` a place. `used` turns were taken before, so that a rebuilt ring goes on where it stopped."""
        stride = _stride(weight)
        return self.add_at(item, stride, used * stride + stride // 2)

    def add_at(self, item: T, stride: int, pass_: int) -> Member[T]:
        """Give `item` a place at a point of another ring's time, or the present if that is later."""
        self._next_number += 1
        self._size += 1
        member = Member(item, stride, max(self.virtual, pass_), self._next_number)
        self._enter(member)
        return member

    def remove(self, member: Member[T]) -> None:
        """Take a member out for good. Its entry goes when it is met."""
        if member.key != _NOWHERE or member.until > -inf:
            member.key, member.until = _NOWHERE, -inf
            self._size -= 1

    def clear(self) -> None:
        """Forget all members."""
        self.ready.clear()
        self._asleep.clear()
        self._size = 0

    def first(self, now: float) -> Member[T] | None:
        """The member whose turn it is, or None when all are parked (then `next_at` says until when)."""
        if self._asleep and self._asleep[0][0] <= now:
            self._wake(now)
        ready = self.ready
        while ready:
            key, number, member = ready[0]
            if key != member.key:
                heappop(ready)
            elif key < member.pass_:
                member.key = member.pass_
                heapreplace(ready, (member.pass_, number, member))
            else:
                if key > self.virtual:
                    self.virtual = key
                return member
        return None

    def refund(self, member: Member[T]) -> None:
        """Take a turn back that came to nothing (the row was gone at begin)."""
        self._move(member, max(0, member.pass_ - member.stride))

    def park(self, member: Member[T], until: float) -> None:
        """Take a member out of the turns until a time; `inf` = until `free`."""
        member.key = _NOWHERE
        member.until = until
        if until < inf:
            heappush(self._asleep, (until, member.number, member))
            if len(self._asleep) > 2 * self._size + 64:
                # By number: one that was freed and parked again until the same time has two entries that look valid.
                self._asleep = list({entry[1]: entry for entry in self._asleep if entry[2].until == entry[0]}.values())
                heapify(self._asleep)

    def free(self, member: Member[T]) -> None:
        """Bring a parked member back before its time: a place was given back, a limit raised, a person resumed it."""
        if member.until > -inf:
            self._return(member)

    def next_at(self) -> float:
        """When it has a member to give: -inf at once, a time, or `inf` when only `free` can bring one."""
        if self.first(-inf) is not None:
            return -inf
        asleep = self._asleep
        while asleep and asleep[0][2].until != asleep[0][0]:
            heappop(asleep)
        return asleep[0][0] if asleep else inf

    def reweigh(self, member: Member[T], weight: float) -> None:
        """Change a weight; the turns it has to wait stay the same in number."""
        stride = _stride(weight)
        if stride != member.stride:
            ahead = max(0, member.pass_ - self.virtual)
            self._move(member, self.virtual + ahead * stride // member.stride)
            member.stride = stride

    def _wake(self, now: float) -> None:
        self.first(-inf)  # The present, for those who come back, is where the others stand.
        asleep = self._asleep
        for _ in range(WAKE_AT_MOST):
            if not asleep or asleep[0][0] > now:
                return
            until, _, member = heappop(asleep)
            if until == member.until:
                self._return(member)

    def _return(self, member: Member[T]) -> None:
        member.until = -inf
        member.pass_ = max(member.pass_, self.virtual)
        self._enter(member)

    def _move(self, member: Member[T], pass_: int) -> None:
        member.pass_ = pass_
        if pass_ < member.key:
            self._enter(member)

    def _enter(self, member: Member[T]) -> None:
        member.key = member.pass_
        heappush(self.ready, (member.pass_, member.number, member))
        if len(self.ready) > 2 * self._size + 64:
            self.ready = list({entry[1]: entry for entry in self.ready if entry[2].key == entry[0]}.values())
            heapify(self.ready)


def _stride(weight: float) -> int:
    return max(1, round(ONE_TURN / weight))
