"""The bounds of the listener against clients that are slow, rude, many or wrong."""

import asyncio
import contextlib
import os
import resource
import socket
import struct

import pytest
import structlog
import uvloop
from aiohttp import web
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rotord.core.unsubscribe import token
from rotord.engine.waiting import wait
from rotord.web.body import Room, read_body
from rotord.web.listener import Bounds, ListenError, bind
from rotord.web.ports import Addressee
from rotord.web.unsubscribe import UnsubscribeRoute
from tests.web.site import KEY, hang_up, raw, running_listener

QUICK = Bounds(connections=2, headers_s=0.2, answer_s=1.0, idle_s=0.5)


SLOW_HEADERS = Bounds(headers_s=0.2, idle_s=60.0)


async def hello(_request, tail):
    return web.Response(text=f"hello {tail}")


async def echo(request, _tail):
    return web.Response(body=await read_body(request, 100, 0.2))


async def broken(_request, _tail):
    raise RuntimeError("secret of the inside")


async def stuck(_request, _tail):
    await asyncio.Event().wait()


ROUTES = {
    "/hello": {"GET": hello},
    "/u/": {"GET": hello, "POST": echo},
    "/broken": {"GET": broken},
    "/stuck": {"GET": stuck},
}


def request(line, *headers, body=b""):
    return "\r\n".join([f"{line} HTTP/1.1", "Host: x", *headers, "", ""]).encode() + body


def parts(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}, body


CLOSE = "Connection: close"


async def test_routes_and_what_is_none():
    answers = {}
    answered = []
    async with running_listener(ROUTES, QUICK, lambda *seen: answered.append(seen)) as port:
        for line in ("GET /hello", "GET /hello?x=1", "HEAD /hello", "GET /u/abc", "GET /u/", "GET /u/a/b", "GET /", "GET /hello/",
                     "POST /hello", "DELETE /u/abc", "OPTIONS *"):  # fmt: skip
            answers[line] = parts(await raw(port, request(line, CLOSE)))

    assert {line: answer[0] for line, answer in answers.items()} == {
        "GET /hello": 200, "GET /hello?x=1": 200, "HEAD /hello": 200, "GET /u/abc": 200, "GET /u/": 404, "GET /u/a/b": 404, "GET /": 404,
        "GET /hello/": 404, "POST /hello": 405, "DELETE /u/abc": 405, "OPTIONS *": 404,
    }  # fmt: skip
    assert answers["HEAD /hello"][1]["content-length"] == "6"
    assert answers["HEAD /hello"][2] == b""
    assert answers["GET /u/abc"][2] == b"hello abc"
    assert answers["DELETE /u/abc"][1]["allow"] == "GET,HEAD,POST"
    assert answers["GET /"][1]["content-type"].startswith("text/plain")
    assert answered[:2] == [("/hello", 200)] * 2
    assert ("", 404) in answered


async def test_every_answer_keeps_its_mouth_shut(caplog):
    async with running_listener(ROUTES, QUICK) as port:
        answers = [
            await raw(port, sent)
            for sent in (
                request("GET /hello", CLOSE),
                request("GET /none", CLOSE),
                request("GET /broken", CLOSE),
                b"\x16\x03\x01 no http\r\n\r\n",
            )
        ]

    assert [parts(answer)[0] for answer in answers] == [200, 404, 500, 400]
    for answer in answers:
        headers = parts(answer)[1]
        assert headers["server"] == "rotord"
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert b"secret" not in answer
        assert b"aiohttp" not in answer.lower()
    assert caplog.text.count("secret of the inside") > 0


@pytest.mark.parametrize(
    "sent",
    [
        request("POST /u/a", "Content-Length: 3", "Transfer-Encoding: chunked", CLOSE, body=b"0\r\n\r\n"),
        request("POST /u/a", "Content-Length: 3", "Content-Length: 4", CLOSE, body=b"abcd"),
        request("POST /u/a", "Content-Length: -1", CLOSE),
        request("POST /u/a", "Content-Length: +3", CLOSE, body=b"abc"),
        request("POST /u/a", "Transfer-Encoding: chunked, identity", CLOSE, body=b"0\r\n\r\n"),
        request("POST /u/a", "Transfer-Encoding : chunked", CLOSE, body=b"0\r\n\r\n"),
        request("POST /u/a", "Transfer-Encoding: chunked", CLOSE, body=b"zz\r\n\r\n"),
        request("GET /hello", "X: " + "a" * 10_000, CLOSE),
        request("GET /hello", *[f"X-{i}: a" for i in range(200)], CLOSE),
        request("GET /" + "a" * 10_000, CLOSE),
        request("GET /hello", "X: a\0b", CLOSE),
    ],
    ids=["cl-te", "two-lengths", "negative", "plus", "te-list", "te-space", "bad-chunk", "long-header", "many-headers", "long-line", "nul"],
)
async def test_what_could_be_read_in_two_ways_is_refused(sent):
    async with running_listener(ROUTES, QUICK) as port:
        assert parts(await raw(port, sent))[0] == 400


