"""The life of sessions: opened in the background, kept, checked, dropped, and opened again after an outage."""

from __future__ import annotations

import asyncio
import json

import pytest

from rotord.core.model import Blame, Outcome
from rotord.core.replies import Phase
from rotord.core.return_path import attempt_of
from rotord.providers.smtp import SmtpProvider
from rotord.receiver import Receiver, ReceiverConfig
from tests.doubles.smtp_server import HANG, ScriptedServer
from tests.providers.support import MIME, envelope, running, send, send_by, slot_of, smtp, smtp_config, until


class Clock:
    """A hand on the provider's own clock; the loop's stays real."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


async def test_as_many_sessions_as_wanted_are_opened_within_the_bound():
    async with ScriptedServer() as server, smtp(server.port, connections=3) as provider:
        await until(lambda: provider.ready() == 1)  # the warm one
        provider.want(50)
        await until(lambda: provider.ready() == 3)

        assert len(server.sessions) == 3
        assert [provider.take() is not None for _ in range(4)] == [True, True, True, False]
        assert (provider.status().in_flight, provider.status().capacity) == (3, 3)


async def test_a_slot_given_back_is_ready_again_and_says_so():
    woken = []
    async with ScriptedServer() as server, smtp(server.port, connections=1) as provider:
        slot = await slot_of(provider)
        provider.on_ready(lambda: woken.append(True))
        slot.give_back()

        assert (provider.ready(), woken) == (1, [True])


async def test_a_session_the_server_closed_is_never_handed_out():
    async with ScriptedServer() as server, smtp(server.port, connections=2) as provider:
        provider.want(2)
        await until(lambda: provider.ready() == 2)
        server.cut()
        await until(lambda: provider.ready() == 0 or len(server.sessions) > 0)

        assert (await send(provider)).outcome is Outcome.ACCEPTED


async def test_an_idle_session_is_asked_whether_it_lives_and_surplus_ones_are_closed():
    clock = Clock()
    async with ScriptedServer() as server:
        provider = SmtpProvider(smtp_config(server.port, connections=3), clock)
        async with running(provider):
            provider.want(3)
            await until(lambda: provider.ready() == 3)
            clock.now += 11
            await until(lambda: server.commands.count(b"RSET") == 3 and provider.ready() == 3)
            clock.now += 61
            await until(lambda: server.commands.count(b"QUIT") == 2 and provider.ready() == 1)


async def test_a_dead_idle_session_is_found_before_a_message_is_given_to_it():
    clock = Clock()
    async with ScriptedServer({"rset": b"421 4.4.2 idle too long\r\n"}) as server:
        provider = SmtpProvider(smtp_config(server.port, connections=1), clock)
        async with running(provider):
            await until(lambda: provider.ready() == 1)
            clock.now += 11
            await until(lambda: len(server.sessions) == 2 and provider.ready() == 1)

            assert (await send(provider)).outcome is Outcome.ACCEPTED


async def test_a_relay_that_is_away_is_down_with_a_reason_and_back_soon_after_it_is():
    async with ScriptedServer() as gone:
        port = gone.port
    async with smtp(port) as provider:
        provider.want(4)
        await until(lambda: provider.status().up is False)

        assert "connection refused" in provider.status().reason
        assert provider.status().next_try_in_s <= 1.0
        async with ScriptedServer(port=port):
            assert (await send(provider)).outcome is Outcome.ACCEPTED
            assert provider.status().up


def test_a_configuration_shown_in_a_traceback_shows_no_password():
    assert "secret" not in repr(smtp_config(25, username="relay", password="secret"))


async def test_a_name_that_does_not_resolve_is_a_reason():
    async with smtp(25, host="no-such-host.invalid") as provider:
        await until(lambda: provider.status().up is False)

        assert "no such host" in provider.status().reason


@pytest.mark.parametrize("action", [b"554 5.7.1 go away\r\n", b"421 4.3.2 not now\r\n", HANG, "close", b"garbage\r\n"])
async def test_a_greeting_that_is_none_takes_the_provider_down(action):
    async with ScriptedServer({Phase.GREETING: action}) as server, smtp(server.port, connect_timeout_s=0.2) as provider:
        await until(lambda: provider.status().up is False)

        assert str(server.port) in provider.status().reason


async def test_too_many_connections_is_learned_and_not_an_outage():
    async with ScriptedServer() as server, smtp(server.port, connections=8) as provider:
        await until(lambda: provider.ready() == 1)
        server.script[Phase.GREETING] = (b"421 4.7.0 too many connections\r\n", "close")
        provider.want(8)
        await until(lambda: provider.status().capacity == 1)

        assert provider.status().up
        assert (await send(provider)).outcome is Outcome.ACCEPTED


async def test_a_server_that_greets_but_takes_no_message_is_not_given_one_after_another():
    async with ScriptedServer({Phase.MAIL: "close"}) as server, smtp(server.port) as provider:
        assert (await send(provider)).outcome is Outcome.NOT_SENT
        assert (provider.status().up, provider.ready()) == (False, 0)
        server.script.clear()
        assert (await send(provider)).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(
    ("changes", "blame"),
    [
        ({"recipient": "jörg@y.example"}, Blame.CONTENT),
        ({"recipient": "b@y.example>\r\nRCPT TO:<evil@z.example"}, Blame.RECIPIENT),
        ({"recipient": "b@\u2488com.\ud7ff"}, Blame.CONTENT),
        ({"sender": "a b@x.example"}, Blame.SENDER),
        ({"mime": MIME + b"x" * 2000 + b"\r\n"}, Blame.CONTENT),
        ({"mime": b"Subject: x\r\n\r\na\n.\nb\r\n"}, Blame.CONTENT),
    ],
)
async def test_what_the_server_could_not_carry_is_refused_before_the_wire(changes, blame):
    async with ScriptedServer({"ehlo": b"250-x\r\n250 SIZE 1000\r\n"}) as server, smtp(server.port) as provider:
        reply = await send(provider, envelope(**changes))

        assert (Outcome.REJECTED, blame) == (reply.outcome, reply.blame)
        assert not any(command.startswith(b"MAIL") for command in server.commands)
        assert provider.ready() == 1


async def test_a_bounce_can_find_its_attempt_where_dsn_is_offered():
    async with ScriptedServer({"ehlo": b"250-x\r\n250-DSN\r\n250 SIZE 9999\r\n"}) as server, smtp(server.port) as provider:
        await send(provider, envelope(123, recipient="b+tag=1@y.example"))

    assert b"MAIL FROM:<a@x.example> SIZE=%d RET=HDRS ENVID=123" % len(MIME) in server.commands
    assert b"RCPT TO:<b+tag=1@y.example> ORCPT=rfc822;b+2Btag+3D1@y.example" in server.commands


async def test_a_thousand_messages_over_ten_sessions_arrive_once_each(tmp_path):
    log = tmp_path / "truth.jsonl"
    async with Receiver(ReceiverConfig(log)) as receiver, smtp(receiver.port, connections=10) as provider:
        woken = asyncio.Event()
        provider.on_ready(woken.set)
        provider.want(10)
        left = iter(range(1000))
        async with asyncio.TaskGroup() as group:
            pending = next(left, None)
            while pending is not None:
                slot = provider.take()
                if slot is None:
                    woken.clear()
                    await woken.wait()
                    continue
                mime = b"X-Rotord-Attempt: %d\r\n" % pending + MIME
                group.create_task(send_by(slot, envelope(pending, mime=mime)))
                pending = next(left, None)

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(int(line["attempt"]) for line in lines) == list(range(1000))


async def test_a_relay_that_asks_for_less_is_given_a_rest_and_fewer_messages_at_once_and_is_not_down():
    async with ScriptedServer() as server, smtp(server.port, connections=4) as provider:
        provider.want(4)
        await until(lambda: provider.ready() == 4)
        server.script[Phase.MAIL] = b"450 4.7.28 unusual rate of mail, try again in 2 seconds\r\n"

        assert (await send(provider)).blame is Blame.RATE
        assert (provider.status().up, provider.ready(), provider.take(), provider.status().capacity) == (True, 0, None, 2)
        assert "asked for less" in provider.status().reason

        server.script.clear()
        await until(lambda: provider.ready() == 2)
        for capacity in (3, 4):
            assert (await send(provider)).outcome is Outcome.ACCEPTED
            assert provider.status().capacity == capacity

        assert provider.status().reason == ""


async def test_a_rehearsals_message_gives_no_attempt_that_a_bounce_could_bring_back():
    async with ScriptedServer({"ehlo": b"250-x\r\n250 DSN\r\n"}) as server, smtp(server.port, is_rehearsal=True) as provider:
        await send(provider)
    (command,) = (command for command in server.commands if command.startswith(b"MAIL"))

    assert b"ENVID=rehearsal-%d" % envelope().attempt_id in command


async def test_bounces_go_to_the_sender_or_to_a_return_path_of_the_attempt():
    key = b"0123456789abcdef"
    async with ScriptedServer({}) as server:
        async with smtp(server.port) as plain:
            await send(plain)
        async with smtp(server.port, return_path="bounces.{domain}", return_path_key=key) as own:
            await send(own)
    first, second = [command.split(b"<")[1].split(b">")[0].decode() for command in server.commands if command.startswith(b"MAIL")]

    assert first == "a@x.example"
    assert (second.rpartition("@")[2], attempt_of(key, second)) == ("bounces.x.example", envelope().attempt_id)
