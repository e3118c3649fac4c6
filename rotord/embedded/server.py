"""The embedded server: its data directory, its process, its end.

Owns <state>/rotord.lock (held by flock while the server is ours) and the account's home: `data`, `socket`, `server.log`.

    start:  lock -> account -> data (initdb beside it, then rename) -> end a left-over server -> run -> database `rotord`
    stop:   SIGINT (clean, sessions are cut) -> after 30 s SIGQUIT (recovers at the next start) -> unlock

Everybody who may open the socket is the superuser `rotord`: the directory's mode 700 is the check, no password is kept.
The server listens on no network. Not for fleets that need a second node: that is `database.url`.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Final, Self
from urllib.parse import quote

import asyncpg
import structlog
from structlog.typing import FilteringBoundLogger

from rotord.embedded.account import Account, choose_account, homes, reachable_binaries
from rotord.embedded.binaries import PostgresBinaries, binaries
from rotord.embedded.errors import EmbeddedPostgresError
from rotord.embedded.leftover import end_left_over, last_socket_dir_of, running_socket_dir

# For a small VPS; everything else is PostgreSQL's default, which is durable (fsync, full_page_writes, synchronous_commit).
SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "fsync": "on",
        "max_connections": "60",
        "shared_buffers": "128MB",
        "max_wal_size": "1GB",
        "wal_compression": "on",
        "random_page_cost": "1.1",  # VPS disks are SSDs
        "jit": "off",  # all statements are short
        "autovacuum_naptime": "15s",  # the queue's rows die young
        "timezone": "UTC",
        "log_timezone": "UTC",
        # What the server itself has to say. Not statements, not clients' errors: they carry recipients and grow without end.
        "log_min_messages": "log",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_checkpoints": "off",
    }
)

_USER: Final = "rotord"
_DATABASE: Final = "rotord"
_PORT: Final = 5432  # names the socket file, no more
# sockaddr_un holds 107 bytes; the file's name and its slash take 14.
_SOCKET_DIR_BYTES: Final = 107 - len(f"/.s.PGSQL.{_PORT}")
_LOG_BYTES: Final = 1 << 20
_START_S: Final = 300.0  # recovery reads up to max_wal_size
STOP_S: Final = 30.0  # TimeoutStopSec in systemd/rotord.service knows it
_BORROW_S: Final = 10.0
_POLL_S: Final = 0.02  # half of a usual start
_RESTART_MAX_S: Final = 30.0


_NOT_YET: Final = (
    ConnectionError,
    FileNotFoundError,
    asyncpg.AdminShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.PostgresConnectionError,
)


class EmbeddedPostgres:
    """One PostgreSQL for one state directory.

    With `share`, a server that another rotord runs there is used and left running (commands beside the daemon); without,
    it is an error. `settings` override `SETTINGS` (tests give up durability for speed).
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        share: bool = False,
        settings: Mapping[str, str] = MappingProxyType({}),
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self._state_dir = state_dir.absolute()
        self._share = share
        self._settings = {**SETTINGS, **settings}
        self._log: FilteringBoundLogger = log or structlog.get_logger("rotord.embedded")
        self._lock: IO[str] | None = None
        self._account = Account(self._state_dir / "postgres")
        self._binaries: PostgresBinaries | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._socket_dir = Path()
        self._stopped = asyncio.Event()
        # So that a stop never misses the server that a restart is just making.
        self._changing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.stop()

    @property
    def dsn(self) -> str:
        """For asyncpg and psql, once started: the socket, the superuser, the database `rotord`."""
        return _dsn(self._socket_dir, _DATABASE)

    @property
    def data_dir(self) -> Path:
        """PostgreSQL's data directory, once started."""
        return self._account.home / "data"

    @property
    def log_path(self) -> Path:
        """What the server said since its start; what it said before is in `server.log.1`."""
        return self._account.home / "server.log"

    @property
    def pid(self) -> int | None:
        """The server's process while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> str:
        """Bring the server up, whatever was left behind, and return its DSN."""
        self._stopped.clear()
        if not self._take_lock():
            self._socket_dir = await self._borrow()
            return self.dsn
        try:
            self._account = await choose_account(self._state_dir)
            self._account.make_dir(self._account.home)
            self._binaries = await reachable_binaries(self._account, binaries(_major_of(self.data_dir)))
            await self._ensure_data(self._binaries)
            last_socket_dir = last_socket_dir_of(self.data_dir)
            await self._end_left_over()
            self._remove_short_socket_dir(last_socket_dir)
            self._socket_dir = self._make_socket_dir()
            await self._run(self._binaries)
            await self._ensure_database()
        except BaseException:
            await self.stop()
            raise
        self._log.info(
            "database_started", version=self._binaries.version, data=str(self.data_dir), socket=str(self._socket_dir), pid=self.pid
        )
        return self.dsn

    async def stop(self) -> None:
        """Shut down cleanly; sessions still open are cut. May be called at any time, also twice."""
        self._stopped.set()
        async with self._changing:
            await self._stop()

    async def _stop(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            for farewell in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(farewell)
                try:
                    async with asyncio.timeout(STOP_S):
                        await process.wait()
                except TimeoutError:
                    continue
                self._log.info("database_stopped", signal=farewell.name, exit_code=process.returncode)
                break
        self._process = None
        # A borrowed server's socket is its owner's.
        if self._lock is not None:
            self._remove_short_socket_dir(self._socket_dir)
            self._lock.close()
            self._lock = None

    async def supervise(self) -> None:
        """Bring the server back whenever it ends unasked, for ever; returns after `stop`. For the daemon's TaskGroup."""
        delay_s = 0.0
        while not self._stopped.is_set():
            process, found = self._process, self._binaries
            if process is None or found is None:
                raise EmbeddedPostgresError("supervise() before start()")
            exit_code = await process.wait()
            if self._stopped.is_set():
                return
            self._log.error("database_ended", exit_code=exit_code, log=str(self.log_path), restart_in_s=delay_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopped.wait()
            delay_s = min(max(1.0, 2 * delay_s), _RESTART_MAX_S)
            async with self._changing:
                if self._stopped.is_set():
                    return
                try:
                    await self._end_left_over()
                    await self._run(found)
                except EmbeddedPostgresError as error:
                    self._log.error("database_restart_failed", reason=str(error))
                else:
                    delay_s = 0.0

    def _take_lock(self) -> bool:
        self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (self._state_dir / "rotord.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock
        return True

    async def _borrow(self) -> Path:
        """The socket's directory of the server that the lock's holder runs; it may just be starting or stopping."""
        if self._share:
            socket_dir = await running_socket_dir(homes(self._state_dir), _BORROW_S)
            if socket_dir is not None:
                return socket_dir
        holder = (self._state_dir / "rotord.lock").read_text().strip()
        raise EmbeddedPostgresError(
            f"{self._state_dir} is in use by another rotord (process {holder or 'unknown'}): stop it, "
            "or give this one a state.dir of its own"
        )

    async def _ensure_data(self, found: PostgresBinaries) -> None:
        data, home = self.data_dir, self._account.home
        for half_made in home.glob("data.new-*"):
            # Its initdb may be dying over it; the next start looks again.
            shutil.rmtree(half_made, ignore_errors=True)
        if _major_of(data) is not None:
            return
        if data.exists():
            raise EmbeddedPostgresError(f"{data} holds no PostgreSQL data: move it away, rotord makes a new one")
        new = Path(tempfile.mkdtemp(prefix="data.new-", dir=home))
        self._account.give(new)
        # The built-in locale does not change with the system's libc, so indexes outlive upgrades of Debian.
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        process = await asyncio.create_subprocess_exec(
            *self._account.prefix,
            str(found.tool("initdb")),
            *(f"--pgdata={new}", f"--username={_USER}", "--auth=trust", "--encoding=UTF8", "--data-checksums"),
            *(locale if found.major >= 17 else ["--locale=C.UTF-8"]),  # noqa: PLR2004 (where the provider came in)
            *([] if self._settings["fsync"] == "on" else ["--no-sync"]),
            "--no-instructions",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_environment(),
        )
        try:
            output, _ = await process.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        if process.returncode != 0:
            raise EmbeddedPostgresError(f"initdb failed in {home}: {output.decode(errors='replace')[-2000:].strip()}")
        _put_in_place(new, data)

    async def _end_left_over(self) -> None:
        """A killed rotord's server shuts down by itself where setpriv exists; elsewhere, and to be quick, it is told to."""
        pid = await end_left_over(self.data_dir)
        if pid is not None:
            self._log.warning("database_left_over_ended", pid=pid)

    async def _run(self, found: PostgresBinaries) -> None:
        self._rotate_log()
        arguments = [f"--{name}={value}" for name, value in self._settings.items()]
        with self.log_path.open("ab") as log_file:
            self._process = process = await asyncio.create_subprocess_exec(
                *self._account.prefix,
                str(found.tool("postgres")),
                *("-D", str(self.data_dir), "-k", str(self._socket_dir), "-p", str(_PORT)),
                *("--listen_addresses=", "--unix_socket_permissions=0700", "--logging_collector=off", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                # Ctrl-C in a terminal is for rotord alone, which still needs the database while it drains.
                start_new_session=True,
                env=_environment(),
            )
        if await self._answers(process):
            return
        tail = self.log_path.read_bytes()[-2000:].decode(errors="replace").strip()
        raise EmbeddedPostgresError(f"PostgreSQL does not start (exit {process.returncode}); its log says: {tail}")

    async def _answers(self, process: asyncio.subprocess.Process) -> bool:
        """Wait until the server takes a connection; False if it ended instead, or is no longer wanted."""
        try:
            async with asyncio.timeout(_START_S):
                while process.returncode is None and not self._stopped.is_set():
                    # Not there yet, or still reading its log.
                    with contextlib.suppress(*_NOT_YET):
                        connection = await asyncpg.connect(_dsn(self._socket_dir, "postgres"))
                        await connection.close()
                        return True
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_POLL_S):
                            await process.wait()
        except TimeoutError:
            raise EmbeddedPostgresError(f"PostgreSQL did not answer within {_START_S:.0f} s: {self.log_path}") from None
        return False

    async def _ensure_database(self) -> None:
        connection = await asyncpg.connect(_dsn(self._socket_dir, "postgres"))
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", _DATABASE):
                await connection.execute(f"CREATE DATABASE {_DATABASE}")
        finally:
            await connection.close()

    def _make_socket_dir(self) -> Path:
        path = self._account.home / "socket"
        # PostgreSQL and asyncpg both split a list of hosts at commas.
        if len(os.fsencode(path)) > _SOCKET_DIR_BYTES or "," in str(path):
            return self._account.make_temporary_dir()
        self._account.make_dir(path)
        return path

    def _remove_short_socket_dir(self, path: Path | None) -> None:
        """Remove what `_make_socket_dir` made outside of home, and only that."""
        if path and path.name.startswith("rotord-") and path.parent == Path(tempfile.gettempdir()):
            with contextlib.suppress(OSError):
                shutil.rmtree(path)

    def _rotate_log(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self.log_path.stat().st_size > _LOG_BYTES:
                self.log_path.replace(self.log_path.with_suffix(".log.1"))


def _dsn(socket_dir: Path, database: str) -> str:
    return f"postgresql://{_USER}@/{database}?host={quote(str(socket_dir), safe='')}&port={_PORT}"


def _environment() -> dict[str, str]:
    """None of ours: PGPORT and the like would mislead the server, and secrets in ours are none of its business."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _major_of(data: Path) -> int | None:
    try:
        return int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


def _put_in_place(new: Path, data: Path) -> None:
    new.rename(data)
    descriptor = os.open(data.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
