"""Every shape of mail through every API, over HTTP: what a reader would see is what the SMTP route sends."""

from __future__ import annotations

import pytest

from rotord.core.model import Outcome
from tests.providers.http_support import KINDS, api, double
from tests.providers.shapes import SHAPES, envelope_of, facts
from tests.providers.support import send


@pytest.mark.parametrize("kind", KINDS)
async def test_the_mail_is_the_same_on_every_route(kind, tmp_path):
    assert len(SHAPES) >= 30
    async with double(kind, tmp_path) as server:
        async with api(kind, server) as provider:
            for number, name in enumerate(SHAPES, 1):
                envelope = envelope_of(name, number, headers_only=provider.writes_mail)
                expected = facts(envelope_of(name, number).mime)
                if kind == "sendgrid" and not expected["subject"]:
                    expected["subject"] = " "  # it takes no empty one

                reply = await send(provider, envelope)

                assert (Outcome.ACCEPTED, name) == (reply.outcome, name), reply
                assert expected == server.mails[-1], name
        assert list(range(1, len(SHAPES) + 1)) == server.truth()
