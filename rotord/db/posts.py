"""What providers posted: stored as it came, each token once; read by the folder; kept for a while, so that it can be folded again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from asyncpg import Record

    from rotord.db.executor import Executor


@dataclass(frozen=True, slots=True)
class NewPost:
    """A verified post. `digest` tells it from another one under its token."""

    provider: str
    route: str
    token: str
    digest: bytes
    content_type: str
    body: bytes


class Kept(StrEnum):
    """What became of it."""

    STORED = "stored"
    KNOWN = "known"
    FORGED = "forged"


STORE: Final = """
INSERT INTO rotord.provider_posts (provider, route, token, digest, content_type, body)
SELECT p.provider, p.route, p.token, p.digest, p.content_type, p.body
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bytea[])
  WITH ORDINALITY AS p (provider, route, token, digest, content_type, body, n)
ORDER BY p.provider, p.token, p.n
ON CONFLICT (provider, token) DO NOTHING
RETURNING provider, token
"""

# Another statement: what a concurrent one has committed meanwhile is seen by this one.
UNDER_TOKENS: Final = """
SELECT s.provider, s.token, s.digest
FROM unnest($1::text[], $2::text[]) AS p (provider, token)
JOIN rotord.provider_posts AS s ON s.provider = p.provider AND s.token = p.token
"""


async def store(db: Executor, posts: Sequence[NewPost]) -> list[Kept]:
    """Store a batch in one commit; one answer for each, in their order. FORGED: its token is taken, by another body."""
    columns = (
        [p.provider for p in posts],
        [p.route for p in posts],
        [p.token for p in posts],
        [p.digest for p in posts],
        [p.content_type for p in posts],
        [p.body for p in posts],
    )
    added = {(row[0], row[1]) for row in await db.fetch(STORE, *columns)}
    verdicts: list[Kept | None] = [Kept.STORED if _take(added, post) else None for post in posts]
    rest = [post for post, verdict in zip(posts, verdicts, strict=True) if verdict is None]
    if rest:
        rows = await db.fetch(UNDER_TOKENS, [p.provider for p in rest], [p.token for p in rest])
        digests = {(row[0], row[1]): row[2] for row in rows}
        known = {True: Kept.KNOWN, False: Kept.FORGED}
        verdicts = [v or known[digests.get((p.provider, p.token)) == p.digest] for p, v in zip(posts, verdicts, strict=True)]
    return [verdict for verdict in verdicts if verdict is not None]


def _take(added: set[tuple[str, str]], post: NewPost) -> bool:
    """Give each stored row to the first post of its token."""
    place = (post.provider, post.token)
    if place not in added:
        return False
    added.remove(place)
    return True


# The bodies' sizes are known without reading them.
UNFOLDED: Final = """
WITH oldest AS (
  SELECT id, sum(octet_length(body)) OVER (ORDER BY id) - octet_length(body) AS before
  FROM rotord.provider_posts
  WHERE folded_at IS NULL
  ORDER BY id
  LIMIT $1
)
SELECT p.id, p.provider, p.route, p.content_type, p.body, extract(epoch FROM p.received_at)::float8 AS received_at
FROM oldest AS o
JOIN rotord.provider_posts AS p USING (id)
WHERE o.before < $2
ORDER BY p.id
"""


async def unfolded(db: Executor, limit: int, size: int) -> list[Record]:
    """Read the oldest that were not folded yet, up to about `size` bytes, at least one."""
    return await db.fetch(UNFOLDED, limit, size)


REPLAY: Final = """
WITH again AS (
  UPDATE rotord.provider_posts
  SET folded_at = NULL
  WHERE folded_at IS NOT NULL AND ($1::timestamptz IS NULL OR received_at >= $1)
    AND erased_at IS NULL
  RETURNING 1
)
SELECT count(*)
FROM again
"""


async def replay(db: Executor, since: datetime | None) -> int:
    """Have them folded again by the leader: an event that is there stays as it is, and only what was not understood before is new."""
    count: int = await db.fetchval(REPLAY, since, timeout=600)
    return count


STANDING: Final = """
SELECT (SELECT count(*) FROM (SELECT FROM rotord.provider_posts WHERE folded_at IS NULL LIMIT 100000) AS waiting),
       coalesce((SELECT extract(epoch FROM clock_timestamp() - received_at)
                 FROM rotord.provider_posts
                 WHERE folded_at IS NULL
                 ORDER BY id
                 LIMIT 1), 0)::float8
"""


async def standing(db: Executor) -> tuple[int, float]:
    """How many wait to be folded, and the oldest one's age in seconds."""
    row = await db.fetchrow(STANDING)
    return (row[0], row[1]) if row is not None else (0, 0.0)
