"""A pool learns what was sent in the last 24 hours, some milliseconds at a time.

A day of a big fleet takes seconds, and meanwhile the lease must be renewed and HTTP answered. What is counted is dropped on the way, from
the few who share all of it to the many: to free it in one go would take long, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotord.core.past import ByWhom, Level

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotord.core.past import LedgerRow, Past
    from rotord.core.pool import SenderPool

# Between two pauses: so many addresses, so many answers.
_ADDRESSES, _ANSWERS = 200, 1000


def rebuild(pool: SenderPool, past: Past) -> None:
    """Count what was sent before, and empty `past.uses`. Once, after the fleet and before the first `choose`."""
    for _ in rebuilding(pool, past):
        pass


def rebuilding(pool: SenderPool, past: Past) -> Iterator[None]:
    """Do as `rebuild`, and pause now and then."""
    yield from pool.weighing()
    by_whom = ByWhom()
    while past.uses:
        use = past.uses.pop()
        by_whom.add(use)
        if (address := pool.addresses.get(use.address)) is not None:
            # A refused one had its turn, too.
            address.charge(len(use.used) + len(use.given_back))
        if len(past.uses) % _ADDRESSES == 0:
            yield
    yield from _count(pool, by_whom)
    for number, row in enumerate(past.answers):
        _answer(pool, row)
        if number % _ANSWERS == 0:
            yield


def _count(pool: SenderPool, by_whom: ByWhom) -> Iterator[None]:
    for level, of_level in reversed(by_whom.times.items()):
        while of_level:
            name, times = of_level.popitem()
            cap = pool.cap_of(level, name)
            if cap is not None:
                yield from cap.restoring(times.exact, times.cells)
            state = pool.states(level).get(name)
            if state is not None and state.pace is not None:
                state.pace.restore(times.began_at)
            if level is not Level.ADDRESS or len(of_level) % _ADDRESSES == 0:
                yield


def _answer(pool: SenderPool, row: LedgerRow) -> None:
    gate, address = pool.providers.get(row.provider), pool.addresses.get(row.address)
    if gate is None:
        return
    if row.outcome is not None:
        gate.breaker.ended(row.outcome, row.blame, row.began_at, row.counts_at, row.client)
    if address is not None:
        address.domain.route.charge(gate)
