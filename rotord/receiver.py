"""The far side of the internet: a local SMTP server that takes every message and writes down that it did.

For `rotord demo` and the tests. Its truth log is the judge of promises: one JSON line for each message, flushed to the
file before the reply to the final dot is written, so a line is there whatever becomes of the reply. It relays nothing,
checks nobody and listens on loopback unless told otherwise.

    python -m rotord.receiver --port 2525 --log truth.jsonl --latency-ms 50,300 --slow-share 0.05 --slow-s 2,6
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self, cast

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

_LINE_LIMIT: Final = 8192
_PATH: Final = re.compile(rb"(?:FROM|TO):\s*<([^>]*)>", re.IGNORECASE)
#: header fields that are copied to the log, under these names
_LOGGED_HEADERS: Final = {b"x-rotord-attempt": "attempt", b"message-id": "message_id", b"subject": "subject", b"x-row": "row"}


@dataclass(frozen=True, slots=True)
class ReceiverConfig:
    """How the receiver behaves. Latencies are seconds before the reply to the final dot, drawn evenly from a range."""

    log: Path
    host: str = "127.0.0.1"
    port: int = 0
    latency_s: tuple[float, float] = (0.0, 0.0)
    slow_share: float = 0.0
    slow_s: tuple[float, float] = (2.0, 6.0)
    #: share of messages that are taken and never answered
    silent_share: float = 0.0
    #: shares of recipients that are refused, for now and for good
    defer_share: float = 0.0
    reject_share: float = 0.0
    size_limit: int = 26_214_400
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")
    seed: int = 0


class Receiver:
    """A running receiver: `async with Receiver(config) as receiver: receiver.port`. Counts what it accepted."""

    def __init__(self, config: ReceiverConfig) -> None:
        self.config = config
        self.port = config.port
        self.accepted = 0
        self.connections = 0
        self.random = random.Random(config.seed)  # noqa: S311 - latencies are no secrets
        self.sessions: set[_Session] = set()
        words = ("receiver.rotord.invalid", *config.extensions, f"SIZE {config.size_limit}")
        self.greeting = "".join(f"250{' ' if word is words[-1] else '-'}{word}\r\n" for word in words).encode()
        self._log: IO[bytes] | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Open the log for appending and listen."""
        self._log = await asyncio.to_thread(self.config.log.open, "ab", buffering=0)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Session(self), self.config.host, self.config.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop listening, cut the sessions, close the log."""
        if self._server is not None:
            self._server.close()
        for session in tuple(self.sessions):
            session.cut()
        if self._log is not None:
            self._log.close()

    def accept(self, sender: bytes, recipients: Sequence[bytes], message: bytes) -> float | None:
        """Write the truth down; returns the seconds to wait before saying so, None for never."""
        line = {
            "at": time.time(),
            "from": sender.decode("utf-8", "replace"),
            "rcpt": [recipient.decode("utf-8", "replace") for recipient in recipients],
            "size": len(message),
            **_headers(message),
        }
        if self._log is not None:
            self._log.write(orjson.dumps(line) + b"\n")
        self.accepted += 1
        config = self.config
        if config.silent_share and self.random.random() < config.silent_share:
            return None
        slow = config.slow_share and self.random.random() < config.slow_share
        return self.random.uniform(*(config.slow_s if slow else config.latency_s))

    def refusal(self) -> bytes:
        """Draw what a recipient is refused with; b"" for most."""
        config = self.config
        drawn = self.random.random() if config.defer_share or config.reject_share else 1.0
        if drawn < config.reject_share:
            return b"550 5.1.1 no such user\r\n"
        return b"450 4.2.1 mailbox busy, try again\r\n" if drawn < config.reject_share + config.defer_share else b""


class _Session(asyncio.Protocol):
    """One client. Commands are answered in order; while an answer waits for its latency, what follows waits too."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._searched = 0
        self._in_data = False
        self._waiting: asyncio.TimerHandle | None = None
        self._silent = False
        self._sender: bytes | None = None
        self._recipients: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._receiver.sessions.add(self)
        self._receiver.connections += 1
        self._say(b"220 receiver.rotord.invalid ESMTP\r\n")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._receiver.sessions.discard(self)
        if self._waiting is not None:
            self._waiting.cancel()
        self._transport = None

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > 2 * self._receiver.config.size_limit:
            self.cut()
        self._go_on()

    def _go_on(self) -> None:
        while self._transport is not None and self._waiting is None and not self._silent:
            if not (self._take_message() if self._in_data else self._take_command()):
                return

    def _take_command(self) -> bool:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > _LINE_LIMIT:
                self._say(b"500 5.5.2 line too long\r\n")
                self.cut()
            return False
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        self._command(line)
        return True

    def _take_message(self) -> bool:
        if self._buffer.startswith(b".\r\n"):
            end = 0
        else:
            end = self._buffer.find(b"\r\n.\r\n", max(0, self._searched - 4)) + 2
            if end < 2:  # noqa: PLR2004 - not found
                self._searched = len(self._buffer)
                return False
        message = bytes(self._buffer[:end])
        del self._buffer[: end + 3]
        self._in_data, self._searched = False, 0
        if message.startswith(b"."):
            message = message[1:]
        self._end_of_message(message.replace(b"\r\n..", b"\r\n."))
        return True

    def _end_of_message(self, message: bytes) -> None:
        sender, recipients = self._sender or b"", self._recipients
        self._sender, self._recipients = None, []
        if len(message) > self._receiver.config.size_limit:
            self._say(b"552 5.3.4 message too big\r\n")
            return
        wait_s = self._receiver.accept(sender, recipients, message)
        reply = b"250 2.0.0 Ok: queued as %d\r\n" % self._receiver.accepted
        if wait_s is None:
            self._silent = True
        elif wait_s:
            self._waiting = asyncio.get_running_loop().call_later(wait_s, self._answer, reply)
        else:
            self._say(reply)

    def _answer(self, reply: bytes) -> None:
        self._waiting = None
        self._say(reply)
        self._go_on()

    def _command(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        match verb.upper():
            case b"EHLO" | b"HELO":
                self._forget()
                self._say(self._receiver.greeting if verb.upper() == b"EHLO" else b"250 receiver.rotord.invalid\r\n")
            case b"MAIL":
                self._mail(rest)
            case b"RCPT":
                self._rcpt(rest)
            case b"DATA":
                self._in_data = bool(self._recipients)
                self._say(b"354 go on\r\n" if self._in_data else b"503 5.5.1 no recipients\r\n")
            case b"RSET":
                self._forget()
                self._say(b"250 2.0.0 Ok\r\n")
            case b"NOOP":
                self._say(b"250 2.0.0 Ok\r\n")
            case b"QUIT":
                self._say(b"221 2.0.0 bye\r\n")
                if self._transport is not None:
                    self._transport.close()
                    self._transport = None
            case _:
                self._say(b"502 5.5.2 unknown command\r\n")

    def _mail(self, rest: bytes) -> None:
        path = _PATH.match(rest)
        if path is None:
            self._say(b"501 5.5.4 syntax: MAIL FROM:<address>\r\n")
        elif self._sender is not None:
            self._say(b"503 5.5.1 nested MAIL\r\n")
        else:
            self._sender = path.group(1)
            self._say(b"250 2.1.0 Ok\r\n")

    def _rcpt(self, rest: bytes) -> None:
        path = _PATH.match(rest)
        if path is None or not path.group(1):
            self._say(b"501 5.5.4 syntax: RCPT TO:<address>\r\n")
        elif self._sender is None:
            self._say(b"503 5.5.1 MAIL first\r\n")
        elif len(self._recipients) >= 100:  # noqa: PLR2004 - RFC 5321's minimum
            self._say(b"452 4.5.3 too many recipients\r\n")
        elif refusal := self._receiver.refusal():
            self._say(refusal)
        else:
            self._recipients.append(path.group(1))
            self._say(b"250 2.1.5 Ok\r\n")

    def _forget(self) -> None:
        self._sender, self._recipients = None, []

    def _say(self, reply: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(reply)


def _headers(message: bytes) -> dict[str, str]:
    """Read the logged header fields, unfolded; not a parser for mail, but for mail that rotord has made."""
    found = {}
    head = message.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        key = _LOGGED_HEADERS.get(name.lower())
        if key is not None:
            found[key] = value.strip().decode("utf-8", "replace")
    return found


def _span(text: str) -> tuple[float, float]:
    """Read "low,high", or one number for both."""
    low, _, high = text.partition(",")
    return float(low), float(high or low)


def _arguments(arguments: Sequence[str] | None) -> ReceiverConfig:
    parser = argparse.ArgumentParser(prog="python -m rotord.receiver", description="A local SMTP server that logs what it takes.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed")
    parser.add_argument("--log", type=Path, required=True, help="JSON lines, appended")
    parser.add_argument("--latency-ms", type=_span, default=(0.0, 0.0), metavar="LOW,HIGH")
    parser.add_argument("--slow-share", type=float, default=0.0)
    parser.add_argument("--slow-s", type=_span, default=(2.0, 6.0), metavar="LOW,HIGH")
    parser.add_argument("--silent-share", type=float, default=0.0, help="taken, but never answered")
    parser.add_argument("--defer-share", type=float, default=0.0, help="recipients refused for now")
    parser.add_argument("--reject-share", type=float, default=0.0, help="recipients refused for good")
    given = parser.parse_args(arguments)
    low, high = given.latency_ms
    answers = {"slow_share": given.slow_share, "slow_s": given.slow_s, "silent_share": given.silent_share}
    refusals = {"defer_share": given.defer_share, "reject_share": given.reject_share}
    return ReceiverConfig(given.log, given.host, given.port, (low / 1000, high / 1000), **answers, **refusals)


async def _serve(config: ReceiverConfig) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with Receiver(config) as receiver:
        sys.stdout.write(f"{receiver.port}\n")
        sys.stdout.flush()
        await ended.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT. The port is the first line of the output."""
    import uvloop  # noqa: PLC0415 - three times as fast, but not to be had on every system that may import this module

    uvloop.run(_serve(_arguments(arguments)))


if __name__ == "__main__":
    main()
