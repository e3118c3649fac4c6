"""The look-up of a provider in virtual time: its log is the receiver's, shown with a lag, and it is not always in the mood."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from rotord.core.lookups import Found, Missing, Timetable, Trouble, Unclear

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotord.core.lookups import Finding, Sought

    from .fake_provider import Receiver

TIMES = Timetable(grace_s=600.0, again_s=600.0, retention_s=3 * 86_400.0)


class SimLookUp:
    """`rotord.providers.base.LookUp` of one process. What it says follows from the attempt and how often it was asked."""

    timetable = TIMES

    def __init__(self, receiver: Receiver, moment: Callable[[str], None]) -> None:
        self.name = receiver.name
        self._receiver = receiver
        self._moment = moment

    async def ask(self, sought: Sought) -> Finding:
        draw = random.Random(f"look-up/{sought.attempt_id}/{sought.look_ups}")
        await asyncio.sleep(draw.uniform(0.1, 2.0))
        self._moment("look up")
        if not self._receiver.is_up or draw.random() < 0.05:
            return Trouble("away", draw.choice((None, 60.0)))
        if draw.random() < 0.05:
            return Unclear("its answer is not the documented one")
        until = self._receiver.clock() - draw.uniform(0.0, 1200.0)
        at = self._receiver.taken_at.get(sought.attempt_id)
        if at is None or at > until:
            return Missing()
        self._receiver.looked_up += 1
        self._receiver.told_of.add(sought.attempt_id)
        return Found(f"id-{sought.attempt_id}", at, "accepted")

    async def close(self) -> None:
        """Nothing is open."""
