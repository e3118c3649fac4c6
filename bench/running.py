"""What the rows that run the real daemon share: its process, a relay that keeps a log, what both use of the machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_TICKS = os.sysconf("SC_CLK_TCK")


def told(words: str) -> None:
    """Say what goes on, beside the table."""
    print(f"{time.strftime('%H:%M:%S')}  {words}", file=sys.stderr, flush=True)


@dataclass(slots=True)
class Relay:
    """`python -m rotord.receiver` and its log."""

    port: int
    log: Path
    connections: int = 50

    @property
    def settings(self) -> str:
        return f'[providers.relay]\nkind = "smtp"\nhost = "127.0.0.1"\nport = {self.port}\ntls = "none"\nconnections = {self.connections}\n'

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_bytes().splitlines()]

    def seen(self, row: str) -> float | None:
        """When it took the row of that name."""
        return next((entry["at"] for entry in self.entries() if entry.get("row") == row), None)

    async def when(self, row: str, within_s: float) -> float:
        async with asyncio.timeout(within_s):
            while (at := self.seen(row)) is None:  # noqa: ASYNC110 - another process's file
                await asyncio.sleep(0.02)
        return at


@asynccontextmanager
async def relay(folder: Path, *, latency_ms: str = "20", connections: int = 50) -> AsyncIterator[Relay]:
    log = folder / "relay.jsonl"
    log.touch()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "rotord.receiver",
        "--port",
        "0",
        "--log",
        str(log),
        "--latency-ms",
        latency_ms,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    port = int((await process.stdout.readline()).split()[-1])
    try:
        yield Relay(port, log, connections)
    finally:
        process.kill()
        await process.wait()


@dataclass(slots=True)
class Daemon:
    """`rotord run` on a database, with these providers."""

    url: str
    folder: Path
    settings: str
    environment: dict[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        config = self.folder / "rotord.toml"
        config.write_text(f'[database]\nurl = "{self.url}"\n[state]\ndir = "{self.folder / "state"}"\n{self.settings}')
        with (self.folder / "daemon.log").open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "rotord", "--config", str(config), "run",
                stdout=log, stderr=log, env={**os.environ, "ROTORD_HTTP__LISTEN": "127.0.0.1:0", **self.environment},
            )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(self.process.wait(), 60)

    async def command(self, *words: str) -> float:
        """Run a command on the same configuration; its seconds."""
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rotord", "--config", str(self.folder / "rotord.toml"), *words,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"rotord {' '.join(words)}: {said.decode()[-500:]}")
        return time.perf_counter() - began

    @property
    def log(self) -> str:
        return (self.folder / "daemon.log").read_text()

    def cpu_s(self) -> float:
        """Processor time so far, by the system's accounting."""
        assert self.process is not None
        return cpu_s(self.process.pid)

    def rss_mb(self) -> float:
        return self._memory("VmRSS")

    def peak_mb(self) -> float:
        return self._memory("VmHWM")

    def _memory(self, what: str) -> float:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(what)).split()[1]) / 1024


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def family_cpu_s(pid: int) -> float:
    """Processor time of a process, its children, and those of them that have ended and were waited for."""
    total = 0.0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(entry.name) == pid:
                total += sum(int(one) for one in fields[11:15]) / _TICKS
            elif int(fields[1]) == pid:
                total += (int(fields[11]) + int(fields[12])) / _TICKS
    return total
