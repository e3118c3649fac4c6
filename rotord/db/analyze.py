"""What the planner knows of the tables, kept from falling behind.

A prepared statement is planned once, for the tables as they were: on a new database, or before a campaign into an empty queue, it reads
them from end to end, as is right for three pages. Nothing plans it anew until the table is analysed, which autovacuum does within a minute
or so, while each batch of a drain reads all that was sent. So the leader looks at the sizes, and has analysed what has outgrown them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import asyncpg

if TYPE_CHECKING:
    from rotord.db.executor import Executor

#: pages that may be read from end to end without harm: about what finding a batch by index takes
SMALL: Final = 64
#: a sample of 30,000 rows a table, of a busy disk
ANALYZE_S: Final = 60.0

OUTGROWN: Final = """
SELECT quote_ident(relname)
  FROM pg_class
 WHERE relnamespace = 'rotord'::regnamespace AND relkind = 'r' AND pg_has_role(relowner, 'USAGE')
   AND pg_relation_size(oid) > greatest(2 * relpages::bigint, $1) * current_setting('block_size')::bigint
 ORDER BY relname
"""


async def analyze(db: Executor) -> list[str]:
    """Analyse each table that has more than doubled since it was analysed or vacuumed; their names. Every session plans anew then.

    Only those of a role that is ours: PostgreSQL passes over another's with a warning, and it would be asked for every time.
    """
    names: list[str] = [row[0] for row in await db.fetch(OUTGROWN, SMALL)]
    for name in names:
        with suppress(asyncpg.UndefinedTableError):  # a month of events that was dropped meanwhile
            await db.execute(_analyze(name), timeout=ANALYZE_S)
    return names


def _analyze(table: str) -> str:
    """Write a statement that has a name in it: DDL takes no parameters, and the name is one of OUTGROWN. A vacuum is not waited for."""
    return f"ANALYZE (SKIP_LOCKED) rotord.{table}"
