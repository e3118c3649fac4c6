"""Posts that were refused, on their way into the database: counted at once, written every few seconds."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

from rotord.db import refusals
from rotord.db.connect import transient

if TYPE_CHECKING:
    from rotord.db.executor import Executor

#: whoever posts rubbish causes one short statement in so long
FLUSH_S: Final = 2.0
#: what a post route answers with when it does not believe a post (web/webhooks.py)
REFUSED: Final = frozenset({"refused", "unverified", "stale", "forged"})


class Refusals:
    """`note` is what handlers call, with any outcome; one task runs `run`. There are as many keys as providers and outcomes."""

    def __init__(self, db: Executor) -> None:
        self._db = db
        self._counts: Counter[tuple[str, str]] = Counter()

    def note(self, provider: str, outcome: str) -> None:
        """Count a post if it was refused."""
        if outcome in REFUSED:
            self._counts[provider, outcome] += 1

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            if not self._counts:
                continue
            counts, self._counts = self._counts, Counter()
            try:
                await refusals.add(self._db, counts)
            except Exception as error:
                if not transient(error):
                    raise
                self._counts.update(counts)
