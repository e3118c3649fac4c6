"""When a message that was refused for now is tried again, and the one source of jitter for all of core.

Owns the arithmetic only: the caller says how often it was tried, when it was first tried, and hands in the jitter.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

_DAY_S: Final = 86400.0
# A quarter of the delay: wide enough that messages refused together do not come back together,
# narrow enough that a delay still means what the settings say.
_SPREAD: Final = 0.25
# 2**40 seconds is 35,000 years: every delay has met its maximum long before, and no float overflows.
_MOST_DOUBLINGS: Final = 40


def jitter_unit(*parts: int | str) -> float:
    """Give the same number in [0, 1) for the same parts, in every process and on every node."""
    return int.from_bytes(jitter_bytes(*parts)[:6], "big") * 2.0**-48


def jitter_bytes(*parts: int | str) -> bytes:
    """Give the same 64 random bytes for the same parts: many draws for one hash, where hashing would be the cost."""
    return blake2b("\x1f".join(map(str, parts)).encode()).digest()


def next_try_at(
    now: float,
    first_at: float,
    attempts: int,
    *,
    first_s: float,
    max_s: float,
    give_up_s: float,
    unit: float,
    retry_after_s: float | None = None,
) -> float | None:
    """Say when to try again after `attempts` tries (at least 1) of which the first began at `first_at`; None: give up.

    The delay doubles from `first_s` to `max_s`, less up to a quarter (`unit`, in [0, 1), says how much).
    A provider's Retry-After is obeyed up to a day even beyond `max_s`, and spread by the same jitter upwards.
    Nothing is tried after `first_at + give_up_s`. A try that would lie behind that edge is made on the edge instead
    if at least half its delay, and the whole Retry-After, have passed by then: the message gets all the time it was
    promised, and the try after that one is None.
    """
    delay = min(max_s, first_s * 2.0 ** min(max(attempts - 1, 0), _MOST_DOUBLINGS))
    asked = 0.0 if retry_after_s is None else min(max(retry_after_s, 0.0), _DAY_S)
    due = now + max(delay * (1.0 - _SPREAD * unit), asked + delay * _SPREAD * unit if asked else 0.0)
    edge = first_at + give_up_s
    return min(due, edge) if now + max(delay / 2.0, asked) <= edge else None
