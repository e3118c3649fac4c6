"""What was sent: the last day, attempt by attempt, to rebuild the pool; months and days, in counters that outlive the ledger."""

from __future__ import annotations

import sys
from array import array
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rotord.core.limits import CARRY_S, MonthUse
from rotord.core.model import Blame, Outcome
from rotord.core.past import NEWEST, LedgerRow, Past, Use
from rotord.db.steps import made

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    from rotord.db.executor import Executor

# Ids are milliseconds << 20, so a day is a range of the primary key. An attempt counts from its finish, so one that began before the
# window may still count: three hours is above the longest attempt that settings allow (two).
_DAY_MS = 86_400_000
_LONGEST_MS = 10_800_000
ID_SHIFT = 20
# For a day's rows a look-up is worth it, at a third of a constructor's price.
_OUTCOMES: Mapping[str | None, Outcome | None] = {None: None, **{outcome.value: outcome for outcome in Outcome}}
_BLAMES: Mapping[str | None, Blame | None] = {None: None, **{blame.value: blame for blame in Blame}}

# A day as times, address by address, what counts and what was proven not accepted: a twentieth of the rows' price, here and in PostgreSQL.
# As bytes: four million numbers of an array would be four million objects first.
# date_part is a float's; extract goes by numeric, at three times the price.
USES = """
SELECT address, client, provider, campaign,
       string_agg(float8send(date_part('epoch', least(finished_at, deadline_at))), '')
       FILTER (WHERE outcome IS NULL OR outcome NOT IN ('deferred', 'rejected', 'not_sent')),
       string_agg(float8send(date_part('epoch', least(finished_at, deadline_at))), '')
       FILTER (WHERE outcome IN ('deferred', 'rejected', 'not_sent'))
  FROM rotord.attempts
 WHERE id >= $1
 GROUP BY address, client, provider, campaign
"""
# The same of those that a rotord began which did not write the campaign down yet. One statement for both would be planned as if each
# attempt were a group, and then PostgreSQL does it alone, not with workers.
UNNAMED_USES = """
SELECT address, client, provider, (SELECT o.campaign FROM rotord.outbox o WHERE o.id = outbox_id) AS of_campaign,
       string_agg(float8send(date_part('epoch', least(finished_at, deadline_at))), '')
       FILTER (WHERE outcome IS NULL OR outcome NOT IN ('deferred', 'rejected', 'not_sent')),
       string_agg(float8send(date_part('epoch', least(finished_at, deadline_at))), '')
       FILTER (WHERE outcome IN ('deferred', 'rejected', 'not_sent'))
  FROM rotord.attempts
 WHERE id >= $1 AND campaign IS NULL
 GROUP BY address, client, provider, of_campaign
"""
PACED = """
SELECT address, client, provider, string_agg(float8send(date_part('epoch', began_at)), '')
  FROM rotord.attempts
 WHERE id >= $1 AND client = ANY (ARRAY(SELECT slug FROM rotord.clients WHERE pacing = 'even'))
   AND (outcome IS NULL OR outcome IN ('accepted', 'uncertain'))
 GROUP BY address, client, provider
"""
IS_ANY_PACED = """
SELECT EXISTS (SELECT FROM rotord.clients WHERE pacing = 'even')
"""
# Read backwards by the key, until there are enough.
NEWEST_ANSWERS = """
SELECT a.address, a.client, a.provider, date_part('epoch', a.began_at) AS began_at,
       date_part('epoch', least(a.finished_at, a.deadline_at)) AS counts_at, a.outcome, a.blame
  FROM unnest($2::text[]) AS p (name)
 CROSS JOIN LATERAL (
   SELECT *
     FROM rotord.attempts
    WHERE id >= $1 AND provider = p.name
    ORDER BY id DESC
    LIMIT $3) a
 ORDER BY counts_at
"""
# A ceiling, not a price: a day of 100,000 addresses is grouped in 130 MB, and on disk at twice the time when it may not.
_MEMORY = "SET LOCAL work_mem = '1GB'"


async def past(conn: Connection | PoolConnectionProxy[Record], now: float, timeout_s: float | None = None) -> Past:
    """Every attempt that may count in a window of 24 h at `now`."""
    first = (int(now * 1000) - _DAY_MS - _LONGEST_MS) << ID_SHIFT
    async with conn.transaction(readonly=True):
        await conn.execute(_MEMORY)
        rows = await conn.fetch(USES, first, timeout=timeout_s)
        if any(row[3] is None for row in rows):
            rows = [*(row for row in rows if row[3] is not None), *await conn.fetch(UNNAMED_USES, first, timeout=timeout_s)]
        uses = await made(rows, _use)
        if await conn.fetchval(IS_ANY_PACED):
            began_at = dict(await made(await conn.fetch(PACED, first, timeout=timeout_s), _began_at))
            uses = [use._replace(began_at=began_at.pop((use.address, use.client, use.provider), ())) for use in uses]
        names = list({use.provider for use in uses})
        answers = await made(await conn.fetch(NEWEST_ANSWERS, first, names, NEWEST, timeout=timeout_s), _answer)
    return Past(uses, answers)


def _use(row: Record) -> Use:
    address, client, provider, campaign, used, given_back = row
    return Use(address, _domain(address), client, provider, _times(used), _times(given_back), (), campaign or "")


def _began_at(row: Record) -> tuple[tuple[str, str, str], Sequence[float]]:
    return (row[0], row[1], row[2]), _times(row[3])


def _times(sent: bytes | None) -> Sequence[float]:
    """What float8send wrote, one after the other."""
    times = array("d", sent or b"")
    if sys.byteorder == "little":
        times.byteswap()
    return times


