"""Every shape of mail against the descriptions that the providers publish, kept unchanged in tests/data/specs with their licences.

`mailgun.yaml` is openapi.yaml of mailgun/mailgun-mcp-server, `sendgrid_mail_v3.json` is tsg_mail_v3.json of twilio/sendgrid-oai.
SMTP2GO publishes none under a licence that would let it be kept.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rotord.providers.mailgun import MailgunApi
from rotord.providers.sendgrid import SendgridApi
from tests.providers.answers import config
from tests.providers.shapes import SHAPES, envelope_of
from tests.providers.test_mailgun import fields

jsonschema = pytest.importorskip("jsonschema")
yaml = pytest.importorskip("yaml")

SPECS = Path(__file__).parent.parent / "data" / "specs"

pytestmark = pytest.mark.system


def validator(description, schema):
    # The whole description beside the schema, so that its references lead somewhere.
    return jsonschema.Draft202012Validator({**schema, "components": description["components"]})


def resolved(description, node):
    while "$ref" in node:
        target = node["$ref"].removeprefix("#/").split("/")
        node = description
        for step in target:
            node = node[step]
    return node


@pytest.fixture(scope="module")
def sendgrid():
    description = json.loads((SPECS / "sendgrid_mail_v3.json").read_text())
    body = resolved(description, description["paths"]["/v3/mail/send"]["post"]["requestBody"])
    return validator(description, resolved(description, body["content"]["application/json"]["schema"]))


@pytest.fixture(scope="module")
def mailgun():
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    description = yaml.load((SPECS / "mailgun.yaml").read_text(), loader)
    body = description["paths"]["/v3/{domain_name}/messages.mime"]["post"]["requestBody"]
    return validator(description, resolved(description, body["content"]["multipart/form-data"]["schema"]))


@pytest.mark.parametrize("name", SHAPES)
def test_sendgrid_takes_it(sendgrid, name):
    problems = [error.message for error in sendgrid.iter_errors(json.loads(SendgridApi(config()).request(envelope_of(name)).body))]

    assert problems == []


@pytest.mark.parametrize("name", SHAPES)
def test_mailgun_takes_it(mailgun, name):
    form = fields(MailgunApi(config()).request(envelope_of(name)))
    # A form has no types: a name that stands once is a list of one where a list is described.
    lists = {field for field, schema in mailgun.schema["properties"].items() if schema.get("type") == "array"}
    values = {field: [part.get_payload()] if field in lists else part.get_payload() for field, part in form.items()}

    assert [error.message for error in mailgun.iter_errors(values)] == []
    assert {field for field in values if not field.startswith("v:")} <= mailgun.schema["properties"].keys()


def test_a_description_refuses_what_it_should(sendgrid, mailgun):
    content = json.loads(SendgridApi(config()).request(envelope_of("plain")).body)

    assert list(sendgrid.iter_errors(content | {"subject": ""}))
    assert list(sendgrid.iter_errors({key: value for key, value in content.items() if key != "from"}))
    assert list(mailgun.iter_errors({"to": "a@b.example"}))
