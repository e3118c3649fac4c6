"""Open and recent alerts, and what each sink was told of them. One row a condition, so that the queue is as long as the troubles are many.

Anyone may raise and resolve, again and again: only a change is written. The leader's alerter tells the sinks (rotord.engine.alerter).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rotord.core.alerting import QUIET_S, TEXT_LIMIT, Alert, Severity, Standing, Told

if TYPE_CHECKING:
    from collections.abc import Collection

    from asyncpg import Record

    from rotord.db.executor import Executor

#: conditions kept; a fault that raises more of them than a person could read is known by these
MOST_ALERTS: Final = 1000
#: a resolved one is forgotten after so long
KEEP_S: Final = 30 * 86400.0

# Raised again soon after it was resolved, it is the same trouble, which comes and goes.
RAISE: Final = """
INSERT INTO rotord.alerts AS a (what, subject, severity, text, remedy)
SELECT $1, $2, $3, $4, $5
 WHERE (SELECT count(*) FROM rotord.alerts) < $7 OR EXISTS (SELECT FROM rotord.alerts WHERE what = $1 AND subject = $2)
ON CONFLICT (what, subject) DO UPDATE
   SET severity = excluded.severity, text = excluded.text, remedy = excluded.remedy, resolved_at = NULL, resolution = '',
       since = CASE WHEN a.resolved_at < clock_timestamp() - make_interval(secs => $6) THEN clock_timestamp() ELSE a.since END,
       times = CASE WHEN a.resolved_at IS NULL THEN a.times
                    WHEN a.resolved_at < clock_timestamp() - make_interval(secs => $6) THEN 1
                    ELSE a.times + 1 END
 WHERE (a.severity, a.text, a.remedy) IS DISTINCT FROM (excluded.severity, excluded.text, excluded.remedy) OR a.resolved_at IS NOT NULL
"""


async def raise_alert(db: Executor, alert: Alert) -> None:
    """Say that its condition holds. Call it as often as you like."""
    severity = alert.severity.value
    await db.execute(RAISE, alert.what, alert.subject, severity, alert.text[:TEXT_LIMIT], alert.remedy[:TEXT_LIMIT], QUIET_S, MOST_ALERTS)


RESOLVE: Final = """
UPDATE rotord.alerts
   SET resolved_at = clock_timestamp(), resolution = $3
 WHERE what = $1 AND subject = $2 AND resolved_at IS NULL
"""


async def resolve(db: Executor, what: str, subject: str, resolution: str = "") -> None:
    """Say that it holds no longer; nothing happens when it was not raised."""
    await db.execute(RESOLVE, what, subject, resolution[:TEXT_LIMIT])


RAISED: Final = """
SELECT what, subject
  FROM rotord.alerts
 WHERE what = ANY ($1::text[]) AND resolved_at IS NULL
"""


async def keep(db: Executor, kinds: Collection[str], hold: Collection[Alert], unknown: Collection[tuple[str, str]] = ()) -> None:
    """Make the open alerts of these kinds the ones in `hold`; those in `unknown` stay as they are."""
    for alert in hold:
        await raise_alert(db, alert)
    stays = {(alert.what, alert.subject) for alert in hold} | set(unknown)
    for row in await db.fetch(RAISED, list(kinds)):
        if (row["what"], row["subject"]) not in stays:
            await resolve(db, row["what"], row["subject"])


class Delivery(NamedTuple):
    """An alert as it stands, what a sink was told of it, and how often telling it has failed since; `at`: the database's clock."""

    standing: Standing
    told: Told
    attempts: int
    at: float


DELIVERIES: Final = """
SELECT a.what, a.subject, a.severity, a.text, a.remedy, a.times, a.resolution,
       extract(epoch FROM a.since)::float8 AS since, extract(epoch FROM a.resolved_at)::float8 AS resolved_at,
       d.told, extract(epoch FROM d.told_at)::float8 AS told_at, coalesce(d.attempts, 0) AS attempts,
       extract(epoch FROM clock_timestamp())::float8 AS at
  FROM rotord.alerts AS a
  LEFT JOIN rotord.alert_deliveries AS d ON d.what = a.what AND d.subject = a.subject AND d.sink = $1
 WHERE (a.resolved_at IS NULL OR d.told IS NOT NULL OR d.told_at IS NULL OR d.told_at < a.since)
   AND (d.next_try_at IS NULL OR d.next_try_at <= clock_timestamp())
 ORDER BY a.severity = 'critical' DESC, a.since, a.what, a.subject
"""


async def deliveries(db: Executor, sink: str) -> list[Delivery]:
    """Read what a sink may have to be told, the most urgent first; what failed lately is left out until its next try."""
    return [
        Delivery(
            _standing(row),
            Told(None if row["told"] is None else Severity(row["told"]), row["told_at"]),
            row["attempts"],
            row["at"],
        )
        for row in await db.fetch(DELIVERIES, sink)
    ]


TOLD: Final = """
INSERT INTO rotord.alert_deliveries AS d (what, subject, sink, told, told_at)
VALUES ($1, $2, $3, $4, clock_timestamp())
ON CONFLICT (what, subject, sink) DO UPDATE
   SET told = excluded.told, told_at = excluded.told_at, attempts = 0, next_try_at = NULL, last_error = ''
"""


async def told(db: Executor, sink: str, alert: Alert, now_told: Told) -> None:
    """Write down that a sink was told."""
    severity = None if now_told.severity is None else now_told.severity.value
    await db.execute(TOLD, alert.what, alert.subject, sink, severity)


FAILED: Final = """
INSERT INTO rotord.alert_deliveries AS d (what, subject, sink, attempts, next_try_at, last_error)
VALUES ($1, $2, $3, 1, clock_timestamp() + make_interval(secs => $4), $5)
ON CONFLICT (what, subject, sink) DO UPDATE
   SET attempts = d.attempts + 1, next_try_at = excluded.next_try_at, last_error = excluded.last_error
"""


async def failed(db: Executor, sink: str, alert: Alert, next_try_in_s: float, error: str) -> None:
    """Write down that a sink could not be told, and when to try again."""
    await db.execute(FAILED, alert.what, alert.subject, sink, next_try_in_s, error[:TEXT_LIMIT])


OPEN: Final = """
SELECT what, subject, severity, text, remedy, since, times
  FROM rotord.alerts
 WHERE resolved_at IS NULL
 ORDER BY array_position('{critical,warning,info}', severity), since, what, subject
"""


async def open_alerts(db: Executor) -> list[Record]:
    """Read what holds now, the most urgent first."""
    return await db.fetch(OPEN)


FORGET: Final = """
DELETE FROM rotord.alerts
 WHERE resolved_at < clock_timestamp() - make_interval(secs => $1)
"""


async def forget(db: Executor) -> None:
    """Drop what was resolved long ago."""
    await db.execute(FORGET, KEEP_S)


def _standing(row: Record) -> Standing:
    alert = Alert(row["what"], row["subject"], Severity(row["severity"]), row["text"], row["remedy"])
    return Standing(alert, row["since"], row["resolved_at"], row["resolution"], row["times"])
