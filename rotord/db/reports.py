"""What the leader publishes of itself for the commands: how each provider is doing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotord.core.records import ProviderReport
    from rotord.db.executor import Executor

PUBLISH = """
INSERT INTO rotord.provider_status AS s
       (provider, kind, up, ready, in_flight, capacity, reason, since, next_try_at, updated_at, limits)
SELECT provider, kind, up, ready, in_flight, capacity, reason, clock_timestamp(),
       clock_timestamp() + make_interval(secs => nullif(next_try_in_s, -1)), clock_timestamp(), limits
  FROM unnest($1::text[], $2::text[], $3::boolean[], $4::int[], $5::int[], $6::int[], $7::text[], $8::float8[], $9::jsonb[])
    AS r (provider, kind, up, ready, in_flight, capacity, reason, next_try_in_s, limits)
ON CONFLICT (provider) DO UPDATE
   SET kind = excluded.kind, up = excluded.up, ready = excluded.ready, in_flight = excluded.in_flight, capacity = excluded.capacity,
       reason = excluded.reason, next_try_at = excluded.next_try_at, updated_at = excluded.updated_at, limits = excluded.limits,
       since = CASE WHEN s.up IS DISTINCT FROM excluded.up THEN excluded.since ELSE s.since END
"""
PRUNE = """
DELETE FROM rotord.provider_status
 WHERE provider <> ALL ($1::text[])
"""


async def publish(db: Executor, reports: Sequence[ProviderReport]) -> None:
    """Write how every configured provider is doing; forget those that are no longer configured."""
    columns: list[Any] = [
        [report.provider for report in reports],
        [report.kind for report in reports],
        [report.up for report in reports],
        [report.ready for report in reports],
        [report.in_flight for report in reports],
        [report.capacity for report in reports],
        [report.reason for report in reports],
        [-1.0 if report.next_try_in_s is None else report.next_try_in_s for report in reports],
        [report.limits for report in reports],
    ]
    await db.execute(PUBLISH, *columns)
    await db.execute(PRUNE, [report.provider for report in reports])
