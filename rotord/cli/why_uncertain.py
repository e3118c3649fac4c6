"""What `rotord why message` says of one whose fate is not known: who may settle it, and when its provider is asked next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotord.cli.output import when

if TYPE_CHECKING:
    from asyncpg import Record

    from rotord.cli.database import Session
    from rotord.core.explain import Finding


async def explain_uncertain(session: Session, row: Record, called_back: str) -> Finding:
    """`row` is that of `rotord.db.explain.message`, in state `uncertain`; `called_back`: what is said if it was."""
    from datetime import UTC, datetime  # noqa: PLC0415

    from rotord.core.explain import Finding  # noqa: PLC0415
    from rotord.core.senders import Gate  # noqa: PLC0415
    from rotord.daemon import look_up_times  # noqa: PLC0415 - it takes half a second
    from rotord.db import explain  # noqa: PLC0415

    name = str(row["id"])
    attempt = await explain.attempt(session.conn, row["attempt"])
    times = look_up_times(session.settings).get(attempt["provider"]) if attempt is not None else None
    by_hand = f"(rotord uncertain resolve {name} sent|not-sent){called_back}"
    if attempt is None or times is None:
        sentence = (
            f"its provider may have it ({row['last_error']}), so it is not sent again until an event or a person settles it {by_hand}"
        )
        return Finding(Gate.UNCERTAIN, "message", name, sentence)
    asked = row["look_ups"] if row["looked_up_at"] is not None and row["looked_up_at"] >= attempt["began_at"] else 0
    ended_at = attempt["deadline_at"] if attempt["finished_at"] is None else min(attempt["finished_at"], attempt["deadline_at"])
    due_at = times.due_at(ended_at.timestamp(), asked, row["looked_up_at"].timestamp() if asked else 0.0)
    so_far = f"; its look-up has not found it, {asked} times so far, last at {when(row['looked_up_at'])}" if asked else ""
    following = (
        "; it is looked up no more, for its provider forgets"
        if due_at is None
        else f"; the {'next ' if asked else ''}look-up is due at {when(datetime.fromtimestamp(due_at, UTC))}"
    )
    if due_at is not None and row["on_uncertain"] == "resend" and not called_back:
        following += ", and sends it again if it does not find it"
    sentence = (
        f"its provider may have it ({row['last_error']}), so it is not sent again until an event, a look-up or a person settles it "
        f"{by_hand}{so_far}{following}"
    )
    return Finding(Gate.UNCERTAIN, "message", name, sentence, due_at)
