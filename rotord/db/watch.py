"""What alerts are made from: how providers stand, and what has become uncertain. Cheap; read every few seconds by the leader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotord.core.conditions import REFUSED_WITHIN_S, ProviderSeen, RefusedSeen, Seen

if TYPE_CHECKING:
    from asyncpg import Record

    from rotord.db.executor import Executor

PROVIDERS: Final = """
SELECT provider, up, reason, limits,
       extract(epoch FROM clock_timestamp() - since)::float8 AS for_s,
       extract(epoch FROM clock_timestamp() - updated_at)::float8 AS reported_s_ago
  FROM rotord.provider_status
"""

# An attempt's id is its begin, in milliseconds << 20.
UNCERTAIN: Final = """
SELECT count(*)
  FROM rotord.queue
 WHERE state = 'uncertain' AND attempt >= (extract(epoch FROM now() - interval '10 minutes') * 1000)::bigint << 20
"""


REFUSED: Final = """
SELECT provider, reason, sum(count)::bigint AS count
  FROM rotord.refused_posts
 WHERE minute > clock_timestamp() - make_interval(secs => $1)
 GROUP BY provider, reason
 ORDER BY provider, reason
"""


async def read(db: Executor) -> Seen:
    """Read it."""
    providers = [_seen(row) for row in await db.fetch(PROVIDERS)]
    refused = [RefusedSeen(*row) for row in await db.fetch(REFUSED, REFUSED_WITHIN_S)]
    return Seen(providers, await db.fetchval(UNCERTAIN), refused)


def _seen(row: Record) -> ProviderSeen:
    limits = row["limits"]
    breaker, month = limits.get("breaker"), limits.get("month") or {}
    return ProviderSeen(
        row["provider"],
        row["up"],
        row["reason"],
        row["for_s"],
        row["reported_s_ago"],
        failing=None if breaker is None else (breaker["errors"], breaker["answers"]),
        month_used=month.get("used"),
        per_month=month.get("per_month"),
    )
