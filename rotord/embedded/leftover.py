"""What a killed rotord may leave on a data directory: a server, backends of a killed server, a stale postmaster.pid.

A process number alone proves nothing (it is given again, soon after a reboot); a server is a process named postgres that
sits in its data directory, so nobody else's process is ever signalled, and none that only has the number stops a start.
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Final

from rotord.embedded.errors import EmbeddedPostgresError

_END_S: Final = 30.0
_POLL_S: Final = 0.02  # half of a usual start or stop
_PROC: Final = Path("/proc")


async def end_left_over(data: Path) -> int | None:
    """End whatever runs on this data, which must be locked by us, and return the server's number if there was one."""
    pid = server_pid(data)
    for farewell in (signal.SIGINT, signal.SIGQUIT):
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, farewell)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                # Not our children: there is nothing to wait on. Backends notice by themselves that their server is gone.
                while _is_busy(data):  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
            if _PROC.is_dir():
                # PostgreSQL believes the number in it; we have looked.
                (data / "postmaster.pid").unlink(missing_ok=True)
            return pid
    raise EmbeddedPostgresError(f"PostgreSQL from an earlier run (process {pid}) on {data} does not end: kill it")


async def running_socket_dir(homes: tuple[Path, ...], patience_s: float) -> Path | None:
    """The socket's directory of the server that runs in one of these homes, waiting for one that is just starting."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while True:
                for data in (home / "data" for home in homes):
                    lines = _pid_file(data)
                    # The 5th line is the socket's directory, the 8th the state.
                    if server_pid(data) is not None and lines[7:] and lines[7].strip() == "ready":
                        return Path(lines[4])
                await asyncio.sleep(_POLL_S)
    return None


def last_socket_dir_of(data: Path) -> Path | None:
    """Where the last server on this data had its socket, by its own word."""
    lines = _pid_file(data)
    return Path(lines[4]) if lines[4:] else None


def server_pid(data: Path) -> int | None:
    """The living server on this data, by its postmaster.pid."""
    lines = _pid_file(data)
    if not lines or not lines[0].isdecimal():
        return None
    pid = int(lines[0])
    if _PROC.is_dir():
        return pid if _is_postgres_in(data, pid) else None
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return None
    return pid


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _is_busy(data: Path) -> bool:
    processes = (int(path.name) for path in _PROC.glob("[0-9]*"))
    return server_pid(data) is not None or any(_is_postgres_in(data, pid) for pid in processes)


def _is_postgres_in(data: Path, pid: int) -> bool:
    try:
        return (_PROC / str(pid) / "comm").read_text() == "postgres\n" and (_PROC / str(pid) / "cwd").samefile(data)
    except OSError:
        # It is gone, or another user's.
        return False
