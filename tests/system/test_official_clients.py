"""The doubles as the providers' own clients and descriptions see them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from mailgun.client import Client
from sendgrid import SendGridAPIClient
from sendgrid.helpers.mail import CustomArg, Header, Mail

from tests.doubles.mailgun import MailgunDouble
from tests.doubles.sendgrid import SendgridDouble
from tests.providers.http_support import api
from tests.providers.shapes import envelope_of
from tests.providers.support import send

jsonschema = pytest.importorskip("jsonschema")
yaml = pytest.importorskip("yaml")

SPECS = Path(__file__).parent.parent / "data" / "specs"

pytestmark = pytest.mark.system


def problems(description, path, method, content):
    """What the description has against an answer 200."""
    response = description["paths"][path][method]["responses"]["200" if "200" in description["paths"][path][method]["responses"] else 200]
    schema = response["content"]["application/json"]["schema"]
    validator = jsonschema.Draft202012Validator({**schema, "components": description["components"]})
    return [error.message for error in validator.iter_errors(content)]


async def test_sendgrids_client_sends_and_its_log_is_as_described(tmp_path):
    description = json.loads((SPECS / "sendgrid_logs_v3.json").read_text())
    async with SendgridDouble(tmp_path) as double:
        client = SendGridAPIClient(double.key, host=double.url)
        mail = Mail("news@acme-mail.example", "anna@example.net", "Hello", "Hello there")
        for name, value in (("X-Rotord-Attempt", "7"), ("Message-ID", "<m7@acme-mail.example>")):
            mail.add_header(Header(name, value))
        mail.add_custom_arg(CustomArg("rotord_attempt", "7", p=0))
        answer = await asyncio.to_thread(client.send, mail)
        found = await asyncio.to_thread(client.client.logs.post, {"query": "to_email = 'anna@example.net'", "limit": 10})
        (one,) = json.loads(found.body)["messages"]
        detail = await asyncio.to_thread(client.client.logs._(one["sg_message_id"]).get)

    assert (answer.status_code, answer.headers["X-Message-Id"]) == (202, "sg-1")
    assert problems(description, "/v3/logs", "post", json.loads(found.body)) == []
    assert problems(description, "/v3/logs/{sg_message_id}", "get", json.loads(detail.body)) == []
    assert json.loads(detail.body)["custom_args"] == {"rotord_attempt": "7"}


async def test_mailguns_client_sends_and_its_events_are_as_described(tmp_path):
    description = yaml.load((SPECS / "mailgun.yaml").read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    mime = (
        b"From: news@acme-mail.example\r\nTo: anna@example.net\r\nSubject: Hello\r\nX-Rotord-Attempt: 7\r\n"
        b"Message-ID: <m7@acme-mail.example>\r\n\r\nHello\r\n"
    )
    async with MailgunDouble(tmp_path) as double, api("mailgun", double) as provider:
        client = Client(auth=("api", double.key), api_url=double.url)
        data = {"to": "anna@example.net", "v:rotord-attempt": "7"}
        answer = await asyncio.to_thread(
            client.mimemessage.create, data=data, files={"message": ("m.mime", mime)}, domain="acme-mail.example"
        )
        wanted = {"message-id": "m7@acme-mail.example", "limit": 300}
        events = await asyncio.to_thread(client.events.get, domain="acme-mail.example", filters=wanted)
        await send(provider, envelope_of("plain", 8))
    found = events.json()

    assert (answer.status_code, answer.json()["message"]) == (200, "Queued. Thank you.")
    assert [one["user-variables"] for one in found["items"]] == [{"rotord-attempt": "7"}] * 2
    assert problems(description, "/v3/{domain_name}/events", "get", found) == []
