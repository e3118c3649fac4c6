"""The life of an API provider: when it takes mail, how much at once, what stops it, and what never gets out."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading

import pytest
import structlog
import uvloop
from aiohttp.abc import AbstractStreamWriter

from rotord.core.mime import RenderError
from rotord.core.model import Blame, Outcome
from rotord.providers.http import ApiConfig, HttpProvider
from rotord.providers.http_request import Body, Request
from rotord.providers.mailgun import mailgun
from rotord.providers.sendgrid import SendgridApi, sendgrid
from rotord.providers.slowdown import FIRST_PAUSE_S, LONGEST_PAUSE_S, Slowdown
from rotord.providers.smtp2go import smtp2go
from tests.doubles.http_api import Fault
from tests.providers.http_support import KINDS, api, double
from tests.providers.shapes import envelope_of
from tests.providers.support import running, send, send_by, slot_of, until
from tests.providers.test_smtp_tls import certificate

EVERY = pytest.mark.parametrize("kind", KINDS)
PLAIN = envelope_of("plain")
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


async def test_an_unreachable_provider_gets_no_mail_until_it_answers(tmp_path):
    server = double("sendgrid", tmp_path, port=free_port())
    async with api("sendgrid", server, probe_max_s=1.0) as provider:
        await until(lambda: provider.status().up is False)
        woken = asyncio.Event()
        provider.on_ready(woken.set)

        assert (provider.ready(), provider.take()) == (0, None)
        assert "Cannot connect to host 127.0.0.1" in provider.status().reason
        async with server:
            await until(lambda: provider.ready() == 4)
            assert woken.is_set()
            assert (await send(provider, PLAIN)).outcome is Outcome.ACCEPTED


async def test_a_provider_that_went_away_fails_no_message(tmp_path):
    server = double("sendgrid", tmp_path)
    async with server, api("sendgrid", server) as provider:
        slot = await slot_of(provider)
        await server.__aexit__()
        reply = await send_by(slot, PLAIN)

        assert (reply.outcome, reply.blame) == (Outcome.NOT_SENT, Blame.NETWORK)
        assert provider.status().up is False
        assert provider.ready() == 0
        await server.__aenter__()


async def test_no_more_requests_at_once_than_its_slots(tmp_path):
    async with double("mailgun", tmp_path) as server, api("mailgun", server, max_in_flight=3) as provider:
        slots = [await slot_of(provider) for _ in range(3)]

        assert (provider.ready(), provider.take(), provider.status().in_flight) == (0, None, 3)
        slots.pop().give_back()
        assert provider.ready() == 1
        for slot in slots:
            assert (await send_by(slot, PLAIN)).outcome is Outcome.ACCEPTED
        assert (provider.ready(), provider.status().in_flight) == (3, 0)


@EVERY
async def test_a_wrong_key_stops_the_provider_and_costs_no_message(kind, tmp_path):
    async with double(kind, tmp_path) as server:
        right, server.key = server.key, "changed"
        async with api(kind, server, api_key=right, probe_max_s=0.2) as provider:
            first, second = await slot_of(provider), await slot_of(provider)
            reply = await send_by(first, PLAIN)

            assert (reply.outcome, reply.blame, reply.code[:3]) == (Outcome.NOT_SENT, Blame.ACCOUNT, "401")
            assert (provider.ready(), provider.status().up) == (0, False)
            assert provider.status().reason.startswith("401 ")
            await send_by(second, PLAIN)
            await until(lambda: provider.ready() > 0)

            assert provider.ready() == provider.status().capacity == 1  # on trial
            assert (await send(provider, PLAIN)).outcome is Outcome.NOT_SENT
            server.key = right
            assert (await send(provider, PLAIN)).outcome is Outcome.ACCEPTED
            assert provider.ready() == provider.status().capacity == 4


@EVERY
async def test_a_429_slows_the_provider_without_stopping_it(kind, tmp_path):
    async with double(kind, tmp_path) as server, api(kind, server) as provider:
        server.faults.append(Fault(status=429, headers={"Retry-After": "1"}))
        reply = await send(provider, PLAIN)
        status = provider.status()

        assert (reply.outcome, reply.blame, reply.retry_after_s) == (Outcome.DEFERRED, Blame.RATE, 1.0)
        assert (status.up, status.ready, status.capacity) == (True, 0, 2)
        assert status.reason.startswith("asked for less: 429")
        assert 0 < status.next_try_in_s <= 1
        woken = asyncio.Event()
        provider.on_ready(woken.set)
        async with asyncio.timeout(5):
            await woken.wait()
            while not provider.ready():
                woken.clear()
                await woken.wait()
        for capacity in (3, 4):
            assert (await send(provider, PLAIN)).outcome is Outcome.ACCEPTED
            assert provider.status().capacity == capacity
        assert provider.status().reason == ""


async def test_a_limit_of_one_domain_pauses_nobody(tmp_path):
    text = b'{"message": "Domain x.example is not allowed to send: request limit exceeded, try again after 120 seconds"}'
    async with double("mailgun", tmp_path) as server, api("mailgun", server) as provider:
        server.faults.append(Fault(status=429, body=text))
        reply = await send(provider, PLAIN)

        assert (reply.outcome, reply.retry_after_s) == (Outcome.DEFERRED, 120.0)
        assert (provider.status().up, provider.ready()) == (True, 2)


async def test_a_used_up_quota_is_not_tried_against(tmp_path):
    async with double("sendgrid", tmp_path) as server, api("sendgrid", server) as provider:
        server.remaining = 0
        reply = await send(provider, PLAIN)

        assert reply.outcome is Outcome.ACCEPTED
        assert (provider.ready(), provider.status().up, provider.status().capacity) == (0, True, 4)
        assert provider.status().next_try_in_s > 50


def test_a_slowdown_is_earned_back_and_pauses_grow_until_something_is_taken():
    now = [0.0]
    slowdown = Slowdown(8, lambda: now[0])
    pauses = []
    for _ in range(9):
        slowdown.paused(None, "429")
        slowdown.paused(None, "429 to a request from before the pause")
        pauses.append(slowdown.pause_s)
        now[0] += slowdown.pause_s

    assert pauses == [min(FIRST_PAUSE_S * 2**number, LONGEST_PAUSE_S) for number in range(9)]
    assert slowdown.slots == 1
    for _ in range(10):
        slowdown.took()
    assert (slowdown.slots, slowdown.reason) == (8, "")
    slowdown.paused(7200.0, "429")
    assert (slowdown.slots, slowdown.pause_s) == (4, LONGEST_PAUSE_S)
    slowdown.paused(0.0, "429")
    assert slowdown.pause_s == LONGEST_PAUSE_S


class RudeServer(threading.Thread):
    """Answers, and while the client's loop stands still it closes the idle connection unseen, or answers once more unasked."""

    def __init__(self, rudeness):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.may_be_rude, self.was_rude = threading.Event(), threading.Event()
        self.requests = []
        self.rudeness = rudeness

    def run(self):
        self.answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").close()  # the probe
        connection = self.answer(ACCEPTED)
        self.may_be_rude.wait(10)
        if self.rudeness == "closes":
            connection.close()
        else:
            connection.sendall(ACCEPTED if self.rudeness == "answers" else b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        self.was_rude.set()
        self.answer(ACCEPTED).close()
        connection.close()
        self.socket.close()

    def answer(self, answer):
        connection, _ = self.socket.accept()
        request = b""
        while b"\r\n\r\n" not in request or len(request.partition(b"\r\n\r\n")[2]) < length(request):
            request += connection.recv(65_536)
        self.requests.append(request)
        connection.sendall(answer)
        return connection


def length(request):
    lines = [line for line in request.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return int(lines[0].partition(b":")[2]) if lines else 0


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("rudeness", ["closes", "answers", "refuses"])
def test_what_happened_to_an_idle_connection_is_seen_before_the_body_leaves(loop_factory, rudeness):
    server = RudeServer(rudeness)
    server.start()

    async def scenario():
        config = ApiConfig("api", f"http://127.0.0.1:{server.port}", "key")
        async with running(HttpProvider(SendgridApi(config), config)) as provider:
            first = await send_by(await slot_of(provider), PLAIN)
            slot = provider.take()
            server.may_be_rude.set()
            server.was_rude.wait(10)
            return first, await send_by(slot, PLAIN)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        first, second = runner.run(scenario())
    server.join(10)

    assert (first.outcome, second.outcome) == (Outcome.ACCEPTED, Outcome.ACCEPTED)
    assert [request[:4] for request in server.requests] == [b"GET ", b"POST", b"POST"]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 200_000])