async def test_bodies_have_a_size_and_a_time():
    async with running_listener(ROUTES, QUICK) as port:
        fits = await raw(port, request("POST /u/a", "Content-Length: 100", CLOSE, body=b"x" * 100))
        chunked = await raw(port, request("POST /u/a", "Transfer-Encoding: chunked", CLOSE, body=b"3\r\nabc\r\n0\r\n\r\n"))
        long = await raw(port, request("POST /u/a", "Content-Length: 101", CLOSE, body=b"x" * 101))
        slow = await raw(port, request("POST /u/a", "Content-Length: 10", CLOSE, body=b"x"))
        huge = await raw(port, request("POST /u/a", "Content-Length: 1000000000", CLOSE))
        packed = await raw(port, request("POST /u/a", "Content-Length: 1", "Content-Encoding: br", CLOSE, body=b"x"))

    assert (parts(fits)[0], parts(fits)[2]) == (200, b"x" * 100)
    assert (parts(chunked)[0], parts(chunked)[2]) == (200, b"abc")
    assert [parts(answer)[0] for answer in (long, slow, huge, packed)] == [413, 408, 413, 415]


@pytest.mark.parametrize("sent", [b"", b"GET /hello HTTP/1.1\r\nHost: x\r\n"], ids=["silent", "slow"])
async def test_slow_headers_are_cut(sent):
    async with running_listener(ROUTES, SLOW_HEADERS) as port:
        assert await raw(port, sent, within_s=3.0) == b""


async def test_slow_headers_of_a_second_request_are_cut():
    async with running_listener(ROUTES, SLOW_HEADERS) as port, asyncio.timeout(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("GET /hello"))
        await reader.readuntil(b"hello ")
        writer.write(b"GET /he")
        assert await reader.read() == b""
        await hang_up(writer)


async def test_headers_that_trickle_in_are_cut_too():
    trickled, ended = 0, asyncio.Event()

    async def read(reader):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        ended.set()

    async with running_listener(ROUTES, SLOW_HEADERS) as port, asyncio.timeout(5), asyncio.TaskGroup() as group:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        group.create_task(read(reader))
        writer.write(b"GET /hello HTTP/1.1\r\nX: ")
        while not ended.is_set():
            writer.write(b"a")
            trickled += 1
            await wait(ended, 0.02)
        await hang_up(writer)

    assert trickled > 1


async def test_a_handler_has_its_time():
    async with running_listener(ROUTES, Bounds(answer_s=0.1)) as port:
        status, headers, _ = parts(await raw(port, request("GET /stuck", CLOSE)))

    assert (status, headers["retry-after"]) == (503, "60")


async def test_who_finds_no_place_waits_and_idle_ones_make_room():
    async with running_listener(ROUTES, Bounds(connections=2)) as port:
        idle = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request("GET /hello"))
            assert (await reader.readuntil(b"hello ")).startswith(b"HTTP/1.1 200")
            idle.append((reader, writer))
        answers = [await raw(port, request("GET /hello", CLOSE)) for _ in range(3)]
        assert await idle[0][0].read() == b""
        for _, writer in idle:
            await hang_up(writer)

    assert [parts(answer)[0] for answer in answers] == [200] * 3


async def test_a_connection_that_others_wait_for_closes_after_its_answer():
    entered, leave = asyncio.Event(), asyncio.Event()

    async def held(_request, _tail):
        entered.set()
        await leave.wait()
        return web.Response(text="held")

    async with running_listener({**ROUTES, "/held": {"GET": held}}, Bounds(connections=1)) as port, asyncio.TaskGroup() as group:
        first = group.create_task(raw(port, request("GET /held")))
        await entered.wait()
        second = group.create_task(raw(port, request("GET /hello", CLOSE)))
        await wait(asyncio.Event(), 0.2)  # until it has been accepted, which nothing shows
        leave.set()

    assert parts(first.result())[1]["connection"] == "close"
    assert parts(second.result())[2] == b"hello "


async def test_a_crowd_on_few_places_is_served():
    async with running_listener(ROUTES, Bounds(connections=8)) as port, asyncio.TaskGroup() as group:
        crowd = [group.create_task(raw(port, request("GET /hello", CLOSE), within_s=20)) for _ in range(300)]

    assert {parts(one.result())[0] for one in crowd} == {200}


