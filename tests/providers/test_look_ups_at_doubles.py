"""What was sent is found by its look-up, at every double; what another attempt or message is, is not."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from rotord.core.lookups import Found, Missing, Sought, Trouble, Unclear
from rotord.core.model import Outcome
from rotord.providers.look_up import HttpLookUp, LookUpConfig
from rotord.providers.mailgun_events import MailgunEvents
from rotord.providers.sendgrid_logs import SendgridLogs
from rotord.providers.smtp2go_activity import Smtp2goActivity
from tests.doubles.http_api import Fault
from tests.providers.answers import config
from tests.providers.http_support import api, base_url, double
from tests.providers.shapes import envelope_of
from tests.providers.support import send

APIS = {"mailgun": MailgunEvents, "sendgrid": SendgridLogs, "smtp2go": Smtp2goActivity}
ATTEMPT = 4711


@pytest.fixture(params=APIS)
def kind(request):
    return request.param


def sought_of(envelope, attempt_id=ATTEMPT):
    message, sender, now = envelope.message, envelope.sender.email, time.time()
    message_id = envelope.mime.lower().partition(b"message-id: ")[2].partition(b"\r\n")[0].decode()
    return Sought(1, attempt_id, message_id, sender, message.recipient, now - 5, now)


async def ask(kind, server, sought, key=None):
    look_up = HttpLookUp(
        kind,
        APIS[kind](config(base_url=base_url(kind, server.port), api_key=key or server.key)),
        LookUpConfig(grace_s=1.0, per_minute=6000),
    )
    try:
        return await look_up.ask(sought)
    finally:
        await look_up.close()


async def test_what_it_took_before_the_answer_was_lost_is_found(kind, tmp_path):
    envelope = envelope_of("plain", ATTEMPT)
    async with double(kind, tmp_path) as server, api(kind, server) as provider:
        server.faults.append(Fault(cut="after", accepts=True))
        reply = await send(provider, envelope)
        found = await ask(kind, server, sought_of(envelope))
        other = await ask(kind, server, sought_of(envelope, 99))
        (taken,) = server.truth_lines()

    assert reply.outcome is Outcome.UNCERTAIN
    assert isinstance(found, Found)
    assert not found.refused
    assert abs(found.at - taken["at"]) < 2
    assert found.provider_message_id
    # Mailgun's search is by Message-ID, so it shows that there was another attempt.
    assert (Unclear if kind == "mailgun" else Missing) is type(other)


async def test_what_it_does_not_show_yet_is_missing(kind, tmp_path):
    envelope = envelope_of("plain", ATTEMPT)
    async with double(kind, tmp_path, lag_s=60.0) as server, api(kind, server) as provider:
        await send(provider, envelope)
        finding = await ask(kind, server, sought_of(envelope))

    assert Missing() == finding


async def test_what_it_dropped_is_refused(kind, tmp_path):
    envelope = envelope_of("plain", ATTEMPT)
    async with double(kind, tmp_path) as server, api(kind, server) as provider:
        server.happenings.fates = lambda _taken: ("accepted", "dropped")
        await send(provider, envelope)
        finding = await ask(kind, server, sought_of(envelope))

    assert finding.refused


async def test_a_wrong_key_is_a_persons_business(kind, tmp_path):
    async with double(kind, tmp_path) as server:
        finding = await ask(kind, server, sought_of(envelope_of("plain", ATTEMPT)), key="another")

    assert isinstance(finding, Trouble)
    assert finding.lasting


async def test_a_recipient_in_other_letters_is_found(kind, tmp_path):
    envelope = envelope_of("plain", ATTEMPT)
    async with double(kind, tmp_path) as server, api(kind, server) as provider:
        await send(provider, envelope)
        sought = sought_of(envelope)
        finding = await ask(kind, server, replace(sought, recipient=sought.recipient.upper()))

    assert isinstance(finding, Found)
