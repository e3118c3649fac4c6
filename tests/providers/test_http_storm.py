"""Hundreds of messages through each API while everything goes wrong at once: the truth log against the replies."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from rotord.core.model import Outcome
from tests.doubles.http_api import FINE, Fault
from tests.providers.http_support import KINDS, api, double
from tests.providers.shapes import envelope_of
from tests.providers.support import send_by

MESSAGES = 400
#: (share, fault); what is left is fine
TROUBLE = (
    (0.10, Fault(status=429, headers={"Retry-After": "0"})),
    (0.05, Fault(cut="after", accepts=True)),
    (0.05, Fault(cut="after")),
    (0.05, Fault(cut="before")),
    (0.05, Fault(status=500, accepts=True)),
    (0.05, Fault(status=502)),
    (0.05, Fault(accepts=True, raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")),
    (0.05, Fault(accepts=True, status=200, body=b"[]")),
    (0.05, Fault(status=400, body=b"{}")),
    (0.05, Fault(latency_s=0.02)),
    (0.02, Fault(accepts=True, hang=True)),
    (0.02, Fault(drip_s=0.001)),
)


def fault(draw):
    for share, one in TROUBLE:
        if draw < share:
            return one
        draw -= share
    return FINE


@pytest.mark.parametrize("kind", KINDS)
async def test_every_reply_agrees_with_the_truth_and_every_slot_comes_back(kind, tmp_path):
    chance = random.Random(kind)
    replies, slots = {}, {}
    async with (
        double(kind, tmp_path, idle_s=0.03) as server,
        api(kind, server, total_timeout_s=1.0, max_in_flight=20) as provider,
    ):
        server.faults.extend(fault(chance.random()) for _ in range(MESSAGES))
        woken = asyncio.Event()
        provider.on_ready(woken.set)

        async def deliver(slot, attempt_id):
            replies[attempt_id] = await send_by(slot, envelope_of("plain", attempt_id))

        async with asyncio.TaskGroup() as group:
            for attempt_id in range(MESSAGES):
                while (slot := provider.take()) is None:
                    woken.clear()
                    await woken.wait()
                slots[attempt_id] = slot
                group.create_task(deliver(slot, attempt_id))
        assert (provider.status().up, provider.status().in_flight) == (True, 0)

    truth = Counter(server.truth())
    outcomes = Counter(reply.outcome for reply in replies.values())
    for attempt_id, reply in replies.items():
        if truth[attempt_id]:
            assert reply.outcome in {Outcome.ACCEPTED, Outcome.UNCERTAIN}, reply
        if reply.outcome is Outcome.ACCEPTED:
            assert truth[attempt_id] == 1
        if reply.outcome is Outcome.UNCERTAIN:
            assert slots[attempt_id].body_left
    assert max(truth.values()) == 1
    assert all(outcomes[outcome] > 5 for outcome in (Outcome.ACCEPTED, Outcome.DEFERRED, Outcome.REJECTED, Outcome.UNCERTAIN)), outcomes
    assert outcomes[Outcome.NOT_SENT] == 0  # idle connections that were closed cost no message a try
