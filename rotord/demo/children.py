"""The demo's processes: `python -m rotord.receiver`, `python -m rotord.demo.api_receiver` and `rotord run`.

Ctrl-C is the demo's alone (each has a session of its own), and it ends them in order. If the demo itself is killed, the
kernel kills them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from rotord.embedded.account import succeeds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

# A drained daemon needs the time of its slowest answer; beyond it, on Ctrl-C, nobody wants to wait.
END_S: Final = 10.0
# Python with all imports on a busy, small machine.
START_S: Final = 60.0
#: as the embedded server's own (rotord.embedded.account), but without a farewell: these are made to be killed
_DIES_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL", "--")
_TAIL_BYTES: Final = 2000


class DemoError(Exception):
    """The demo cannot go on, and what to do about it."""


class PlaceError(DemoError):
    """The directory that was given cannot be a demo's."""


@asynccontextmanager
async def receiver(truth: Path) -> AsyncIterator[int]:
    """Run the SMTP server, whose port this gives: most answers after 20 to 120 ms, one in a hundred after 1 to 2 s; some are no."""
    manner = ("--latency-ms", "20,120", "--slow-share", "0.01", "--slow-s", "1,2", "--defer-share", "0.03", "--reject-share", "0.01")
    async with _listening((sys.executable, "-m", "rotord.receiver", "--log", str(truth), *manner)) as (_, port):
        yield port


@asynccontextmanager
async def api(kind: str, key: str, truth: Path, latency_ms: str) -> AsyncIterator[Api]:
    """Run the double of a provider's API."""
    manner = ("--kind", kind, "--key", key, "--latency-ms", latency_ms)
    async with _listening((sys.executable, "-m", "rotord.demo.api_receiver", "--log", str(truth), *manner)) as (process, port):
        yield Api(process, port)


@dataclass(frozen=True, slots=True)
class Api:
    """A provider's double, which may be sent away."""

    process: asyncio.subprocess.Process
    port: int

    def leave(self) -> None:
        """Refuse connections from now on."""
        self._signal(signal.SIGUSR1)

    def return_(self) -> None:
        """Take them again."""
        self._signal(signal.SIGUSR2)

    def _signal(self, number: signal.Signals) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


@asynccontextmanager
async def _listening(words: tuple[str, ...]) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    async with _child(words, {}, asyncio.subprocess.PIPE, None) as process:
        if process.stdout is None:
            raise DemoError("a local receiver has no output")
        try:
            async with asyncio.timeout(START_S):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line.strip().isdigit():
            raise DemoError(f"a local receiver does not start: try {' '.join(words)}")
        yield process, int(line)


@asynccontextmanager
async def daemon(config: Path, url: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the daemon on the database of `url`; at the end SIGTERM, and SIGKILL if it takes too long."""
    words = (sys.executable, "-m", "rotord", "--config", str(config), "run")
    with log.open("wb") as output:
        async with _child(words, {"ROTORD_DATABASE__URL": url}, output, output) as process:
            yield process


async def explain(config: Path, url: str, message: int) -> str:
    """Ask `rotord why message`, as a person would."""
    words = (sys.executable, "-m", "rotord", "--config", str(config), "why", "message", str(message))
    async with _child(words, {"ROTORD_DATABASE__URL": url}, asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT) as process:
        output, _ = await process.communicate()
    return output.decode(errors="replace").strip()


def tail(log: Path) -> str:
    """The last lines of a log, for a person."""
    with contextlib.suppress(FileNotFoundError):
        return log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
    return ""


@asynccontextmanager
async def _child(
    words: tuple[str, ...], environ: Mapping[str, str], output: int | IO[bytes], errors: int | IO[bytes] | None
) -> AsyncIterator[asyncio.subprocess.Process]:
    prefix = _DIES_WITH_US if await succeeds(*_DIES_WITH_US, "true") else ()
    process = await asyncio.create_subprocess_exec(
        *prefix,
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        env={**_environment(), **environ},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        await end(process)


async def end(process: asyncio.subprocess.Process) -> int:
    """End it if it still runs, and return its exit code."""
    for farewell in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(farewell)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                return await process.wait()
    return -signal.SIGKILL


def _environment() -> dict[str, str]:
    """Ours without what configures another rotord: it would configure the demo's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ROTORD_") and name != "CREDENTIALS_DIRECTORY"}
