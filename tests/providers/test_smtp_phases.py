"""A server that misbehaves at every point of a session: what is called uncertain is what the server may have, and no more."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rotord.core.model import Blame, Outcome
from rotord.core.replies import Phase
from rotord.providers.smtp import SmtpProvider
from tests.doubles.smtp_server import CLOSE, HANG, ScriptedServer
from tests.providers.support import MIME, envelope, running, send, send_by, slot_of, smtp, smtp_config, until

BEFORE = (Phase.MAIL, Phase.RCPT, Phase.DATA)


@pytest.mark.parametrize("phase", BEFORE)
@pytest.mark.parametrize("action", [CLOSE, HANG, (b"999 what\r\n", ""), (b"hello\r\n", ""), (b"2" * 40_000, "")])
async def test_trouble_before_the_final_dot_proves_that_nothing_was_sent(phase, action):
    async with ScriptedServer({phase: action}) as server, smtp(server.port, command_timeout_s=0.1) as provider:
        slot = await slot_of(provider)
        reply = await send_by(slot, envelope())

    assert reply.outcome is Outcome.NOT_SENT
    assert not slot.body_left
    assert server.messages == []


@pytest.mark.parametrize("action", [CLOSE, HANG, (b"999 what\r\n", ""), (b"hello\r\n", ""), (b"354 again\r\n", "")])
async def test_trouble_after_the_final_dot_is_uncertain_for_the_server_has_the_message(action):
    async with ScriptedServer({Phase.FINAL_DOT: action}) as server, smtp(server.port, final_dot_timeout_s=0.1) as provider:
        slot = await slot_of(provider)
        reply = await send_by(slot, envelope())

    assert reply.outcome is Outcome.UNCERTAIN
    assert slot.body_left
    assert len(server.messages) == 1


@pytest.mark.parametrize("phase", [*BEFORE, Phase.FINAL_DOT])
@pytest.mark.parametrize(("answer", "outcome"), [(b"451 4.3.0 later\r\n", Outcome.DEFERRED), (b"550 5.6.0 never\r\n", Outcome.REJECTED)])
async def test_a_refusal_is_proven_and_the_session_goes_on(phase, answer, outcome):
    async with ScriptedServer({phase: answer}) as server, smtp(server.port, connections=1) as provider:
        first = await send(provider)
        del server.script[phase]
        second = await send(provider)

    assert (outcome, Outcome.ACCEPTED) == (first.outcome, second.outcome)
    assert len([command for command in server.commands if command.startswith(b"EHLO")]) == 1


@pytest.mark.parametrize("phase", [*BEFORE, Phase.FINAL_DOT])
async def test_a_421_refuses_the_message_and_ends_the_session(phase):
    async with ScriptedServer({phase: (b"421 4.7.0 slow down\r\n", CLOSE)}) as server, smtp(server.port) as provider:
        reply = await send(provider)

        assert reply.outcome is Outcome.DEFERRED
        del server.script[phase]
        assert (await send(provider)).outcome is Outcome.ACCEPTED


async def test_an_answer_followed_by_a_cut_is_an_answer():
    async with ScriptedServer({Phase.FINAL_DOT: (b"250 2.0.0 Ok: queued as 9\r\n", CLOSE)}) as server, smtp(server.port) as provider:
        reply = await send(provider)

    assert (reply.outcome, reply.provider_message_id) == (Outcome.ACCEPTED, "9")


async def test_multi_line_replies_are_read_to_their_end():
    script = {
        Phase.MAIL: b"250-2.1.0 one\r\n250-2.1.0 two\r\n250 2.1.0 three\r\n",
        Phase.FINAL_DOT: b"550-5.7.26 no\r\n550 5.7.26 DMARC\r\n",
    }
    async with ScriptedServer(script) as server, smtp(server.port) as provider:
        reply = await send(provider)

    assert (reply.outcome, reply.blame, reply.code, reply.text) == (Outcome.REJECTED, Blame.SENDER, "550 5.7.26", "no DMARC")


async def test_a_message_limit_per_connection_costs_the_message_nothing():
    limit = (b"421 Max message per connection reached, closing transmission channel\r\n", CLOSE)
    async with ScriptedServer() as server, smtp(server.port, connections=1) as provider:
        assert (await send(provider)).outcome is Outcome.ACCEPTED
        server.script[Phase.MAIL] = limit
        reply = await send(provider)
        del server.script[Phase.MAIL]

        assert reply.outcome is Outcome.NOT_SENT
        assert provider.status().up
        assert (await send(provider)).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(("phase", "left"), [(Phase.DATA, False), (Phase.FINAL_DOT, True)])
async def test_a_cancelled_send_cuts_the_session_and_knows_whether_the_body_left(phase, left):
    async with ScriptedServer({phase: HANG}) as server, smtp(server.port, connections=1) as provider:
        slot = await slot_of(provider)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(send_by(slot, envelope()))
            await until(lambda: bool(server.messages) if left else b"DATA" in server.commands)
            task.cancel()

        assert slot.body_left is left
        assert provider.status().in_flight == 0
        server.script.clear()
        assert (await send(provider)).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("size", [100_000, 3_000_000])
async def test_a_large_body_arrives_whole_and_undotted(size):
    mime = MIME + b".x" * 20 + b"\r\n" + b"." * 70 + b"\r\n" + (b"y" * 70 + b"\r\n.\r\n") * (size // 75)
    async with ScriptedServer() as server, smtp(server.port) as provider:
        reply = await send(provider, envelope(mime=mime))

    assert reply.outcome is Outcome.ACCEPTED
    assert mime == server.messages[0].replace(b"\r\n..", b"\r\n.")


@pytest.mark.parametrize(("mime", "kept"), [(b".first\r\nlast", b".first\r\nlast\r\n"), (b"\r\n.\r\n", b"\r\n.\r\n")])
async def test_dots_and_a_missing_line_end_change_nothing_else(mime, kept):
    async with ScriptedServer() as server, smtp(server.port) as provider:
        reply = await send(provider, envelope(mime=mime))

    assert reply.outcome is Outcome.ACCEPTED
    [wire] = server.messages
    assert b"".join(line.removeprefix(b".") for line in wire.splitlines(keepends=True)) == kept


async def test_a_server_that_reads_no_large_body_leaves_it_not_sent():
    async with ScriptedServer() as server, smtp(server.port, command_timeout_s=0.3) as provider:
        slot = await slot_of(provider)
        server.sessions[0].pause_reading()
        server.cut_after = None
        reply = await send_by(slot, envelope(mime=MIME + (b"y" * 70 + b"\r\n") * 400_000))

    assert reply.outcome is Outcome.NOT_SENT
    assert not slot.body_left


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut_after=st.integers(0, 420), padding=st.integers(0, 3))
def test_a_message_that_the_server_has_is_never_called_unsent(cut_after, padding):
    """Judged by the server: cut anywhere in the client's bytes, what it holds complete is accepted or uncertain."""

    async def attempt():
        async with ScriptedServer() as server:
            provider = SmtpProvider(smtp_config(server.port, connections=1))
            async with running(provider):
                slot = await slot_of(provider)
                session = server.sessions[0]
                server.cut_after = len(b"EHLO localhost\r\n") + cut_after
                assert not session.is_closing()
                return await send_by(slot, envelope(mime=MIME + b"z" * padding + b"\r\n")), slot.body_left, server.messages

    reply, body_left, messages = asyncio.run(attempt())

    if messages:
        assert reply.outcome in {Outcome.ACCEPTED, Outcome.UNCERTAIN}
        assert body_left
    else:
        assert reply.outcome in {Outcome.NOT_SENT, Outcome.UNCERTAIN}
        assert (reply.outcome is Outcome.UNCERTAIN) == body_left
