"""What follows from a reply: sent, failed, again later, or uncertain. The one table between outcome and the message's fate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, assert_never

from rotord.core.backoff import jitter_unit, next_try_at
from rotord.core.model import Blame, Outcome
from rotord.core.records import Next, Step
from rotord.core.replies import is_greylisting

if TYPE_CHECKING:
    from rotord.core.model import Reply

# A message that its provider failed waits this long, and twice as long each time, up to the policy's first wait: its provider is usually
# known to be down by then and the gate holds it, or another one takes it.
UNSENT_RETRY_S = 1.0
_MOST_DOUBLINGS = 20  # beyond any wait that settings allow
_NOT_THE_MESSAGE = frozenset({Blame.PROVIDER, Blame.NETWORK, Blame.ACCOUNT, Blame.RATE})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds: the first wait, the longest, and how long after its first attempt a message is given up."""

    first_s: float = 60.0
    max_s: float = 3600.0
    give_up_s: float = 86400.0


class Way(NamedTuple):
    """How an attempt went out, and whether its domain has another provider."""

    address: str
    provider: str
    has_another: bool = False


def next_step(reply: Reply, *, outbox_id: int, attempts: int, first_at: float, way: Way, now: float, policy: RetryPolicy) -> Step:
    """Decide. `attempts` counts this one. A greylisted message keeps its address: the receiver waits for the same sender again.

    What its provider failed, proven not accepted, goes to another one at once; what is uncertain never does.
    """
    avoid = way.provider if reply.blame in _NOT_THE_MESSAGE else ""
    match reply.outcome:
        case Outcome.ACCEPTED:
            return Step(Next.SENT)
        case Outcome.REJECTED:
            return Step(Next.FAILED)
        case Outcome.UNCERTAIN:
            return Step(Next.UNCERTAIN)
        case Outcome.NOT_SENT:
            due_at = _soon(attempts, now, first_at, policy)
        case Outcome.DEFERRED if avoid and way.has_another:
            due_at = _soon(attempts, now, first_at, policy)
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
    return Step(Next.RETRY, due_at, way.address if is_greylisting(reply) else "", avoid)


def _soon(attempts: int, now: float, first_at: float, policy: RetryPolicy) -> float | None:
    if now - first_at > policy.give_up_s:
        return None
    return now + min(policy.first_s, UNSENT_RETRY_S * 2.0 ** min(attempts - 1, _MOST_DOUBLINGS))