async def test_a_body_says_that_it_left_before_its_last_byte_does(size):
    body = Body(Request("", b"x" * size, "text/plain", {}))
    written = []

    class Open:
        should_close = False

        def is_connected(self):
            return True

    class Writer(AbstractStreamWriter):
        protocol = Open()

        async def write(self, chunk):
            written.append((len(chunk), body.left))

        write_eof = drain = write_headers = enable_compression = enable_chunking = None

    await body.write(Writer())

    assert sum(length for length, _ in written) == size == body.size
    assert [left for _, left in written] == [False] * (len(written) - 1) + [True]
    body.end()
    with pytest.raises(ConnectionResetError):
        await body.write(Writer())


async def test_a_server_with_a_certificate_that_does_not_verify_gets_nothing(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path, "self-signed", "127.0.0.1"))
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    config = ApiConfig("api", f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", "key")
    async with running(HttpProvider(SendgridApi(config), config)) as provider:
        await until(lambda: provider.status().up is False)

        assert "certificate verify failed" in provider.status().reason
        assert provider.take() is None
    server.close()


@EVERY
async def test_servers_that_close_idle_connections_early_cost_nothing(kind, tmp_path):
    async with double(kind, tmp_path, idle_s=0.05) as server, api(kind, server) as provider:
        for number in range(6):
            assert (await send(provider, envelope_of("plain", number))).outcome is Outcome.ACCEPTED
            await asyncio.sleep(0.04 + number * 0.01)

    assert server.truth() == list(range(6))


@EVERY
async def test_the_key_is_in_no_text_whatever_the_server_sends_back(kind, tmp_path):
    canary = "canary-SG.4f1c9e"
    async with double(kind, tmp_path) as server:
        server.key = canary
        seen = []
        with structlog.testing.capture_logs() as logs:
            async with api(kind, server, total_timeout_s=0.3, probe_max_s=0.05) as provider:
                secrets = provider._api.secrets
                echo = " ".join(secrets).encode()
                for fault in (
                    Fault(status=401, body=b'{"message": "%s", "error": "%s", "errors": [{"message": "%s"}]}' % (echo, echo, echo)),
                    Fault(status=400, body=echo),
                    Fault(status=200, body=echo),
                    Fault(status=500, body=echo),
                    Fault(raw=b"HTTP/1.1 2%s\r\n\r\n" % echo),
                    Fault(raw=echo + b"\r\n\r\n"),
                    Fault(cut="before"),
                    Fault(hang=True),
                ):
                    server.faults.append(fault)
                    seen += [await send(provider, PLAIN), provider.status()]
                seen += [provider._config, provider._api.request(PLAIN)]

    text = repr(seen) + repr(logs)
    assert [secret for secret in secrets if secret in text] == []
    assert "***" in text


async def test_redirects_are_not_followed_and_cookies_not_kept(tmp_path):
    async with double("sendgrid", tmp_path) as server, api("sendgrid", server, probe_max_s=0.1) as provider:
        server.faults.append(Fault(status=308, headers={"Location": f"{server.url}/v3/mail/send", "Set-Cookie": "a=b"}))
        reply = await send(provider, PLAIN)

        assert (reply.outcome, reply.blame) == (Outcome.NOT_SENT, Blame.ACCOUNT)
        assert (server.requests, server.truth()) == (1, [])


async def test_a_message_that_no_request_can_carry_fails_alone(tmp_path):
    async with double("mailgun", tmp_path) as server, api("mailgun", server) as provider:
        bad = PLAIN._replace(message=PLAIN.message._replace(recipient="two@x.example,three@x.example"))
        slot = await slot_of(provider)
        with pytest.raises(RenderError):
            slot.prepare(bad)
        slot.give_back()

        assert (provider.status().up, server.requests) == (True, 0)
        assert (await send(provider, PLAIN)).outcome is Outcome.ACCEPTED


async def test_after_its_end_nothing_is_sent(tmp_path):
    async with double("mailgun", tmp_path) as server:
        async with api("mailgun", server) as provider:
            slot = await slot_of(provider)
        reply = await send_by(slot, PLAIN)

    assert (reply.outcome, server.requests) == (Outcome.NOT_SENT, 0)


@pytest.mark.parametrize(("make", "kind"), [(mailgun, "mailgun"), (sendgrid, "sendgrid"), (smtp2go, "smtp2go")])
def test_each_kind_is_made_by_its_name(make, kind):
    provider = make(ApiConfig("main", "https://api.example", "key", max_in_flight=7, total_timeout_s=30.0))

    assert (provider.kind, provider.name, provider.attempt_timeout_s) == (kind, "main", 30.0)
    assert (provider.status().up, provider.status().capacity, provider.ready()) == (None, 7, 0)