def _answer(row: Record) -> LedgerRow:
    return LedgerRow(row[0], _domain(row[0]), row[1], row[2], row[3], row[4], _OUTCOMES[row[5]], _BLAMES[row[6]])


def _domain(address: str) -> str:
    """As the constraint addresses_domain_is_the_part_after_the_at has it."""
    return address.partition("@")[2]


RECENT_OF = """
SELECT address, domain, client, provider, extract(epoch FROM began_at)::float8,
       extract(epoch FROM coalesce(least(finished_at, deadline_at), deadline_at))::float8 AS counts_at, outcome, blame,
       coalesce(campaign, (SELECT o.campaign FROM rotord.outbox o WHERE o.id = outbox_id), '')
  FROM rotord.attempts
 WHERE id >= $1 AND client = $2
 ORDER BY counts_at
"""


async def recent_of(db: Executor, now: float, client: str) -> list[LedgerRow]:
    """Every attempt of one client, one by one, in the order in which they count."""
    rows = await db.fetch(RECENT_OF, (int(now * 1000) - _DAY_MS - _LONGEST_MS) << ID_SHIFT, client)
    return [LedgerRow(row[0], row[1], row[2], row[3], row[4], row[5], _OUTCOMES[row[6]], _BLAMES[row[7]], row[8]) for row in rows]


REQUESTS = """
SELECT provider, outcome IS NULL, ceil(extract(epoch FROM coalesce(least(finished_at, deadline_at), deadline_at)))::float8 AS counts_at,
       count(*)
  FROM rotord.attempts
 WHERE id >= $1 AND client <> $2 AND provider = ANY ($3::text[])
 GROUP BY 1, 2, 3
 ORDER BY 3
"""


async def requests_of_others(db: Executor, now: float, client: str, providers: Sequence[str]) -> list[tuple[str, bool, float, int]]:
    """What all clients but one asked of these providers: provider, still on the wire, counts at (to the second), how many."""
    rows = await db.fetch(REQUESTS, (int(now * 1000) - _DAY_MS - _LONGEST_MS) << ID_SHIFT, client, providers)
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def over_by(now: float) -> int:
    """The id below which no attempt is on the wire any more at `now`, nor will begin."""
    return (int(now * 1000) - _LONGEST_MS) << ID_SHIFT


LAST_ROLLED = """
SELECT max(day)
  FROM rotord.daily_counters
"""
MONTH = """
SELECT provider, sum(begun)::bigint, sum(late)::bigint
  FROM (SELECT provider, begun, 0 AS late
          FROM rotord.daily_counters
         WHERE day >= $1 AND day < $2
        UNION ALL
        SELECT provider, count(*), count(*) FILTER (WHERE id >= $6)
          FROM rotord.attempts
         WHERE id >= $3
         GROUP BY provider
        UNION ALL
        SELECT provider, count(*), 0
          FROM rotord.attempts
         WHERE id >= $4 AND id < $5
         GROUP BY provider) use
 GROUP BY provider
"""


async def month_use(db: Executor, now: float, timeout_s: float | None = None) -> dict[str, MonthUse]:
    """Requests of each provider in the calendar month (UTC) of `now`: rolled-up days from the counters, the rest from the ledger."""
    first = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (first + timedelta(days=31)).replace(day=1)
    last = await db.fetchval(LAST_ROLLED)
    # A term that begins right after midnight comes before the roll-up of the day that has just ended.
    rest = first if last is None else max(first, datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1))
    ids = [_first_id(at) for at in (rest.timestamp(), first.timestamp() - CARRY_S, first.timestamp(), following.timestamp() - CARRY_S)]
    rows = await db.fetch(MONTH, first.date(), rest.date(), *ids, timeout=timeout_s)
    return {row[0]: MonthUse(row[1], row[2]) for row in rows}


def _first_id(at: float) -> int:
    return int(at * 1000) << ID_SHIFT


ROLL_UP = """
INSERT INTO rotord.daily_counters (day, provider, client, domain, address, begun, accepted)
SELECT $1, provider, client, domain, address, count(*), count(*) FILTER (WHERE outcome = 'accepted')
  FROM rotord.attempts
 WHERE id >= $2 AND id < $3
 GROUP BY provider, client, domain, address
ON CONFLICT (day, provider, client, domain, address) DO UPDATE
   SET begun = excluded.begun, accepted = excluded.accepted
"""


async def roll_up(db: Executor, day: datetime, timeout_s: float | None = None) -> None:
    """Count a UTC day (given by its midnight) into daily_counters; counting it again corrects it."""
    start = int(day.timestamp() * 1000)
    await db.execute(ROLL_UP, day.date(), start << ID_SHIFT, (start + _DAY_MS) << ID_SHIFT, timeout=timeout_s)


FIRST_ATTEMPT = """
SELECT began_at
  FROM rotord.attempts
 ORDER BY id
 LIMIT 1
"""


async def days_to_roll_up(db: Executor, now: float) -> list[datetime]:
    """The finished UTC days that no counter has yet, oldest first."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    last = await db.fetchval(LAST_ROLLED)
    if last is None:
        first = await db.fetchval(FIRST_ATTEMPT)
        if first is None:
            return []
        start = first.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    else:
        start = datetime(last.year, last.month, last.day, tzinfo=UTC).timestamp() + _DAY_MS / 1000
    days = int((today.timestamp() - start) // 86400)
    return [datetime.fromtimestamp(start + 86400 * number, UTC) for number in range(days)]