async def test_what_is_being_answered_is_finished_at_the_end():
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(_request, _tail):
        entered.set()
        await leave.wait()
        return web.Response(text="done")

    async with asyncio.TaskGroup() as group, running_listener({"/slow": {"GET": slow}}, Bounds()) as port:
        answer = group.create_task(raw(port, request("GET /slow")))
        await entered.wait()
        asyncio.get_running_loop().call_later(0.1, leave.set)

    assert parts(answer.result())[2] == b"done"


async def test_clients_that_are_gone_before_they_are_accepted_cost_nothing(caplog):
    entered, leave = asyncio.Event(), asyncio.Event()

    async def held(_request, _tail):
        entered.set()
        await leave.wait()
        return web.Response()

    async with running_listener({**ROUTES, "/held": {"GET": held}}, Bounds(connections=1)) as port, asyncio.TaskGroup() as group:
        group.create_task(raw(port, request("GET /held", CLOSE)))
        await entered.wait()
        for sent in (b"", request("GET /hello"), request("POST /u/a", "Content-Length: 50")):
            for _ in range(5):
                gone = socket.create_connection(("127.0.0.1", port))
                gone.send(sent)
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
                gone.close()
        leave.set()
        assert parts(await raw(port, request("GET /hello", CLOSE)))[0] == 200

    assert [record for record in caplog.records if record.levelname in {"ERROR", "WARNING"}] == []


async def test_it_ends_while_someone_waits_for_a_place():
    async with asyncio.TaskGroup() as group, running_listener(ROUTES, Bounds(connections=1)) as port:
        held = group.create_task(raw(port, request("GET /stuck")))
        waiting = group.create_task(raw(port, request("GET /hello", CLOSE)))
        await wait(asyncio.Event(), 0.1)

    assert (held.result(), waiting.result()) == (b"", b"")


async def test_without_a_free_file_it_tries_again():
    loop = asyncio.get_running_loop()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with running_listener(ROUTES, Bounds()) as port:
        client = socket.socket()
        client.setblocking(False)
        fillers = []
        with structlog.testing.capture_logs() as logs:
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 20, hard))
            try:
                with contextlib.suppress(OSError):
                    while True:
                        fillers.append(os.dup(client.fileno()))
                await loop.sock_connect(client, ("127.0.0.1", port))
                async with asyncio.timeout(5):
                    while "connection_not_accepted" not in {line["event"] for line in logs}:  # noqa: ASYNC110 - the log tells nobody
                        await asyncio.sleep(0.01)
            finally:
                for filler in fillers:
                    os.close(filler)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await loop.sock_sendall(client, request("GET /hello", CLOSE))
        async with asyncio.timeout(5):
            answer = await loop.sock_recv(client, 4096)
        client.close()

    assert parts(answer)[0] == 200


async def test_a_dropped_client_is_nobodys_error(caplog):
    async with running_listener(ROUTES, Bounds(connections=1)) as port:
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request("POST /u/a", "Content-Length: 50", body=b"x"))
            writer.transport.abort()
            await hang_up(writer)
        assert parts(await raw(port, request("GET /hello", CLOSE)))[0] == 200

    assert [record for record in caplog.records if record.levelname in {"ERROR", "WARNING"}] == []


# The daemon runs on uvloop, the tests on asyncio: both must be right.
ON_BOTH_LOOPS = [
    test_routes_and_what_is_none,
    test_bodies_have_a_size_and_a_time,
    test_headers_that_trickle_in_are_cut_too,
    test_who_finds_no_place_waits_and_idle_ones_make_room,
    test_a_crowd_on_few_places_is_served,
    test_what_is_being_answered_is_finished_at_the_end,
    test_it_ends_while_someone_waits_for_a_place,
    test_without_a_free_file_it_tries_again,
]
WITH_LOG = [
    test_every_answer_keeps_its_mouth_shut,
    test_clients_that_are_gone_before_they_are_accepted_cost_nothing,
    test_a_dropped_client_is_nobodys_error,
]


@pytest.mark.parametrize("test", [*ON_BOTH_LOOPS, *WITH_LOG], ids=lambda test: test.__name__)
def test_on_the_daemons_own_loop(test, caplog):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test(caplog) if test in WITH_LOG else test())


# -- binding ------------------------------------------------------------------------------------------------------------------------


def test_a_busy_port_is_one_clear_sentence():
    with bind("127.0.0.1:0") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError) as refused:
            bind(f"127.0.0.1:{port}")

    assert str(refused.value) == (
        f"http.listen: cannot listen on 127.0.0.1:{port}: another process listens there (a second rotord?);"
        " set it to an address that is free"
    )


