"""A provider that sends nothing: messages land in a Maildir, with the latency and the outcomes the configuration asks for.

For trying out and for load tests. What becomes of an attempt follows from its id alone, so a run can be repeated. Each
message that it accepted (or left uncertain, which a real provider does by accepting it and losing the answer) is one file,
byte for byte what was sent, and one line in `truth.jsonl`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

import orjson

from rotord.core.model import Blame, Outcome, Reply
from rotord.providers.base import ProviderStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rotord.providers.base import Envelope

_REFUSALS: Final = {
    Outcome.DEFERRED: Reply(Outcome.DEFERRED, Blame.PROVIDER, "451 4.3.0", "sandbox: try again later"),
    Outcome.REJECTED: Reply(Outcome.REJECTED, Blame.RECIPIENT, "550 5.1.1", "sandbox: no such user"),
    Outcome.NOT_SENT: Reply(Outcome.NOT_SENT, Blame.NETWORK, "", "sandbox: connection refused"),
    Outcome.UNCERTAIN: Reply(Outcome.UNCERTAIN, Blame.NETWORK, "", "sandbox: the answer was lost"),
}
#: a larger file is written by a thread: it would keep the loop for milliseconds
_ON_LOOP_LIMIT: Final = 262_144


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """Shares are parts of 1; what they leave is accepted. Latency is drawn evenly from its range, in milliseconds."""

    name: str
    directory: Path
    max_in_flight: int = 100
    latency_ms: tuple[float, float] = (0.0, 0.0)
    deferred: float = 0.0
    rejected: float = 0.0
    not_sent: float = 0.0
    uncertain: float = 0.0


class SandboxProvider:
    """The sandbox as a provider: always up, `max_in_flight` slots."""

    kind = "sandbox"
    writes_mail = False

    def __init__(self, config: SandboxConfig) -> None:
        self.name = config.name
        self.attempt_timeout_s = config.latency_ms[1] / 1000 + 60.0
        self.config = config
        self._in_flight = 0
        self._wake: Callable[[], None] = lambda: None
        self._truth: IO[bytes] | None = None

    def ready(self) -> int:
        """Count free slots; none before `run` has made the Maildir."""
        return self.config.max_in_flight - self._in_flight if self._truth is not None else 0

    def want(self, slots: int) -> None:
        """Nothing has to be opened."""

    def on_ready(self, wake: Callable[[], None]) -> None:
        """Register the dispatcher."""
        self._wake = wake

    def take(self) -> SandboxSlot | None:
        """Take one of the places."""
        if self.ready() <= 0:
            return None
        self._in_flight += 1
        return SandboxSlot(self)

    def status(self) -> ProviderStatus:
        """Tell how many places are taken."""
        up = True if self._truth is not None else None
        return ProviderStatus(up=up, ready=self.ready(), in_flight=self._in_flight, capacity=self.config.max_in_flight)

    async def run(self) -> None:
        """Make the Maildir, then wait for the end."""
        self._truth = await asyncio.to_thread(_open_maildir, self.config.directory)
        self._wake()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Close the log."""
        if self._truth is not None:
            self._truth.close()
            self._truth = None

    async def keep(self, envelope: Envelope) -> None:
        """Write the file (tmp, then new, as Maildir demands) and its line."""
        if len(envelope.mime) > _ON_LOOP_LIMIT:
            await asyncio.to_thread(_write_message, self.config.directory, envelope)
        else:
            _write_message(self.config.directory, envelope)
        line = {
            "attempt": envelope.attempt_id,
            "outbox": envelope.message.id,
            "rcpt": envelope.message.recipient,
            "from": envelope.sender.email,
            "at": time.time(),
        }
        if self._truth is not None:
            self._truth.write(orjson.dumps(line) + b"\n")

    def freed(self) -> None:
        """Take a place back."""
        self._in_flight -= 1
        self._wake()


class SandboxSlot:
    """One place, taken for one message."""

    def __init__(self, provider: SandboxProvider) -> None:
        self._provider = provider
        self._envelope: Envelope | None = None
        self._body_left = False

    @property
    def body_left(self) -> bool:
        """True from the moment the file is about to be written."""
        return self._body_left

    def prepare(self, envelope: Envelope) -> None:
        """Keep it: all is written at once."""
        self._envelope = envelope

    async def send(self, leaving: Callable[[], None]) -> Reply:
        """Write the message if its outcome lets it, and answer after its latency."""
        envelope = self._envelope
        if envelope is None:
            raise RuntimeError("nothing was prepared")
        outcome, latency_s = fate(self._provider.config, envelope.attempt_id)
        try:
            if outcome in {Outcome.ACCEPTED, Outcome.UNCERTAIN}:
                leaving()
                self._body_left = True
                await self._provider.keep(envelope)
            if latency_s:
                await asyncio.sleep(latency_s)
        except OSError as error:
            return Reply(Outcome.UNCERTAIN, Blame.PROVIDER, "", f"sandbox: {error}")
        finally:
            self._provider.freed()
        accepted = Reply(Outcome.ACCEPTED, None, "250", "sandbox: kept", provider_message_id=str(envelope.attempt_id))
        return _REFUSALS.get(outcome, accepted)

    def give_back(self) -> None:
        """Return it unused."""
        self._provider.freed()


def fate(config: SandboxConfig, attempt_id: int) -> tuple[Outcome, float]:
    """Say what becomes of an attempt and after how many seconds: the same for the same id, evenly spread over ids."""
    digest = hashlib.blake2b(attempt_id.to_bytes(8, "big"), digest_size=16).digest()
    draw, late = (int.from_bytes(half, "big") / 2**64 for half in (digest[:8], digest[8:]))
    low, high = config.latency_ms
    latency_s = (low + (high - low) * late) / 1000
    shares = (
        (Outcome.DEFERRED, config.deferred),
        (Outcome.REJECTED, config.rejected),
        (Outcome.NOT_SENT, config.not_sent),
        (Outcome.UNCERTAIN, config.uncertain),
    )
    for outcome, share in shares:
        if draw < share:
            return outcome, latency_s
        draw -= share
    return Outcome.ACCEPTED, latency_s


def _open_maildir(directory: Path) -> IO[bytes]:
    for part in ("tmp", "new", "cur"):
        (directory / part).mkdir(parents=True, exist_ok=True)
    return (directory / "truth.jsonl").open("ab", buffering=0)


def _write_message(directory: Path, envelope: Envelope) -> None:
    name = f"{envelope.attempt_id}.{envelope.message.id}.rotord"
    unfinished = directory / "tmp" / name
    unfinished.write_bytes(envelope.mime)
    unfinished.rename(directory / "new" / name)
