"""The default database: a real PostgreSQL that rotord makes, starts, keeps alive and stops.

`binaries` finds PostgreSQL's programs, `account` finds a way to run them as a plain user, `server` owns the data and the
process. What is promised: committed data survives kill -9 of rotord, of the server and of `initdb`; one rotord for each
state directory; nobody else's process is signalled; no server outlives its rotord for long.
"""

from rotord.embedded.binaries import PostgresBinaries, binaries
from rotord.embedded.errors import EmbeddedPostgresError
from rotord.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "PostgresBinaries", "binaries"]