@pytest.mark.parametrize("listen", ["192.0.2.1:80", "no-such-host.invalid:80"])
def test_an_address_that_is_not_ours_is_said_to_be_so(listen):
    with pytest.raises(ListenError, match=r"^http\.listen: cannot listen on"):
        bind(listen)


@pytest.mark.parametrize(("listen", "family"), [("[::1]:0", socket.AF_INET6), ("localhost:0", None), ("0.0.0.0:0", socket.AF_INET)])
def test_addresses_of_both_families(listen, family):
    with bind(listen) as bound:
        assert family is None or bound.family == family


# -- anything at all ----------------------------------------------------------------------------------------------------------------

METHODS = st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS", "TRACE", "CONNECT", "BREW"])
LETTERS = st.characters(min_codepoint=0x21, max_codepoint=0xFF)
TOKEN = token(KEY, 1)
FORM = b"List-Unsubscribe=One-Click"
BODIES = st.one_of(st.binary(max_size=200), st.sampled_from([FORM, b"unsubscribe=page", b"1a\r\n" + FORM + b"\r\n0\r\n\r\n"]))
PATHS = st.one_of(
    st.just(f"/u/{TOKEN}"),
    st.builds(lambda at, letter: f"/u/{TOKEN[:at]}{letter}{TOKEN[at + 1 :]}", st.integers(0, 31), LETTERS),
    st.sampled_from(["/hello", "/u/a", "/u/%00", "/u/%2e%2e", "//u/a", "*", "http://x/hello", "/u/a?%", "/u/\xe9", "/%zz"]),
    st.text(LETTERS, min_size=1).map(lambda text: "/u/" + text),
)
ODD_HEADERS = """\
Content-Length: 5
Content-Length: 26
Content-Type: application/x-www-form-urlencoded
Transfer-Encoding: chunked
Expect: 100-continue
Content-Encoding: gzip
Upgrade: websocket
Connection: upgrade
Accept-Language: ru;q=x
Content-Type: multipart/form-data
Content-Type: \xff
Host: y""".splitlines()
HEADERS = st.lists(
    st.one_of(st.sampled_from(ODD_HEADERS), st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=30)), max_size=4
)


@settings(max_examples=150, deadline=None)
@example("POST", f"/u/{TOKEN}", ["Content-Length: 26"], FORM)
@example("POST", f"/u/{TOKEN}", ["Transfer-Encoding: chunked"], b"1a\r\n" + FORM + b"\r\n0\r\n\r\n")
@given(METHODS, PATHS, HEADERS, BODIES)
def test_nothing_a_client_sends_is_our_fault(method, path, headers, body):
    unsubscribed = []

    async def find(_row):
        return Addressee("Acme", "jane@example.org")

    async def unsubscribe(row, source):
        unsubscribed.append((row, source))
        return await find(row)

    async def check():
        routes = {"/hello": {"GET": hello}, "/u/": UnsubscribeRoute((KEY,), find, unsubscribe, lambda _: None, body_s=0.2).methods}
        async with running_listener(routes, QUICK) as port:
            sent = f"{method} {path} HTTP/1.1\r\nHost: x\r\n".encode("latin-1")
            sent += b"".join(header.encode("latin-1") + b"\r\n" for header in headers) + b"Connection: close\r\n\r\n" + body
            answer = await raw(port, sent)
            status = parts(answer)[0] if answer else 0
            assert status < 500, answer
            assert len(unsubscribed) == (method == "POST" and status == 200)
            assert parts(await raw(port, request("GET /hello", CLOSE)))[0] == 200

    asyncio.run(check())


async def test_bodies_share_a_room_that_is_given_back():
    room = Room(150)

    async def shared(request, _tail):
        with room.share() as share:
            return web.Response(body=await read_body(request, 100, 1.0, share))

    async with running_listener({"/u/": {"POST": shared}}, Bounds()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("POST /u/x", "Content-Length: 100", CLOSE, body=b"x" * 90))
        while room.take(61):  # until the first body's 90 are there
            room.give(61)
            await asyncio.sleep(0)
        assert parts(await raw(port, request("POST /u/x", "Content-Length: 100", CLOSE, body=b"x" * 100)))[0] == 503
        writer.write(b"x" * 10)
        assert parts(await reader.read())[0] == 200
        await hang_up(writer)
        assert parts(await raw(port, request("POST /u/x", "Content-Length: 100", CLOSE, body=b"x" * 100)))[0] == 200
