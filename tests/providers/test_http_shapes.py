"""Every shape of mail through every API, over HTTP: what a reader would see is what the SMTP route sends."""

from __future__ import annotations

import pytest

from rotord.core.model import Outcome
from rotord.providers.http import ApiConfig
from rotord.providers.mailgun import mailgun
from rotord.providers.sendgrid import sendgrid
from rotord.providers.smtp2go import smtp2go
from tests.doubles.mailgun import MailgunDouble
from tests.doubles.sendgrid import SendgridDouble
from tests.doubles.smtp2go import Smtp2goDouble
from tests.providers.shapes import SHAPES, envelope_of, facts
from tests.providers.support import running, send

PROVIDERS = {"mailgun": (mailgun, MailgunDouble), "sendgrid": (sendgrid, SendgridDouble), "smtp2go": (smtp2go, Smtp2goDouble)}


@pytest.mark.parametrize("kind", PROVIDERS)
async def test_the_mail_is_the_same_on_every_route(kind, tmp_path):
    make, double = PROVIDERS[kind]
    assert len(SHAPES) >= 30
    async with double(tmp_path) as server:
        async with running(make(ApiConfig("api", server.url, server.key))) as provider:
            for number, name in enumerate(SHAPES, 1):
                envelope = envelope_of(name, number)
                expected = facts(envelope.mime)
                if kind == "sendgrid" and not expected["subject"]:
                    expected["subject"] = " "  # it takes no empty one

                reply = await send(provider, envelope)

                assert (Outcome.ACCEPTED, name) == (reply.outcome, name), reply
                assert expected == server.mails[-1], name
        assert list(range(1, len(SHAPES) + 1)) == server.truth()
