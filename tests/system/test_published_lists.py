"""The suppression lists of Mailgun and SendGrid as their descriptions have them: our requests, and the answers of the doubles.

SMTP2GO's description is under no licence that would let it be kept. Events of Mailgun's description are read as a webhook would bring them.
"""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from rotord.core.events import EventKind
from rotord.core.suppression_lists import Entry, ListKey, Span
from rotord.providers.suppression_mailgun import MailgunLists
from rotord.providers.suppression_sendgrid import SendgridLists
from rotord.webhooks import mailgun
from tests.doubles import suppression_lists as doubles
from tests.doubles.mailgun import MailgunDouble
from tests.doubles.sendgrid import SendgridDouble
from tests.providers.answers import config

jsonschema = pytest.importorskip("jsonschema")
yaml = pytest.importorskip("yaml")

SPECS = Path(__file__).parent.parent / "data" / "specs"
DOMAIN = "acme-mail.example"
ENTRIES = [Entry(f"{reason}@example.org", reason, 1_765_417_780.0) for reason in ("hard_bounce", "manual", "complaint", "unsubscribe")]
SPAN = Span(None, 2e9)

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def published():
    described = yaml.load((SPECS / "mailgun.yaml").read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {"mailgun": described, "sendgrid": json.loads((SPECS / "sendgrid_suppressions_v3.json").read_text())}


def without_times(node):
    """Mailgun's calls `created_at` an object, and shows a text in each example."""
    if isinstance(node, list):
        return [without_times(one) for one in node]
    if not isinstance(node, dict):
        return node
    return {name: {} if name == "created_at" and isinstance(value, dict) else without_times(value) for name, value in node.items()}


def problems(description, schema, content):
    validator = jsonschema.Draft202012Validator({**without_times(schema), "components": without_times(description["components"])})
    return [error.message for error in validator.iter_errors(content)]


def resolved(description, node):
    """Follow the references above the schemas."""
    while isinstance(node, dict) and "$ref" in node:
        target, node = node["$ref"].removeprefix("#/").split("/"), description
        for step in target:
            node = node[step]
    return node


def described(description, path, method):
    operation = description["paths"][path][method]
    body, answers = operation.get("requestBody"), operation["responses"]
    return {
        "parameters": [resolved(description, one)["name"] for one in operation["parameters"]],
        "body": body and resolved(description, body)["content"]["application/json"]["schema"],
        "answers": {str(status): resolved(description, one) for status, one in answers.items()},
    }


def answered(operation, status):
    return operation["answers"][str(status)]["content"]["application/json"]["schema"]


async def test_what_is_added_at_mailgun_is_as_described_and_so_are_the_doubles_answers(published, tmp_path):
    description, there = published["mailgun"], doubles.MailgunLists()
    async with MailgunDouble(tmp_path, extra=[there]) as double, aiohttp.ClientSession() as client:
        api = MailgunLists(config(base_url=double.url, api_key=double.key))
        additions = api.additions(DOMAIN, ENTRIES)
        for query, _ in additions:
            name = query.url.rpartition("/")[2]
            operation = described(description, f"/v3/{{domain_name}}/{name}", "post")
            schema = operation["body"]
            assert problems(description, schema, json.loads(query.body)) == []
            async with client.post(query.url, data=query.body, headers=api.headers) as answer:
                assert problems(description, answered(operation, 200), await answer.json(content_type=None)) == []
        for name in api.lists:
            operation = described(description, f"/v3/{{domain_name}}/{name}", "get")
            query = api.page(ListKey(name, DOMAIN), SPAN, "")
            assert set(operation["parameters"]) >= {"limit", "page"}
            async with client.get(query.url, headers=api.headers) as answer:
                content = await answer.json(content_type=None)
            assert content["items"]
            assert problems(description, answered(operation, 200), content) == []

    assert len(additions) == len(api.lists)


async def test_what_is_added_at_sendgrid_is_as_described_and_so_are_the_doubles_answers(published, tmp_path):
    description, there = published["sendgrid"], doubles.SendgridLists()
    async with SendgridDouble(tmp_path, extra=[there]) as double, aiohttp.ClientSession() as client:
        api = SendgridLists(config(base_url=double.url, api_key=double.key))
        for name in api.lists:
            there.put(name, f"{name}@example.org")
        ((query, _),) = api.additions("", ENTRIES)
        operation = described(description, "/v3/asm/suppressions/global", "post")
        assert problems(description, operation["body"], json.loads(query.body)) == []
        async with client.post(query.url, data=query.body, headers=api.headers) as answer:
            assert problems(description, answered(operation, 201), await answer.json(content_type=None)) == []
        for name in api.lists:
            operation = described(description, f"/v3/suppression/{name}", "get")
            asked = URL(api.page(ListKey(name), Span(1e9, 2e9), "500").url).query
            assert asked.keys() == {"start_time", "end_time", "limit", "offset"}
            assert asked.keys() <= set(operation["parameters"])
            async with client.get(api.page(ListKey(name), SPAN, "").url, headers=api.headers) as answer:
                content = await answer.json(content_type=None)
            assert content
            assert problems(description, answered(operation, 200), content) == []


def test_a_description_refuses_what_it_should(published):
    schema = described(published["mailgun"], "/v3/{domain_name}/bounces", "post")["body"]

    assert problems(published["mailgun"], schema, [{"address": "a@b.example"}])
    assert problems(published["sendgrid"], answered(described(published["sendgrid"], "/v3/suppression/bounces", "get"), 200), {})


def events(node):
    """Every event that a description shows."""
    if isinstance(node, dict):
        if isinstance(node.get("event"), str) and isinstance(node.get("timestamp"), float):
            yield node
        for value in node.values():
            yield from events(value)
    elif isinstance(node, list):
        for value in node:
            yield from events(value)


def test_every_event_that_mailguns_description_shows_is_read(published):
    kinds = {}
    for event in events(published["mailgun"]["paths"]):
        read, unknown = mailgun.parse(json.dumps({"event-data": event}).encode(), "application/json")
        assert unknown == []
        for one in read:
            assert one.occurred_at == event["timestamp"]
            assert "@" in one.recipient
            kinds[event["event"]] = one.kind

    K = EventKind  # noqa: N806 - a table
    assert kinds == {
        "accepted": K.ACCEPTED,
        "delivered": K.DELIVERED,
        "failed": K.DROPPED,  # suppress-bounce
        "opened": K.OPENED,
        "clicked": K.CLICKED,
        "unsubscribed": K.UNSUBSCRIBED,
        "complained": K.COMPLAINED,
        "rejected": K.DROPPED,
    }
