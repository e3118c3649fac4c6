"""What was used, by the operating system's own account: CPU of a process, CPU of a whole PostgreSQL, its write-ahead log and statements."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

_TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")
COUNTERS = """
SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, xact_commit + xact_rollback
  FROM pg_stat_database
 WHERE datname = current_database()
"""


def cpu_us(pid: int) -> float:
    """Time of all threads on a core so far: its POSIX CPU clock, whose id Linux makes of the process's (CPUCLOCK_SCHED is 2)."""
    return time.clock_gettime_ns(~pid << 3 | 2) / 1e3


def server_cpu_us(pid: int) -> float:
    """A PostgreSQL's: the postmaster, its children, and those of its children that have ended (it has waited for them)."""
    total = cpu_us(pid) + sum(map(int, _fields(pid)[13:15])) * _TICK_US
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            total += cpu_us(int(child))
        except OSError:  # it has just ended
            continue
    return total


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _fields(pid: int) -> list[str]:
    # The name in brackets may hold blanks; behind it stand fields 3 and on, so cutime (16) is the 14th of these.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@dataclass(frozen=True, slots=True)
class Usage:
    """At one moment. The difference of two, divided by the messages between them, is what a message costs."""

    at: float
    client_us: float
    server_us: float
    sink_us: float
    wal_bytes: float
    transactions: float
    messages: int

    def each(self, since: Usage) -> dict[str, float]:
        count = self.messages - since.messages
        return {
            "messages_a_second": count / (self.at - since.at),
            "client_us": (self.client_us - since.client_us) / count,
            "server_us": (self.server_us - since.server_us) / count,
            "sink_us": (self.sink_us - since.sink_us) / count,
            "wal_bytes": (self.wal_bytes - since.wal_bytes) / count,
            "round_trips": (self.transactions - since.transactions) / count,
            "client_cores": (self.client_us - since.client_us) / (self.at - since.at) / 1e6,
            "server_cores": (self.server_us - since.server_us) / (self.at - since.at) / 1e6,
        }


async def usage(db: asyncpg.Connection, client: int, server: int, sink: int, messages: int) -> Usage:
    # The clock first: what follows takes time itself.
    at, client_us, server_us = time.perf_counter(), cpu_us(client), server_cpu_us(server)
    wal, transactions = await db.fetchrow(COUNTERS)
    return Usage(at, client_us, server_us, cpu_us(sink), float(wal), float(transactions), messages)
