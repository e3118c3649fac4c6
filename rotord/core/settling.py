"""What follows from a reply: sent, failed, again later, or uncertain. The one table between outcome and the message's fate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from rotord.core.backoff import jitter_unit, next_try_at
from rotord.core.model import Outcome
from rotord.core.records import Next, Step
from rotord.core.replies import is_greylisting

if TYPE_CHECKING:
    from rotord.core.model import Reply

# A message that never left waits this long: its provider is usually known to be down by then, and the gate holds it.
UNSENT_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds: the first wait, the longest, and how long after its first attempt a message is given up."""

    first_s: float = 60.0
    max_s: float = 3600.0
    give_up_s: float = 86400.0


def next_step(reply: Reply, *, outbox_id: int, attempts: int, first_at: float, address: str, now: float, policy: RetryPolicy) -> Step:
    """Decide. `attempts` counts this one. A greylisted message keeps its address: the receiver waits for the same sender again."""
    match reply.outcome:
        case Outcome.ACCEPTED:
            return Step(Next.SENT)
        case Outcome.REJECTED:
            return Step(Next.FAILED)
        case Outcome.UNCERTAIN:
            return Step(Next.UNCERTAIN)
        case Outcome.NOT_SENT:
            due_at = now + UNSENT_RETRY_S if now - first_at <= policy.give_up_s else None
        case Outcome.DEFERRED:
            due_at = next_try_at(
                now,
                first_at,
                attempts,
                first_s=policy.first_s,
                max_s=policy.max_s,
                give_up_s=policy.give_up_s,
                unit=jitter_unit(outbox_id, attempts),
                retry_after_s=reply.retry_after_s,
            )
        case _:
            assert_never(reply.outcome)
    if due_at is None:
        return Step(Next.FAILED)
    return Step(Next.RETRY, due_at, address if is_greylisting(reply) else "")
