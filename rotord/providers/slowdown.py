"""How much less than its slots a provider is given once it has asked for less (429), and how it earns them back.

Each time it asks, half of the slots go, and for a while nothing is begun; each message that it takes gives one slot back. So a
provider that refuses half of what it gets is asked less and less until it refuses little, and it is never counted as down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: without a hint: the first pause; each further one is twice as long until a message is taken
FIRST_PAUSE_S: Final = 1.0
#: A longer hint holds its message, but not the provider: it may have been about one domain, and one request a minute is polite.
LONGEST_PAUSE_S: Final = 60.0


class Slowdown:
    """One provider's. Written by the provider alone; `clock` is monotonic."""

    def __init__(self, slots: int, clock: Callable[[], float]) -> None:
        self.slots = slots
        self.reason = ""
        self._most = slots
        self._clock = clock
        self._until = 0.0
        self._next_pause_s = FIRST_PAUSE_S

    @property
    def pause_s(self) -> float:
        """Seconds until something may be begun again; 0 when it may be now."""
        return max(0.0, self._until - self._clock())

    def took(self) -> None:
        """Note a message that was taken."""
        self._next_pause_s = FIRST_PAUSE_S
        if self.slots < self._most:
            self.slots += 1
            if self.slots == self._most:
                self.reason = ""

    def eased(self, reason: str) -> None:
        """Note that a part of the account has too much at once."""
        self.slots, self.reason = max(1, self.slots // 2), reason

    def paused(self, hint_s: float | None, reason: str) -> None:
        """Note that the account has too much. Answers to what was on the wire before a pause began only make it longer."""
        if not self.pause_s:
            self.eased(reason)
            self.hold(self._next_pause_s if hint_s is None else hint_s)
            self._next_pause_s = min(2 * self._next_pause_s, LONGEST_PAUSE_S)
        elif hint_s is not None:
            self.hold(hint_s)

    def hold(self, for_s: float) -> None:
        """Begin nothing for so long: the provider's own counter says that the quota is used up."""
        self._until = max(self._until, self._clock() + min(for_s, LONGEST_PAUSE_S))
