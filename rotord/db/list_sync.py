"""The exchange with the providers' own suppression lists: how far each was read and added to, and the rows that it brings.

What a provider lists belongs to the clients that send through that list: a domain's, or all that the account carries. Of an account that
several share, a bounce is everybody's, for it is a fact of the address; a complaint or an unsubscribe is of those who wrote to that
recipient, or of all of them where nobody has. Rows are only ever added.

What is added to a list is what holds for all that it stops: a client's own only where no other client's mail goes by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rotord.core.suppression_lists import Entry, ListKey, Span

if TYPE_CHECKING:
    from rotord.core.suppression_lists import Page
    from rotord.db.executor import Executor


class Pull(NamedTuple):
    """A pass over a list that is under way: what it reads, and the page that is next."""

    span: Span
    cursor: str


class Carried(NamedTuple):
    """A domain that goes by a provider, and its client. Not active: it or its client is disabled, for now."""

    domain: str
    client: str
    is_active: bool = True


class PushKey(NamedTuple):
    """What is added to one list: suppressions of a client ('': those for everybody) and a reason."""

    provider: str
    domain: str
    client: str
    reason: str


class Due(NamedTuple):
    """Suppressions to be added, all up to `upto`."""

    entries: tuple[Entry, ...]
    upto: int


CARRIED: Final = """
SELECT d.name, d.client, 'disabled' NOT IN (d.status, c.status)
FROM rotord.domains AS d
JOIN rotord.clients AS c ON c.slug = d.client
WHERE $1 = ANY (d.providers)
ORDER BY d.name
"""


async def carried(db: Executor, provider: str) -> list[Carried]:
    """List the domains that go by a provider, with their clients."""
    return [Carried(*row) for row in await db.fetch(CARRIED, provider)]


BEGIN: Final = """
INSERT INTO rotord.list_pulls AS p (provider, list, domain, began_at)
VALUES ($1, $2, $3, clock_timestamp())
ON CONFLICT (provider, list, domain) DO UPDATE
   SET began_at = coalesce(p.began_at, excluded.began_at), entries = CASE WHEN p.began_at IS NULL THEN 0 ELSE p.entries END
 WHERE p.began_at IS NOT NULL OR p.passed_at IS NULL OR p.passed_at <= clock_timestamp() - make_interval(secs => $4)
RETURNING cursor, extract(epoch FROM began_at)::float8 AS began_at, extract(epoch FROM passed_at)::float8 AS passed_at
"""


async def begin(db: Executor, provider: str, key: ListKey, every_s: float) -> Pull | None:
    """Begin a pass, or go on with the one that was cut off; None while the last one is younger than `every_s`."""
    row = await db.fetchrow(BEGIN, provider, key.name, key.domain, every_s)
    return None if row is None else Pull(Span(row["passed_at"], row["began_at"]), row["cursor"])


LOOK: Final = """
SELECT extract(epoch FROM passed_at)::float8 AS passed_at, extract(epoch FROM clock_timestamp())::float8 AS now
FROM (SELECT) AS one
LEFT JOIN rotord.list_pulls ON provider = $1 AND list = $2 AND domain = $3
"""


async def look(db: Executor, provider: str, key: ListKey) -> Pull:
    """Say what the next pass would read; begins none."""
    (row,) = await db.fetch(LOOK, provider, key.name, key.domain)
    return Pull(Span(row["passed_at"], row["now"]), "")


# `rotord suppress sync apply` may read beside the leader. They share a pass; whoever is slower has no say about the next one, or that would
# begin in the middle of its list.
# What covers as much is there already (hard_bounce and manual stop everything, the others bulk mail): no second row beside it, which
# would have to be lifted as well.
TAKE: Final = """
WITH listed AS (
  SELECT DISTINCT rotord.lower_case(e.recipient) AS recipient, e.reason
  FROM unnest($4::text[], $5::text[]) AS e (recipient, reason)
), carried AS (
  SELECT DISTINCT d.client
  FROM rotord.domains AS d
  WHERE $1 = ANY (d.providers) AND ($3 = '' OR d.name = $3)
), addressed AS MATERIALIZED (
  SELECT DISTINCT l.recipient, o.client
  FROM listed AS l
  JOIN rotord.outbox AS o ON rotord.lower_case(o.recipient) = l.recipient
  JOIN carried AS c ON c.client = o.client
  WHERE l.reason IN ('complaint', 'unsubscribe') AND (SELECT count(*) FROM carried) > 1
), owed AS (
  SELECT l.recipient, c.client, l.reason
  FROM listed AS l
  CROSS JOIN carried AS c
  WHERE (NOT EXISTS (SELECT FROM addressed AS a WHERE a.recipient = l.recipient)
         OR EXISTS (SELECT FROM addressed AS a WHERE a.recipient = l.recipient AND a.client = c.client)
         OR l.reason IN ('hard_bounce', 'manual'))
    AND NOT EXISTS (SELECT
                    FROM rotord.suppressions AS s
                    WHERE lower(s.recipient) = l.recipient
                      AND (s.client IS NULL OR s.client = c.client)
                      AND (s.reason IN ('hard_bounce', 'manual') OR l.reason IN ('complaint', 'unsubscribe')))
), fresh AS (
  INSERT INTO rotord.suppressions (client, recipient, reason, source)
  SELECT client, recipient, reason, 'list of ' || $1
  FROM owed
  WHERE $7
  ORDER BY recipient, client, reason
  ON CONFLICT DO NOTHING
  RETURNING 1
), moved AS (
  UPDATE rotord.list_pulls
     SET cursor = $6, entries = entries + cardinality($4::text[]), fault = '',
         passed_at = CASE WHEN $6 = '' THEN began_at ELSE passed_at END,
         began_at = CASE WHEN $6 <> '' THEN began_at END
   WHERE $7 AND provider = $1 AND list = $2 AND domain = $3 AND began_at = to_timestamp($8)
)
SELECT CASE WHEN $7 THEN (SELECT count(*) FROM fresh) ELSE (SELECT count(*) FROM owed) END
"""


async def take(db: Executor, provider: str, key: ListKey, span: Span, page: Page, *, in_earnest: bool = True) -> int:
    """Suppress whom a page lists, and write down which is next: a page is taken whole or again. Counts what is new, or would be."""
    columns = [entry.recipient for entry in page.entries], [entry.reason for entry in page.entries]
    count: int = await db.fetchval(TAKE, provider, *key, *columns, page.following, in_earnest, span.until, timeout=60)
    return count


PULL_FAULT: Final = """
UPDATE rotord.list_pulls
   SET fault = $4, cursor = CASE WHEN $5 THEN '' ELSE cursor END
 WHERE provider = $1 AND list = $2 AND domain = $3
