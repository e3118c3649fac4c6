"""What waits, as the dispatcher knows it: the lanes that have queued rows, how far each was claimed, until when each is blocked.

A cursor bounds the claim against dead rows: while something holds back the database's clean-up (a backup, a long report) the index still
has every row that was claimed, and a claim from the lane's start grew from 9 to 44 ms. New rows may lie below a cursor (a higher
priority, a late commit), so it goes back when a lane ran dry, and every second: to the first row that the look for lanes found. That look
walks over the dead rows; when it is slow it goes on beside the turns (the dispatcher's business).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotord.core.model import Kind
from rotord.core.records import Cursor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rotord.core.pool import Lane
    from rotord.core.records import Candidate, LaneRow

# Back to the first row of a busy lane this often: how long a new row of higher priority may wait behind the cursor.
CURSOR_S = 1.0
# A notification is followed at once, but looking for lanes may take no more than a tenth of the time: with 1,200 pinned
# lanes it costs about 20 ms.
REFRESH_SHARE = 0.1
REFRESH_MIN_S = 0.002
# A look that takes longer than this holds up no turn: it goes on beside them, and may take half of the time.
SLOW_S = 0.01
SLOW_SHARE = 0.5


@dataclass(slots=True)
class LaneState:
    """One lane with queued rows. `dry`: its last claim found fewer rows than it asked for. `hopeless_since`: it can never go as it is."""

    key: int
    lane: Lane
    cursor: Cursor
    cursor_since: float
    blocked_until: float = 0.0
    dry: bool = False
    hopeless_since: float | None = None
    asked_in: int = 0


class Backlog:
    """Owned by the dispatcher. Times are the caller's `now`."""

    def __init__(self, poll_s: float) -> None:
        self.lanes: dict[int, LaneState] = {}
        self._poll_s = poll_s
        self._dirty = True
        self._refreshed_at = float("-inf")
        self._not_before = float("-inf")
        self._is_looking = False
        self._took_s = 0.0
        self._turn = 0

    @property
    def is_slow(self) -> bool:
        """The last look took so long that the next one is to go on beside the turns."""
        return self._took_s > SLOW_S

    def touch(self) -> None:
        """Something may have been inserted, ripened or resumed."""
        self._dirty = True

    def refresh_at(self) -> float:
        """When to look for lanes again; `inf` while somebody does."""
        if self._is_looking:
            return float("inf")
        return self._not_before if self._dirty else self._refreshed_at + self._poll_s

    def begin_refresh(self) -> None:
        """Call right before the look: what is touched from here on wants another one."""
        self._dirty, self._is_looking = False, True

    def refresh_failed(self) -> None:
        """The look found nothing out."""
        self._dirty, self._is_looking = True, False

    def replace(self, rows: Iterable[LaneRow], now: float, took_s: float) -> None:
        """Take what a look found; between two turns, or a turn would move cursors past what was found behind them."""
        self._is_looking, self._took_s = False, took_s
        self._refreshed_at = now
        self._not_before = now + max(REFRESH_MIN_S, took_s / (SLOW_SHARE if self.is_slow else REFRESH_SHARE))
        known = self.lanes
        self.lanes = {}
        for row in rows:
            state = known.get(row.key)
            if state is None or state.lane != row.lane:
                state = LaneState(row.key, row.lane, row.first.before, now)
            elif state.dry or now - state.cursor_since >= CURSOR_S:
                state.cursor, state.cursor_since, state.dry = row.first.before, now, False
            self.lanes[row.key] = state

    def unblocked(self, now: float) -> Iterator[LaneState]:
        """The lanes worth asking the pool about: what is transactional first, then who was not asked for longest."""
        self._turn += 1
        for state in sorted(self._unblocked(now), key=_standing):
            state.asked_in = self._turn
            yield state

    def has_unblocked(self, now: float) -> bool:
        """Whether there is a lane worth asking the pool about."""
        return any(True for _ in self._unblocked(now))

    def _unblocked(self, now: float) -> Iterator[LaneState]:
        return (state for state in self.lanes.values() if state.blocked_until <= now and not state.dry)

    def claimed(self, state: LaneState, asked: int, found: Sequence[Candidate], taken: Sequence[Candidate]) -> None:
        """Move a lane's cursor behind what was taken; a lane that had less than was asked is dry once all of it is taken."""
        if taken:
            last = taken[-1]
            state.cursor = Cursor(last.rank, last.due_at, last.id)
        state.dry = len(found) < asked and len(taken) == len(found)

    def unblock_all(self) -> None:
        """The fleet changed: ask about every lane again."""
        for state in self.lanes.values():
            state.blocked_until = 0.0

    def wake_at(self, now: float) -> float:
        """The next time after the turn of `now` at which a look or a lane may be worth another one."""
        lanes = (state.blocked_until for state in self.lanes.values() if not state.dry and state.blocked_until > now)
        return min(self.refresh_at(), min(lanes, default=float("inf")))


def _standing(state: LaneState) -> tuple[bool, int]:
    return state.lane.kind is not Kind.TRANSACTIONAL, state.asked_in
