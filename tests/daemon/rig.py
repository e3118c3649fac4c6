"""The daemon as a process of its own, real SMTP receivers beside it, and a judge that believes only what the receivers wrote."""

import asyncio
import json
import os
import signal
import sys
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

HOUR = 3600.0


@dataclass(slots=True)
class ReceiverProcess:
    """`python -m rotord.receiver` with its truth log; it survives what is done to the daemon."""

    process: asyncio.subprocess.Process
    port: int
    log: Path

    def seen(self) -> list[dict[str, Any]]:
        """Every message it took, in order."""
        return [json.loads(line) for line in self.log.read_bytes().splitlines()]


@dataclass(slots=True)
class Rig:
    """One daemon on one database. `toml` is the configuration below the database's URL; `watch` is where its loop's slow steps go."""

    url: str
    folder: Path
    toml: str
    daemon: asyncio.subprocess.Process | None = None
    starts: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    watch: Path | None = None

    @property
    def config(self) -> Path:
        path = self.folder / "rotord.toml"
        path.write_text(f'[database]\nurl = "{self.url}"\n[state]\ndir = "{self.folder / "state"}"\n{self.toml}')
        return path

    @property
    def log(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("daemon-*.log")))

    async def start(self) -> None:
        """Start the daemon; returns at once."""
        self.starts += 1
        program = ["tests.daemon.loop_watch", str(self.watch)] if self.watch else ["rotord"]
        with (self.folder / f"daemon-{self.starts:03}.log").open("wb") as log:
            self.daemon = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *program, "--config", str(self.config), "run",
                stdout=log, stderr=log, env={**os.environ, "ROTORD_HTTP__LISTEN": "127.0.0.1:0", **self.environment},
            )  # fmt: skip

    async def kill(self, number: int = signal.SIGKILL) -> int:
        """Signal the daemon and wait for its end."""
        assert self.daemon is not None
        self.daemon.send_signal(number)
        return await asyncio.wait_for(self.daemon.wait(), 60)

    async def stop(self) -> int:
        """End it politely."""
        return await self.kill(signal.SIGTERM)

    async def command(self, *words: str) -> tuple[int, Any]:
        """Run a command with --json: its exit code and its document (None when it printed none)."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rotord", "--config", str(self.config), *words,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, error = await process.communicate()
        text = out.decode()
        try:
            document = json.loads(text)
        except ValueError:
            document = text + error.decode()
        return process.returncode or 0, document


@asynccontextmanager
async def receiver(folder: Path, name: str, **options: str) -> AsyncIterator[ReceiverProcess]:
    """A receiver process; options are its flags (latency_ms="50,300", slow_share="0.05", ...)."""
    log = folder / f"{name}.jsonl"
    log.touch()
    flags = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", value)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rotord.receiver", "--port", "0", "--log", str(log), *flags, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    port = int((await process.stdout.readline()).split()[-1])
    try:
        yield ReceiverProcess(process, port, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    """The daemon, from start to whatever end it has come to."""
    await rig.start()
    try:
        yield rig
    finally:
        if rig.daemon is not None and rig.daemon.returncode is None:
            await rig.kill()


def relay(name: str, port: int, connections: int = 50, extra: str = "") -> str:
    """The configuration of an SMTP provider without TLS."""
    return f'[providers.{name}]\nkind = "smtp"\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\nconnections = {connections}\n{extra}\n'


async def wait_until(connection: asyncpg.Connection, condition: str, within_s: float) -> bool:
    """Poll a boolean SQL expression ten times a second."""
    deadline = asyncio.get_running_loop().time() + within_s
    while asyncio.get_running_loop().time() < deadline:
        if await connection.fetchval(f"SELECT {condition}"):
            return True
        await asyncio.sleep(0.1)
    return False


async def wait_for_quiet(connection: asyncpg.Connection, quiet_s: float, within_s: float) -> None:
    """Wait until no attempt has begun or ended for `quiet_s`."""
    loop = asyncio.get_running_loop()
    deadline, last, since = loop.time() + within_s, None, loop.time()
    while loop.time() < deadline:
        state = await connection.fetchrow(
            "SELECT count(*), count(outcome) FROM rotord.attempts HAVING count(*) > 0 AND count(*) = count(outcome)"
        )
        if state is None or state != last:
            last, since = state, loop.time()
        elif loop.time() - since >= quiet_s:
            return
        await asyncio.sleep(0.2)
    raise AssertionError("the daemon did not come to rest")


def worst_hour(times: Iterable[float]) -> int:
    """The most messages in any half-open 60 minutes."""
    ordered = sorted(times)
    return max((index - bisect_left(ordered, at - HOUR + 1e-6) + 1 for index, at in enumerate(ordered)), default=0)


def jain(shares: Sequence[float]) -> float:
    """Jain's fairness index: 1 when all are equal."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


@dataclass(slots=True)
class Truth:
    """What the receivers saw, by row and by sender."""

    rows: Counter[str] = field(default_factory=Counter)
    by_address: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    pairs: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, *receivers: ReceiverProcess) -> "Truth":
        truth = cls()
        for one in receivers:
            for entry in one.seen():
                truth.rows[entry["row"]] += 1
                truth.by_address[entry["from"]].append(entry["at"])
                truth.pairs.append((entry["row"], entry["from"]))
        return truth

    def worst(self, group: dict[str, str]) -> dict[str, int]:
        """The worst hour of each group of addresses."""
        times: dict[str, list[float]] = defaultdict(list)
        for address, seen in self.by_address.items():
            times[group[address]].extend(seen)
        return {name: worst_hour(seen) for name, seen in times.items()}


async def check_truth(db: asyncpg.Connection, truth: Truth, rows: int) -> int:
    """Nothing lost, nothing twice: the receivers' log against the outbox; says how many are uncertain."""
    status = {
        row["name"]: row["status"]
        for row in await db.fetch("SELECT o.headers ->> 'X-Row' AS name, m.status FROM rotord.messages m JOIN rotord.outbox o USING (id)")
    }
    sent = {name for name, word in status.items() if word == "sent"}
    uncertain = {name for name, word in status.items() if word == "uncertain"}

    assert len(status) == rows
    assert set(status.values()) <= {"sent", "uncertain"}
    assert max(truth.rows.values()) == 1
    assert sent - set(truth.rows) == set()
    assert set(truth.rows) - sent - uncertain == set()
    return len(uncertain)
