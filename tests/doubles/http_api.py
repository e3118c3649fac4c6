"""What the doubles of the three providers share: a server on loopback that keeps a truth log on disk and misbehaves on order.

A subclass says where mail is posted, whom it lets in, what it refuses and what it answers, all as its provider publishes it; its look-ups
and webhooks tell what happened to each mail (happenings.py, webhooks.py). The truth log has a line for each mail that the provider has,
written before any answer, so that a kill loses none; who starts on an old log still has its mails.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from tests.doubles.happenings import Happenings, Taken

if TYPE_CHECKING:
    from tests.doubles.webhooks import Webhook

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
    """One provider. `faults` are for the next requests, one each; after them `pattern`, an endless iterator, has them, or else `chances`
    are drawn, and `always` holds for the rest.

    `lag_s`: how long until look-ups know of what happened. `webhook_url`: who is told of it, `speed` times as fast as published.
    `credits`: how many mails it still takes, None: any number. `extra`: functions that get the double and return more routes.
    """

    path: str
    key = "the-right-key"
    webhook_kind: type[Webhook]

    def __init__(self, directory, *, idle_s=75.0, port=0, lag_s=0.0, webhook_url="", speed=1.0, seed=0, extra=()):
        self.faults, self.look_up_faults = deque(), deque()
        self.chances = ()
        self.pattern = None
        self.always = FINE
        self.requests = 0
        self.mails = []
        self.credits = None
        self.disabled_domains = set()
        self.port = port
        self.released = asyncio.Event()
        self._draw = random.Random(seed)
        self._extra = extra
        self._idle_s = idle_s
        self._truth = directory / f"{type(self).__name__}.jsonl"
        self.happenings = Happenings(directory / f"{type(self).__name__}.happenings.jsonl", lag_s)
        self.webhook = self.webhook_kind(self, webhook_url, speed)

    async def __aenter__(self):
        app = web.Application(client_max_size=_LARGEST_REQUEST)
        app.router.add_routes([web.post(self.path, self._post), *self.routes(), *(one for more in self._extra for one in more(self))])
        app.router.add_get("/{anything:.*}", self._elsewhere)
        if self._truth.exists():
            self.happenings.remember(Taken(**json.loads(line)) for line in self._truth.read_text().splitlines())
        self._log = os.open(self._truth, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._runner = web.AppRunner(app, keepalive_timeout=self._idle_s, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await self._listen()
        self._posting = asyncio.TaskGroup()
        await self._posting.__aenter__()
        self.webhook.start(self._posting)
        return self

    async def __aexit__(self, *_):
        self.released.set()
        await self.webhook.stop()
        await self._posting.__aexit__(None, None, None)
        await self._runner.cleanup()
        os.close(self._log)

    async def _listen(self):
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]

    @asynccontextmanager
    async def outage(self):
        """Nobody listens: connections are refused, those that are open are reset. It comes back on the same port."""
        for connection in list(self._runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()
        for site in list(self._runner.sites):
            await site.stop()
        try:
            yield
        finally:
            await self._listen()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def truth(self):
        """The attempts whose mail it has, in the order in which it got them."""
        return [line["attempt"] for line in self.truth_lines()]

    def truth_lines(self):
        """Everything that it wrote of each."""
        return [json.loads(line) for line in self._truth.read_text().splitlines()]

    def happens(self, attempt, kind, **details):
        """Let something befall a mail that it has (happenings.KINDS); look-ups and webhooks tell of it."""
        self.webhook.tell(self.happenings.add(attempt, kind, details))

    # What a provider publishes

    def lets_in(self, request):
        raise NotImplementedError

    def routes(self):
        """Its look-ups."""
        return []

    async def mail(self, request):
        """What its request says, as `shapes.facts`, and under "echo" what events bring back of it; an Answer if it is refused."""
        raise NotImplementedError

    def provider_id(self, number):
        raise NotImplementedError

    def barred(self, mail):
        """The answer to a mail of a disabled domain."""
        raise NotImplementedError

    def broke(self):
        """The answer when its credits are used up."""
        raise NotImplementedError

    def forbidden(self):
        raise NotImplementedError

    def success(self, provider_id):
        raise NotImplementedError

    # The server

    async def _elsewhere(self, request):
        return web.Response(status=404, text="Not Found")

    async def _post(self, request):
        self.requests += 1
        fault = self.faults.popleft() if self.faults else self._drawn()
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
        echo = mail.pop("echo")
        if mail["from"][1].rpartition("@")[2] in self.disabled_domains:
            return self.barred(mail)
        if self.credits is not None and self.credits <= 0:
            return self.broke()
        provider_id = self.provider_id(self.happenings.count + 1)
        if fault.is_usual or fault.accepts:
            self._take(mail, echo, provider_id, lost=fault.cut == "after" or bool(fault.status))
        if fault.status:
            return Answer(fault.status, fault.body if fault.body is not None else b"", fault.headers)
        success = self.success(provider_id)
        return Answer(success.status, success.body if fault.body is None else fault.body, success.headers | fault.headers)

    def _drawn(self):
        if self.pattern is not None:
            return next(self.pattern)
        draw = self._draw.random() if self.chances else 1.0
        for share, fault in self.chances:
            if draw < share:
                return fault
            draw -= share
        return self.always

    def _take(self, mail, echo, provider_id, *, lost):
        self.mails.append(mail)
        if self.credits is not None:
            self.credits -= 1
        headers = mail["headers"]
        line = {"at": time.time(), "attempt": int(headers["x-rotord-attempt"]), "message_id": headers["message-id"], "to": mail["to"][1]}
        line |= {"sender": mail["from"][1], "subject": mail["subject"], "provider_id": provider_id, "echo": echo}
        line |= {"row": headers.get("x-row", ""), "lost": lost}
        os.write(self._log, json.dumps(line).encode() + b"\n")
        for happening in self.happenings.take(Taken(**line)):
            self.webhook.tell(happening)

    async def looked_up(self, request, answer):
        """A look-up's way in and out; `answer` is a coroutine function that gives it."""
        fault = self.look_up_faults.popleft() if self.look_up_faults else FINE
        if fault.cut:
            return _reset(request)
        if not self.lets_in(request):
            return await _respond(request, self.forbidden(), fault)
        told = Answer(fault.status, fault.body or b"", fault.headers) if fault.status else await answer(request)
        await asyncio.sleep(fault.latency_s)
        return await _respond(request, told._replace(body=told.body if fault.body is None else fault.body), fault)


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
