"""SendGrid's requests field by field, and every answer that it documents."""

from __future__ import annotations

import json

import pytest

from rotord.core.mime import Header, RenderError
from rotord.core.model import Outcome
from rotord.providers.sendgrid import SendgridApi
from tests.providers import answers
from tests.providers.answers import NOW, answer, config, meaning
from tests.providers.shapes import LINK, envelope_of

API = SendgridApi(config())


def content(envelope, api=API):
    return json.loads(api.request(envelope).body)


def errors(message, field=None):
    return {"errors": [{"message": message, "field": field, "help": None}]}


def test_the_request():
    request = API.request(envelope_of("pinned_reply_to", 99))

    assert (request.url, request.content_type) == ("https://api.example/v3/mail/send", "application/json")
    assert json.loads(request.body) == {
        "personalizations": [{"to": [{"email": "anna@example.net"}], "custom_args": {"rotord_attempt": "99"}}],
        "from": {"email": "news@acme-mail.example", "name": "Acme News"},
        "reply_to": {"email": "answers@acme-mail.example"},
        "subject": "hello",
        "content": [{"type": "text/plain", "value": "Hello.\n"}],
        "headers": {
            "Message-ID": f"<42.{'a' * 24}@acme-mail.example>",
            "List-Unsubscribe": f"<{LINK}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            "X-Rotord-Attempt": "99",
        },
        "categories": ["spring"],
        "tracking_settings": {
            "click_tracking": {"enable": False, "enable_text": False},
            "open_tracking": {"enable": False},
            "subscription_tracking": {"enable": False},
            "ganalytics": {"enable": False},
        },
    }


def test_tracking_is_left_to_the_account_if_it_is_wanted():
    assert "tracking_settings" not in content(envelope_of("plain"), SendgridApi(config(tracking=True)))


def test_text_precedes_html_and_an_empty_part_is_no_part():
    assert [part["type"] for part in content(envelope_of("both_bodies"))["content"]] == ["text/plain", "text/html"]
    assert [part["type"] for part in content(envelope_of("empty_html"))["content"]] == ["text/plain"]
    envelope = envelope_of("plain")
    bare = envelope._replace(message=envelope.message._replace(body_text=""))
    assert content(bare)["content"] == [{"type": "text/plain", "value": "\n"}]


def test_headers_that_it_refuses_are_not_given():
    envelope = envelope_of("plain")
    more = envelope._replace(
        head=[Header("X-SG-ID", "X-SG-ID: 1"), Header("x-sg-eid", "x-sg-eid: 2"), Header("X-A", "X-A: 3"), *envelope.head]
    )

    assert not {"X-SG-ID", "x-sg-eid"} & content(more)["headers"].keys()
    assert content(more)["headers"]["X-A"] == "3"


def test_a_header_that_would_be_two_is_refused():
    envelope = envelope_of("plain")
    with pytest.raises(RenderError):
        API.request(envelope._replace(head=[Header("X-A", "X-A: 1\r\nBcc: x@y.example")]))


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, errors("Does not contain a valid address.", "personalizations.0.to.0.email"), answers.REFUSED),
        (400, errors("The subject is required.", "subject"), answers.REFUSED),
        (400, b"not json", answers.REFUSED),
        (400, {"errors": "nothing"}, answers.REFUSED),
        (400, {"errors": [{"field": "x"}]}, answers.REFUSED),
        (400, errors("The from address does not match a verified Sender Identity.", "from"), answers.SENDER),
        (
            403,
            errors("The from address does not match a verified Sender Identity. Mail cannot be sent until this error is resolved."),
            answers.SENDER,
        ),
        (401, errors("The provided authorization grant is invalid, expired, or revoked"), answers.NOT_LET_IN),
        (401, errors("Maximum credits exceeded"), answers.NOT_LET_IN),
        (403, errors("Maximum credits exceeded"), answers.NOT_LET_IN),
        (403, errors("access forbidden"), answers.NOT_LET_IN),
        (403, errors("You are not authorized to use this scope"), answers.NOT_LET_IN),
        (403, b"<html>403 Forbidden</html>", answers.PROVIDER),
        (404, b"", answers.NOT_LET_IN),
        (405, errors("method not allowed"), answers.NOT_LET_IN),
        (413, errors("payload too large"), answers.REFUSED),
        (415, errors("unsupported media type"), answers.REFUSED),
        (429, errors("too many requests"), answers.TOO_MUCH),
        (500, errors("internal"), answers.UNKNOWN),
        (503, b"", answers.UNKNOWN),
        (408, b"", answers.UNKNOWN),
        (200, {}, answers.UNKNOWN),
    ],
)
def test_an_answer(status, body, expected):
    assert expected == meaning(API.judge(answer(status, body), NOW))


def test_the_field_stands_beside_the_words():
    reply = API.judge(answer(400, errors("Does not contain a valid address.", "personalizations.0.to.0.email")), NOW).reply

    assert reply.text == "Does not contain a valid address. (personalizations.0.to.0.email)"


@pytest.mark.parametrize("complete", [True, False])
def test_success_needs_no_body(complete):
    reply = API.judge(answer(202, b"", {"X-Message-Id": "abc.DEF"}, complete=complete), NOW).reply

    assert (reply.outcome, reply.provider_message_id) == (Outcome.ACCEPTED, "abc.DEF")


def test_the_rate_headers_say_when_to_come_back():
    judgement = API.judge(answer(429, errors("too many requests"), {"X-RateLimit-Reset": str(int(NOW) + 17)}), NOW)

    assert judgement.reply.retry_after_s == 17.0
