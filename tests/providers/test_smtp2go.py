"""SMTP2GO's requests field by field, and every answer that it documents."""

from __future__ import annotations

import json

import pytest

from rotord.core.model import Outcome
from rotord.providers.smtp2go import Smtp2goApi
from tests.providers import answers
from tests.providers.answers import NOW, answer, config, meaning
from tests.providers.shapes import LINK, envelope_of

API = Smtp2goApi(config())


def nested(code, words):
    return {"request_id": "r", "data": {"error": words, "error_code": f"E_ApiResponseCodes.{code}"}}


def flat(code, words):
    return {"error": words, "error_code": f"E_ApiResponseCodes.{code}"}


def result(**data):
    return {"request_id": "r", "data": data}


def test_the_request():
    request = API.request(envelope_of("pinned_reply_to", 99))

    assert (request.url, request.content_type) == ("https://api.example/email/send", "application/json")
    assert json.loads(request.body) == {
        "sender": '"Acme News" <news@acme-mail.example>',
        "to": ["anna@example.net"],
        "subject": "hello",
        "text_body": "Hello.\n",
        "custom_headers": [
            {"header": "Message-ID", "value": f"<42.{'a' * 24}@acme-mail.example>"},
            {"header": "List-Unsubscribe", "value": f"<{LINK}>"},
            {"header": "List-Unsubscribe-Post", "value": "List-Unsubscribe=One-Click"},
            {"header": "X-Rotord-Attempt", "value": "99"},
            {"header": "Reply-To", "value": "answers@acme-mail.example"},
        ],
        "fastaccept": False,
    }


def test_there_is_always_a_body():
    envelope = envelope_of("plain")
    bare = json.loads(API.request(envelope._replace(message=envelope.message._replace(body_text=""))).body)

    assert (bare["text_body"], "html_body" in bare) == ("\n", False)
    assert "text_body" not in json.loads(API.request(envelope_of("html_only")).body)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, nested("ENDPOINT_PERMISSION_DENIED", "You do not have permission to access this API endpoint"), answers.NOT_LET_IN),
        (400, flat("ENDPOINT_PERMISSION_DENIED", "You do not have permission to access this API endpoint"), answers.NOT_LET_IN),
        (400, nested("NON_VALIDATING_IN_PAYLOAD", "An error occurred processing the json data you sent"), answers.REFUSED),
        (400, flat("API_EXCEPTION", "Failed to do something"), answers.PROVIDER),
        (400, nested("API_EXCEPTION", "API key ratelimit exceeded"), answers.TOO_MUCH),
        (400, nested("API_EXCEPTION", "The sender address is not verified"), answers.SENDER),
        (400, nested("API_EXCEPTION", "Your account is suspended"), answers.NOT_LET_IN),
        (400, b"not json", answers.REFUSED),
        (401, nested("API_EXCEPTION", "No valid API key was provided"), answers.NOT_LET_IN),
        (402, nested("API_EXCEPTION", "Your monthly email limit has been reached"), answers.NOT_LET_IN),
        (402, b"", answers.NOT_LET_IN),
        (403, nested("API_EXCEPTION", "The API key doesn't have permission to perform the request"), answers.NOT_LET_IN),
        (403, b"<html>forbidden</html>", answers.PROVIDER),
        (404, b"", answers.NOT_LET_IN),
        (429, b"", answers.TOO_MUCH),
        (500, nested("API_EXCEPTION", "ratelimit"), answers.UNKNOWN),
        (502, b"", answers.UNKNOWN),
        (503, b"", answers.UNKNOWN),
        (504, b"", answers.UNKNOWN),
        (408, b"", answers.UNKNOWN),
        (200, result(succeeded=0, failed=1, failures=["anna@example.net: recipient is suppressed"]), answers.UNKNOWN_RECIPIENT),
        (200, result(succeeded=0, failed=1, failures=["Sender domain is not verified"]), answers.SENDER),
        (200, result(succeeded=0, failed=1, failures=["something new"]), answers.PROVIDER),
        (200, result(succeeded=0, failed=1, failures=None), answers.PROVIDER),
        (200, result(failed=1, email_id="x"), answers.PROVIDER),
        (200, result(succeeded=1, failed=1, email_id="x"), answers.UNKNOWN),
        (200, result(succeeded=0, failed="yes"), answers.UNKNOWN),
        (200, result(succeeded=1, failed=0), answers.UNKNOWN),
        (200, b"<html>", answers.UNKNOWN),
        (200, [1], answers.UNKNOWN),
        (200, {"data": []}, answers.UNKNOWN),
    ],
)
def test_an_answer(status, body, expected):
    assert expected == meaning(API.judge(answer(status, body), NOW))


def test_the_code_and_the_fields_complaint_are_told():
    body = flat("NON_VALIDATING_IN_PAYLOAD", "An error occurred.") | {
        "field_validation_errors": {"fieldname": "sender", "message": "The field 'sender' was expecting a valid RFC-822 formatted email"}
    }
    reply = API.judge(answer(400, body), NOW).reply

    assert reply.code == "400 NON_VALIDATING_IN_PAYLOAD"
    assert reply.text.endswith("An error occurred. The field 'sender' was expecting a valid RFC-822 formatted email")


@pytest.mark.parametrize("data", [{"email_id": "1a2b"}, {"succeeded": 1, "failed": 0, "failures": [], "email_id": "1a2b"}])
def test_success(data):
    reply = API.judge(answer(200, result(**data)), NOW).reply

    assert (reply.outcome, reply.provider_message_id) == (Outcome.ACCEPTED, "1a2b")


def test_a_success_that_broke_off_is_uncertain():
    assert meaning(API.judge(answer(200, result(failed=1), complete=False), NOW)) == answers.UNKNOWN
