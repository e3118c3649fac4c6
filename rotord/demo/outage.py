"""One provider goes away in the midst of the demo, and comes back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

#: it leaves when this part of the messages has gone, so that mail is under way then and some is left for its return
_LEAVES_AT: Final = 0.2
AWAY_S: Final = 3.0


class Away(Protocol):
    """What can be sent away."""

    def leave(self) -> None:
        """Refuse connections."""

    def return_(self) -> None:
        """Take them again."""


class Outage:
    """When it began and ended, by the clock of the receivers' logs; None: not yet."""

    def __init__(self, provider: str, double: Away, say: Callable[[str, str], None]) -> None:
        self.provider = provider
        self.left_at: float | None = None
        self.back_at: float | None = None
        self.waiting = 0
        self._double = double
        self._say = say
        self._leaves_below: float | None = None

    def arm(self, messages: int) -> None:
        """Let it happen while these many are sent."""
        self._leaves_below = (1 - _LEAVES_AT) * messages

    def look(self, live: int) -> None:
        """Do what is due, with so many messages yet to be sent."""
        if self.left_at is None:
            if self._leaves_below is not None and 0 < live <= self._leaves_below:
                self._double.leave()
                self.left_at, self.waiting = time.time(), live
                self._say("failover", f"{self.provider} goes away for {AWAY_S:.0f} s: it refuses connections")
        elif self.back_at is None and time.time() - self.left_at >= AWAY_S:
            self.end()

    def end(self) -> None:
        """Bring it back if it is away."""
        if self.left_at is not None and self.back_at is None:
            self._double.return_()
            self.back_at = time.time()
            self._say("failover", f"{self.provider} is back")
