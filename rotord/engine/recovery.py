"""What the journal of a dead process proves about the attempts it left unfinished: settled before the rest is made uncertain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rotord.core.model import Outcome, Reply
from rotord.core.records import Next, Settlement, Step
from rotord.engine.recorder import Recorder
from rotord.engine.retry import until_done

if TYPE_CHECKING:
    from rotord.core.records import Term
    from rotord.engine.store import Store
    from rotord.journal import Journal

_NEVER_LEFT = Reply(Outcome.NOT_SENT, text="begun, but its daemon was killed before it left")


async def settle_by_journal(store: Store, term: Term, journal: Journal) -> int:
    """Settle what was answered as it was answered, put back what never left; say how many."""
    epoch = term.epoch - 1
    # In a thread: a full journal takes 0.2 s to read.
    testimony = await asyncio.to_thread(journal.read, term.previous, epoch)
    if testimony is None:
        return 0
    recorder, known = Recorder(store), 0
    for row in await until_done(lambda: store.cut_off(epoch), "cut-off"):
        settlement = testimony.answered.get(row.attempt_id)
        if settlement is None and testimony.never_left(row.attempt_id):
            settlement = Settlement(row.attempt_id, row.outbox_id, _NEVER_LEFT, term.now, Step(Next.RETRY, term.now))
        if settlement is not None:
            recorder.put(settlement)
            known += 1
    recorder.end()
    await recorder.run()
    return known
