"""Posts that were refused, by the minute: what every node counts, so that the leader can alert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotord.db.executor import Executor

ADD: Final = """
INSERT INTO rotord.refused_posts AS r (minute, provider, reason, count)
SELECT date_trunc('minute', clock_timestamp()), n.provider, n.reason, n.count
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS n (provider, reason, count)
ORDER BY n.provider, n.reason
ON CONFLICT (minute, provider, reason) DO UPDATE
   SET count = r.count + excluded.count
"""


async def add(db: Executor, counts: Mapping[tuple[str, str], int]) -> None:
    """Count what was refused, by provider and reason."""
    keys = list(counts)
    await db.execute(ADD, [provider for provider, _ in keys], [reason for _, reason in keys], [counts[key] for key in keys])


FORGET: Final = """
DELETE FROM rotord.refused_posts
WHERE minute < clock_timestamp() - interval '1 day'
"""


async def forget(db: Executor) -> None:
    """Drop what no alert looks at any more."""
    await db.execute(FORGET)
