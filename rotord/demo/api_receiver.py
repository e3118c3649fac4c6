"""The far side of an HTTP API: takes mail as Mailgun or SendGrid does, and writes down that it did.

The truth log is as rotord.receiver's: one JSON line a message, in the file before the answer is written. SIGUSR1 makes it go away as a
server does that is taken out of service: it hears what it is being told, answers with the end of each connection, and refuses new
ones; SIGUSR2 brings it back on the same port. For the demo; what a provider does besides is in the tests' doubles.

    python -m rotord.demo.api_receiver --kind mailgun --log truth.jsonl --key KEY --latency-ms 20,120
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from email.utils import parseaddr
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp
import orjson
from aiohttp import web

from rotord.webhooks.inbound import form

if TYPE_CHECKING:
    from collections.abc import Sequence

#: 10 MB of attachments in base64, and room for the rest
_LARGEST: Final = 32 * 1024 * 1024


class Mail(NamedTuple):
    """What the log says of a message."""

    sender: str
    recipient: str
    row: str


def mailgun_mail(body: bytes, content_type: str) -> Mail:
    """Read `messages.mime`'s form. KeyError: a part is missing."""
    fields = form(body, content_type)
    head = BytesHeaderParser().parsebytes(fields["message"].partition(b"\r\n\r\n")[0])
    return Mail(parseaddr(head["From"])[1], fields["to"].decode(), head.get("X-Row", ""))


def sendgrid_mail(body: bytes, _content_type: str) -> Mail:
    """Read `mail/send`'s JSON. ValueError or KeyError: a part is missing."""
    content = orjson.loads(body)
    return Mail(content["from"]["email"], content["personalizations"][0]["to"][0]["email"], content["headers"].get("X-Row", ""))


READERS: Final = {"mailgun": mailgun_mail, "sendgrid": sendgrid_mail}


@dataclass(slots=True)
class ApiReceiver:
    """One API on loopback. `listen` again after `leave` takes the same port."""

    kind: str
    key: str = field(repr=False)
    log: int
    latency_s: tuple[float, float]
    port: int = 0
    accepted: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - latencies are no secrets
    _server: asyncio.Server | None = None

    def application(self) -> web.Application:
        """Every path answers, as a probe wants; mail is taken where its API takes it."""
        app = web.Application(client_max_size=_LARGEST)
        take = {"mailgun": "/v3/{domain}/messages.mime", "sendgrid": "/v3/mail/send"}[self.kind]
        app.router.add_post(take, self._take)
        app.router.add_get("/{path:.*}", self._elsewhere)
        return app

    async def listen(self, handler: Any) -> None:
        """Take connections."""
        self._server = await asyncio.get_running_loop().create_server(handler, "127.0.0.1", self.port, backlog=256)
        self.port = self._server.sockets[0].getsockname()[1]

    def leave(self) -> None:
        """Refuse new connections; the ones there are end with their next answer."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _elsewhere(self, _request: web.Request) -> web.Response:
        return self._answer(404, b'"Not Found"')

    async def _take(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") not in {f"Bearer {self.key}", aiohttp.encode_basic_auth("api", self.key)}:
            return self._answer(401, b'"Forbidden"')
        body = await request.read()
        try:
            mail = READERS[self.kind](body, request.headers.get("Content-Type", ""))
        except (ValueError, KeyError, IndexError, TypeError):
            return self._answer(400, b'{"message": "not understood"}')
        line = {"at": time.time(), "from": mail.sender, "rcpt": [mail.recipient], "row": mail.row}
        os.write(self.log, orjson.dumps(line) + b"\n")
        self.accepted += 1
        number = self.accepted
        await asyncio.sleep(self._random.uniform(*self.latency_s))
        if self.kind == "mailgun":
            return self._answer(200, orjson.dumps({"id": f"<{number}@demo.example>", "message": "Queued. Thank you."}))
        return self._answer(202, b"", {"X-Message-Id": f"demo-{number}"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> web.Response:
        response = web.Response(status=status, body=body, content_type="application/json", headers=headers)
        if self._server is None:
            response.force_close()
        return response


def _span_s(text: str) -> tuple[float, float]:
    low, _, high = text.partition(",")
    return float(low) / 1000, float(high or low) / 1000


async def _serve(given: argparse.Namespace) -> None:
    loop, ended, back = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    log = os.open(given.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    receiver = ApiReceiver(given.kind, given.key, log, given.latency_ms)

    def end() -> None:
        ended.set()
        back.set()

    loop.add_signal_handler(signal.SIGUSR1, receiver.leave)
    loop.add_signal_handler(signal.SIGUSR2, back.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    runner = web.AppRunner(receiver.application(), access_log=None, keepalive_timeout=75)
    await runner.setup()
    while not ended.is_set():
        await receiver.listen(runner.server)
        sys.stdout.write(f"{receiver.port}\n")
        sys.stdout.flush()
        await back.wait()
        back.clear()
        receiver.leave()
    await runner.cleanup()
    os.close(log)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT. The port is the first line of the output."""
    import uvloop  # noqa: PLC0415 - not to be had on every system that may import this module

    parser = argparse.ArgumentParser(prog="python -m rotord.demo.api_receiver", description="A local mail API that logs what it takes.")
    parser.add_argument("--kind", choices=tuple(READERS), required=True)
    parser.add_argument("--log", type=Path, required=True, help="JSON lines, appended")
    parser.add_argument("--key", required=True, help="the API key that is let in")
    parser.add_argument("--latency-ms", type=_span_s, default=(0.0, 0.0), metavar="LOW,HIGH")
    uvloop.run(_serve(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
