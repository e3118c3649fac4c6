"""How the database and the queue are doing, for health and metrics: cheap, bounded, asked by every node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotord.db import migrate
from rotord.db.status import COUNT_EXACTLY, QUEUE_SIZE, SAMPLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotord.db.executor import Executor

EPOCH: Final = """
SELECT coalesce(max(epoch), 0)
FROM rotord.lease
"""


async def standing(db: Executor, migrations: Sequence[migrate.Migration]) -> tuple[migrate.SchemaState, int]:
    """Read how the schema compares with this code's migrations, and the newest epoch (0: none, or no such table to ask)."""
    state = await migrate.check(db, migrations)
    return state, await db.fetchval(EPOCH) if state.usable else 0


DEPTH: Final = """
SELECT CASE WHEN state = 'scheduled' AND attempts > 0 THEN 'deferred' ELSE state END AS state,
       count(*) AS messages,
       extract(epoch FROM now() - min(due_at))::float8 AS oldest_due_s
FROM rotord.queue
GROUP BY 1
"""

DEPTH_SAMPLED: Final = """
SELECT CASE WHEN state = 'scheduled' AND attempts > 0 THEN 'deferred' ELSE state END AS state,
       round(count(*) * 100 / $1::float8)::bigint AS messages,
       extract(epoch FROM now() - min(due_at))::float8 AS oldest_due_s
FROM rotord.queue TABLESAMPLE SYSTEM ($1::float8)
GROUP BY 1
"""
STATES: Final = ("queued", "scheduled", "deferred", "waiting", "sending", "uncertain")


async def depth(db: Executor) -> tuple[dict[str, int], float]:
    """Count the queue by state (estimated when it is very long), and say for how many seconds its oldest ready message has been due."""
    size = await db.fetchval(QUEUE_SIZE)
    rows = await (db.fetch(DEPTH_SAMPLED, 100.0 * SAMPLE / size) if size > COUNT_EXACTLY else db.fetch(DEPTH))
    found = {row["state"]: row for row in rows}
    counts = {state: found[state]["messages"] if state in found else 0 for state in STATES}
    return counts, max(0.0, found["queued"]["oldest_due_s"]) if "queued" in found else 0.0
