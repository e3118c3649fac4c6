"""Whether a provider can be reached, and when to try again: the one place where a probe schedule lives.

A provider is up, down since a moment for a reason, or (before its first try) neither. While it is down its `run` probes:
every second at first, so that a relay's restart costs little, every 10 s in the first five minutes, then every
`probe_max_s`. One success ends it. A fault that trying again cannot mend (a wrong password) is probed at `probe_max_s`
from the start: quick tries would lock the account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: (for outages shorter than this many seconds, probe this often)
PROBES: Final = ((10.0, 1.0), (300.0, 10.0))
#: up for less than this, an outage goes on: a server that greets and then fails is not probed as if it were new each time
STEADY_S: Final = 10.0


def probe_delay_s(down_for_s: float, probe_max_s: float) -> float:
    """Seconds until the next probe of a provider that has been down for `down_for_s`."""
    return min(probe_max_s, next((delay for until, delay in PROBES if down_for_s < until), probe_max_s))


class Availability:
    """One provider's up or down. Written by the provider alone; `clock` is monotonic."""

    def __init__(self, probe_max_s: float, clock: Callable[[], float]) -> None:
        self.up: bool | None = None
        self.reason = ""
        self._probe_max_s = probe_max_s
        self._clock = clock
        self._down_since: float | None = None
        self._up_since = 0.0
        self._next_try_at = 0.0

    def succeeded(self) -> bool:
        """Note that it works; True if that is news."""
        news = self.up is not True
        if news:
            self.up, self.reason, self._up_since = True, "", self._clock()
        return news

    def failed(self, reason: str, *, patiently: bool = False) -> bool:
        """Note that it does not work and why; True if that is news. `patiently`: only a person can mend it."""
        now = self._clock()
        news = self.up is not False
        if self._down_since is None or (self.up and now - self._up_since > STEADY_S):
            self._down_since = now
        self.up, self.reason = False, reason
        delay = self._probe_max_s if patiently else probe_delay_s(now - self._down_since, self._probe_max_s)
        self._next_try_at = now + delay
        return news

    @property
    def may_try(self) -> bool:
        """True when up, untried, or due for a probe."""
        return self.up is not False or self._clock() >= self._next_try_at

    @property
    def next_try_in_s(self) -> float | None:
        """Seconds until the next probe; None unless down."""
        return max(0.0, self._next_try_at - self._clock()) if self.up is False else None