"""


async def pull_fault(db: Executor, provider: str, key: ListKey, fault: str, *, anew: bool) -> None:
    """Write down why a list could not be read. `anew`: from its first page, for the cursor may be what is wrong."""
    await db.execute(PULL_FAULT, provider, key.name, key.domain, fault[:500], anew)


# An id is taken before it is committed. So a mark is the newest id at one moment, and it is reached only when every transaction that
# was open at that moment is over: then nothing below it can still appear.
MARK: Final = """
INSERT INTO rotord.list_pushes AS p (provider, domain, client, reason, mark, mark_xid)
SELECT $1, $2, $3, $4, coalesce(max(id), 0), pg_snapshot_xmax(pg_current_snapshot())
FROM rotord.suppressions
ON CONFLICT (provider, domain, client, reason) DO UPDATE
   SET mark = excluded.mark, mark_xid = excluded.mark_xid
 WHERE p.pushed >= p.mark
"""

# Whatever came from the provider itself is on its list. The names of who was forgotten are nobody's addresses.
DUE: Final = """
SELECT p.mark, s.id, s.recipient, s.at
FROM rotord.list_pushes AS p
LEFT JOIN LATERAL (
  SELECT s.id, s.recipient, extract(epoch FROM s.created_at)::float8 AS at
  FROM rotord.suppressions AS s
  WHERE s.id > p.pushed AND s.id <= p.mark AND s.reason = p.reason AND s.client IS NOT DISTINCT FROM nullif(p.client, '')
    AND s.source <> 'list of ' || p.provider
    AND NOT (s.source = 'event of ' || p.provider AND s.reason IN ('hard_bounce', 'complaint'))
    AND s.recipient NOT LIKE '%@forgotten.invalid'
  ORDER BY s.id
  LIMIT $5
) AS s ON true
WHERE p.provider = $1 AND p.domain = $2 AND p.client = $3 AND p.reason = $4 AND p.mark > p.pushed
  AND p.mark_xid <= pg_snapshot_xmin(pg_current_snapshot())
ORDER BY s.id
"""


async def due(db: Executor, key: PushKey, limit: int) -> Due | None:
    """Read the oldest that wait to be added; None when nothing does, or a transaction is open that may still bring older ones."""
    await db.execute(MARK, *key)
    rows = await db.fetch(DUE, *key, limit, timeout=60)
    if not rows:
        return None
    entries = tuple(Entry(row["recipient"], key.reason, row["at"]) for row in rows if row["id"] is not None)
    return Due(entries, rows[-1]["id"] if len(entries) == limit else rows[0]["mark"])


WAITING: Final = """
SELECT count(*)
FROM rotord.suppressions AS s
WHERE s.id > coalesce((SELECT pushed
                       FROM rotord.list_pushes
                       WHERE provider = $1 AND domain = $2 AND client = $3 AND reason = $4), 0)
  AND s.reason = $4 AND s.client IS NOT DISTINCT FROM nullif($3, '')
  AND s.source <> 'list of ' || $1
  AND NOT (s.source = 'event of ' || $1 AND s.reason IN ('hard_bounce', 'complaint'))
  AND s.recipient NOT LIKE '%@forgotten.invalid'
"""


async def waiting(db: Executor, key: PushKey) -> int:
    """Count what waits to be added."""
    count: int = await db.fetchval(WAITING, *key, timeout=60)
    return count


PUSHED: Final = """
UPDATE rotord.list_pushes
   SET pushed = greatest(pushed, $5), fault = $6
 WHERE provider = $1 AND domain = $2 AND client = $3 AND reason = $4
"""


async def pushed(db: Executor, key: PushKey, upto: int, fault: str = "") -> None:
    """Write down how far additions have come; `fault`: what was refused on the way."""
    await db.execute(PUSHED, *key, upto, fault[:500])
