"""What the doubles of the three providers share: a server on loopback that keeps a truth log on disk and misbehaves on order.

A subclass says where mail is posted, whom it lets in, what it refuses and what it answers, all as its provider publishes it.
The truth log has a line for each mail that the provider has, written before any answer, so that a kill loses none.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from aiohttp import web

#: beyond what any of the three takes, so that the limit is theirs
_LARGEST_REQUEST = 60 * 1024 * 1024


@dataclass(frozen=True)
class Fault:
    """How one request goes wrong.

    `cut`: the connection is reset `before` the body is read, `in` the midst of it, or `after` it, mail taken or not by
    `accepts`. `status` is answered instead of the usual; a 5xx with `accepts` has taken the mail. `raw` is an answer's bytes.
    `drip_s`: seconds between the answer's bytes. `hang`: no answer at all. `early`: answered before the body is read.
    """

    cut: str = ""
    accepts: bool = False
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    raw: bytes | None = None
    latency_s: float = 0.0
    drip_s: float = 0.0
    hang: bool = False
    early: bool = False

    @property
    def is_usual(self):
        return not (self.status or self.cut or self.hang or self.raw is not None or self.body is not None)


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


FINE = Fault()


class ApiDouble:
    """One provider. `faults` are for the next requests, one each; after them `always` holds."""

    path: str
    key = "the-right-key"

    def __init__(self, directory, *, idle_s=75.0, port=0):
        self.faults = deque()
        self.always = FINE
        self.requests = 0
        self.mails = []
        self.port = port
        self.released = asyncio.Event()
        self._idle_s = idle_s
        self._truth = directory / f"{type(self).__name__}.jsonl"

    async def __aenter__(self):
        app = web.Application(client_max_size=_LARGEST_REQUEST)
        app.router.add_get("/{anything:.*}", self._elsewhere)
        app.router.add_post(self.path, self._post)
        self._runner = web.AppRunner(app, keepalive_timeout=self._idle_s, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        self._log = os.open(self._truth, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return self

    async def __aexit__(self, *_):
        self.released.set()
        await self._runner.cleanup()
        os.close(self._log)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def truth(self):
        """The attempts whose mail it has, in the order in which it got them."""
        return [json.loads(line)["attempt"] for line in self._truth.read_text().splitlines()]

    # What a provider publishes

    def lets_in(self, request):
        raise NotImplementedError

    async def mail(self, request):
        """What its request says, as `shapes.facts`; an Answer if it is refused."""
        raise NotImplementedError

    def forbidden(self):
        raise NotImplementedError

    def success(self, number):
        raise NotImplementedError

    # The server

    async def _elsewhere(self, request):
        return web.Response(status=404, text="Not Found")

    async def _post(self, request):
        self.requests += 1
        fault = self.faults.popleft() if self.faults else self.always
        if fault.cut in {"before", "in"}:
            await request.content.read(1 if fault.cut == "in" else 0)
            return _reset(request)
        try:
            answer = Answer(fault.status, b"", fault.headers) if fault.early else await self._judge(request, fault)
        except ConnectionResetError:  # half a body is no mail
            return web.Response()
        if fault.cut == "after":
            return _reset(request)
        if fault.hang:
            await self.released.wait()
        await asyncio.sleep(fault.latency_s)
        if fault.raw is not None:
            request.transport.write(fault.raw)
            return _reset(request, politely=True)
        return await _respond(request, answer, fault)

    async def _judge(self, request, fault):
        if not self.lets_in(request):
            return self.forbidden()
        mail = await self.mail(request)
        if isinstance(mail, Answer):
            return mail
        if fault.is_usual or fault.accepts:
            self.mails.append(mail)
            line = {"attempt": int(mail["headers"]["x-rotord-attempt"]), "message_id": mail["headers"]["message-id"], "to": mail["to"][1]}
            os.write(self._log, json.dumps(line).encode() + b"\n")
        if fault.status:
            return Answer(fault.status, fault.body if fault.body is not None else b"", fault.headers)
        success = self.success(len(self.mails))
        return Answer(success.status, success.body if fault.body is None else fault.body, success.headers | fault.headers)


async def _respond(request, answer, fault):
    response = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"} | answer.headers)
    response.content_length = len(answer.body)
    with suppress(ConnectionResetError):  # the client did not wait for it
        await response.prepare(request)
        for octets in [answer.body] if not fault.drip_s else [bytes([octet]) for octet in answer.body]:
            await response.write(octets)
            await asyncio.sleep(fault.drip_s)
        await response.write_eof()
    return response


def _reset(request, *, politely=False):
    if politely:
        request.transport.close()
    else:
        request.transport.abort()
    return web.Response()
