"""In which order the dispatcher asks the pool about what waits."""

from itertools import islice

from rotord.core.model import Kind
from rotord.core.pool import Lane
from rotord.core.records import Cursor, LaneRow
from rotord.engine.backlog import Backlog


def row(key, kind=Kind.BULK):
    return LaneRow(key, Lane(f"client-{key}", "main", kind), Cursor(0, 0.0, key))


def test_lanes_that_a_turn_did_not_come_to_are_asked_first_in_the_next_and_what_is_transactional_before_all():
    backlog = Backlog(poll_s=1.0)
    rows = [*(row(key) for key in range(9)), row(9, Kind.TRANSACTIONAL)]
    asked = []
    for turn in range(3):
        backlog.replace(rows, float(turn), 0.0)  # a look for lanes loses nobody's place
        asked.append([state.key for state in islice(backlog.unblocked(turn), 4)])

    assert asked == [[9, 0, 1, 2], [9, 3, 4, 5], [9, 6, 7, 8]]
