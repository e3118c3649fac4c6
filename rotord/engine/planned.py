"""A message that has its reservation: what goes from the dispatcher's turn to its landing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rotord.core.pool import Assignment
    from rotord.core.records import Candidate
    from rotord.providers.base import Slot


class Planned(NamedTuple):
    """A candidate with its reservation: every limit counts it, its slot is taken."""

    candidate: Candidate
    assignment: Assignment
    slot: Slot
    attempt_id: int
    message_id: str
