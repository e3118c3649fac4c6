"""The three APIs misbehave at every point of a request: whatever happened, no reply calls a mail refused that the provider has."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rotord.core.model import Attachment, Blame, Outcome
from tests.doubles.http_api import Fault
from tests.doubles.tcp_cut import CutRelay
from tests.providers.http_support import KINDS, api, base_url, double
from tests.providers.shapes import envelope_of
from tests.providers.support import send, send_by, slot_of, until

MAY_HAVE_IT = {Outcome.ACCEPTED, Outcome.UNCERTAIN}
EVERY = pytest.mark.parametrize("kind", KINDS)


def huge(attempt_id):
    """More than the kernel takes at once."""
    plain = envelope_of("plain", attempt_id)
    file = Attachment("huge.txt", "text/plain", b"x" * 12_000_000)
    return plain._replace(message=plain.message._replace(attachments=(file,)), mime=plain.mime + file.content)


@EVERY
@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut="after", accepts=True),
        Fault(status=500, accepts=True),
        Fault(status=503, accepts=True, body=b"<html>"),
        Fault(accepts=True, hang=True),
        Fault(status=408, accepts=True),
        Fault(accepts=True, raw=b"garbage\r\n\r\n"),
        Fault(accepts=True, raw=b"HTTP/1.1 "),
        Fault(accepts=True, raw=b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"),
        Fault(accepts=True, raw=b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
        Fault(accepts=True, status=200, body=b"<html>Hello</html>"),
        Fault(accepts=True, status=200, body=b'{"wrong": "json"}'),
        Fault(accepts=True, status=200, body=b"x" * 1_000_000),
        Fault(accepts=True, status=299, drip_s=0.01, body=b"x" * 100_000),
    ],
)
async def test_what_it_has_taken_is_never_called_refused(kind, fault, tmp_path):
    async with double(kind, tmp_path) as server, api(kind, server, total_timeout_s=0.5) as provider:
        server.faults.append(fault)
        slot = await slot_of(provider)
        reply = await send_by(slot, envelope_of("plain", 7))

    assert reply.outcome is Outcome.UNCERTAIN, reply
    assert slot.body_left
    assert server.truth() == [7]


@EVERY
@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault(latency_s=0.05), Outcome.ACCEPTED),
        (Fault(status=429, headers={"Retry-After": "3"}), Outcome.DEFERRED),
        (Fault(status=400, body=b"{}"), Outcome.REJECTED),
        (Fault(status=500), Outcome.UNCERTAIN),
        (Fault(cut="before"), Outcome.UNCERTAIN),
        (Fault(cut="in"), Outcome.UNCERTAIN),
        (Fault(cut="after"), Outcome.UNCERTAIN),
    ],
)
async def test_an_answer_is_an_answer_and_a_small_body_leaves_with_its_head(kind, fault, outcome, tmp_path):
    async with double(kind, tmp_path) as server, api(kind, server, total_timeout_s=2.0) as provider:
        server.faults.append(fault)
        reply = await send(provider, envelope_of("plain", 7))

    assert outcome is reply.outcome, reply
    assert server.truth() == ([7] if outcome is Outcome.ACCEPTED else [])


@EVERY
async def test_a_reset_in_a_large_body_proves_that_nothing_was_sent(kind, tmp_path):
    async with (
        double(kind, tmp_path) as server,
        CutRelay(server.port, up=300_000) as relay,
        api(kind, server, base_url=base_url(kind, relay.port)) as provider,
    ):
        slot = await slot_of(provider)
        reply = await send_by(slot, huge(7))

    assert (reply.outcome, reply.blame) == (Outcome.NOT_SENT, Blame.NETWORK)
    assert not slot.body_left
    assert server.truth() == []
    assert not provider.status().up


@EVERY
@pytest.mark.parametrize(
    ("status", "outcome", "blame"),
    [
        (413, Outcome.REJECTED, Blame.CONTENT),
        (429, Outcome.DEFERRED, Blame.RATE),
        (401, Outcome.NOT_SENT, Blame.ACCOUNT),
        (503, Outcome.NOT_SENT, Blame.NETWORK),
        (202, Outcome.NOT_SENT, Blame.NETWORK),
    ],
)
async def test_an_answer_to_half_a_body_proves_that_nothing_was_taken(kind, status, outcome, blame, tmp_path):
    async with double(kind, tmp_path) as server, api(kind, server) as provider:
        server.always = Fault(early=True, status=status, headers={"Connection": "close"})
        slot = await slot_of(provider)
        reply = await send_by(slot, huge(7))

    assert (outcome, blame) == (reply.outcome, reply.blame), reply
    assert not slot.body_left
    assert server.truth() == []


@EVERY
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(up=st.none() | st.integers(0, 3000), down=st.none() | st.integers(0, 400), taken=st.booleans())
def test_truth_agrees_wherever_the_network_breaks(kind, up, down, taken):
    async def scenario(directory):
        async with double(kind, directory) as server, CutRelay(server.port) as relay:
            async with api(kind, server, base_url=base_url(kind, relay.port), total_timeout_s=5.0) as provider:
                slot = await slot_of(provider)
                relay.up, relay.down = up, down
                if not taken:
                    server.always = Fault(status=400, body=b'{"message": "no"}')
                reply = await send_by(slot, envelope_of("plain", 7))
            return reply, slot.body_left, server.truth()

    with tempfile.TemporaryDirectory() as directory:
        reply, body_left, truth = asyncio.run(scenario(Path(directory)))

    if truth:
        assert reply.outcome in MAY_HAVE_IT
    if reply.outcome is Outcome.ACCEPTED:
        assert truth == [7]
    if reply.outcome in MAY_HAVE_IT:
        assert body_left


@EVERY
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(up=st.integers(0, 900_000))
def test_truth_agrees_wherever_a_large_body_breaks(kind, up):
    async def scenario(directory):
        async with double(kind, directory) as server, CutRelay(server.port) as relay:
            async with api(kind, server, base_url=base_url(kind, relay.port), total_timeout_s=5.0) as provider:
                slot = await slot_of(provider)
                relay.up = up
                reply = await send_by(slot, envelope_of("large", 7))
            return reply, slot.body_left, server.truth()

    with tempfile.TemporaryDirectory() as directory:
        reply, body_left, truth = asyncio.run(scenario(Path(directory)))

    assert (reply.outcome in MAY_HAVE_IT) >= bool(truth)
    assert body_left == (reply.outcome in MAY_HAVE_IT)


@EVERY
async def test_a_refusal_whose_text_broke_off_is_for_now(kind, tmp_path):
    async with double(kind, tmp_path) as server, api(kind, server) as provider:
        server.faults.append(Fault(raw=b"HTTP/1.1 400 Bad Request\r\nContent-Length: 500\r\n\r\n{"))
        reply = await send(provider, envelope_of("plain"))

    assert (reply.outcome, reply.blame, reply.code) == (Outcome.DEFERRED, Blame.NETWORK, "400")


async def test_a_status_says_enough_where_no_body_is_due(tmp_path):
    async with double("sendgrid", tmp_path) as server, api("sendgrid", server) as provider:
        server.faults.append(Fault(accepts=True, raw=b"HTTP/1.1 202 Accepted\r\nX-Message-Id: sg-1\r\nContent-Length: 9\r\n\r\n"))
        reply = await send(provider, envelope_of("plain", 7))

    assert (reply.outcome, reply.provider_message_id) == (Outcome.ACCEPTED, "sg-1")


@EVERY
async def test_a_cancelled_send_knows_whether_the_body_left(kind, tmp_path):
    async with double(kind, tmp_path) as server, api(kind, server) as provider:
        server.faults.append(Fault(accepts=True, hang=True))
        slot = await slot_of(provider)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(send_by(slot, envelope_of("plain", 7)))
            await until(server.truth)
            task.cancel()

        assert slot.body_left
        assert provider.status().in_flight == 0
        second = await slot_of(provider)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(send_by(second, envelope_of("plain", 8)))
            await asyncio.sleep(0)
            task.cancel()

        assert not second.body_left
        assert (await send(provider, envelope_of("plain", 9))).outcome is Outcome.ACCEPTED
        assert server.truth() == [7, 9]
