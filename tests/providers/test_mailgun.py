"""Mailgun's requests field by field, and every answer that it documents."""

from __future__ import annotations

from email import message_from_bytes

import pytest

from rotord.core.model import Outcome, Sender
from rotord.providers.http_request import Request
from rotord.providers.mailgun import MailgunApi, form
from tests.providers import answers
from tests.providers.answers import NOW, answer, config, meaning
from tests.providers.shapes import envelope_of

API = MailgunApi(config())


def fields(request):
    """Read the form by other means than the double's."""
    document = message_from_bytes(b"Content-Type: " + request.content_type.encode() + b"\r\n\r\n" + request.body)
    return {part.get_param("name", header="content-disposition"): part for part in document.get_payload()}


def test_the_request():
    envelope = envelope_of("plain", 99)
    request = API.request(envelope)
    form = fields(request)
    message = form.pop("message")

    assert request.url == "https://api.example/v3/acme-mail.example/messages.mime"
    assert {name: part.get_payload() for name, part in form.items()} == {
        "to": "anna@example.net",
        "v:rotord-attempt": "99",
        "o:tag": "spring",
        "o:tracking": "no",
        "o:tracking-clicks": "no",
        "o:tracking-opens": "no",
    }
    assert message.get_filename() == "message.mime"
    assert envelope.mime in request.body


def test_tracking_is_left_to_the_account_if_it_is_wanted():
    request = MailgunApi(config(tracking=True)).request(envelope_of("plain"))

    assert not [name for name in fields(request) if name.startswith("o:tracking")]


def test_the_domain_is_the_senders_in_ascii():
    envelope = envelope_of("plain")._replace(sender=Sender("news@Bücher.example"))

    assert API.request(envelope).url == "https://api.example/v3/xn--bcher-kva.example/messages.mime"


@pytest.mark.parametrize(
    ("campaign", "tag"), [("", None), ("frühling", "fruhling"), ("春 sale", "- sale"), ("x" * 200, "x" * 128), (" ", None)]
)
def test_a_campaign_becomes_a_tag(campaign, tag):
    envelope = envelope_of("plain")
    found = fields(API.request(envelope._replace(message=envelope.message._replace(campaign=campaign)))).get("o:tag")

    assert tag == (found and found.get_payload())


def test_a_boundary_is_never_a_line_of_the_message():
    mime = b"Subject: x\r\n\r\n--rotord-7\r\n--rotord-7---\r\nend\r\n"
    content_type, body = form([("to", "a@b.example")], mime, 7)
    found = fields(Request("", body, content_type, {}))

    assert found.keys() == {"to", "message"}
    assert content_type.partition("boundary=")[2].encode() not in mime


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"message": "from parameter is missing"}, answers.REFUSED),
        (400, {"message": "to parameter is not a valid address. please check documentation"}, answers.REFUSED),
        (400, {"message": "Too many recipients, max is 1000"}, answers.REFUSED),
        (400, {"message": "Send options (parameters starting with o:, h:, or v:) are limited to 16 kB total"}, answers.REFUSED),
        (400, b"malformed", answers.REFUSED),
        (400, {"message": "Domain acme-mail.example is not allowed to send: The domain is unverified and requires DNS"}, answers.SENDER),
        (
            400,
            {"message": "Domain sandbox1.mailgun.org is not allowed to send: Sandbox subdomains are for test purposes only."},
            answers.SENDER,
        ),
        (400, {"message": "Domain x.example is not allowed to send: Please activate your Mailgun account."}, answers.NOT_LET_IN),
        (400, {"message": "Domain x.example is not allowed to send: Free accounts are for test purposes only."}, answers.NOT_LET_IN),
        (403, {"message": "Domain x.example is not allowed to send: Account is disabled."}, answers.NOT_LET_IN),
        (401, "Forbidden", answers.NOT_LET_IN),
        (402, {"message": "anything"}, answers.NOT_LET_IN),
        (403, "Forbidden", answers.NOT_LET_IN),
        (403, {"message": "Domain x.example is not allowed to send large batches yet"}, answers.SENDER),
        (403, {"message": "Rejected: IP 192.0.2.1 can't be used to send the message"}, answers.ACCOUNT),
        (403, b"<html>403 Forbidden (a firewall)</html>", answers.PROVIDER),
        (404, {"message": "Domain not found: x.example"}, answers.ACCOUNT),
        (404, b"404 page not found", answers.NOT_LET_IN),
        (413, {"message": "request size exceeds 52.4MiB limit"}, answers.REFUSED),
        (
            429,
            {"message": "Domain x.example is not allowed to send: request limit exceeded, try again after 5 seconds"},
            answers.TOO_MUCH_OF_ONE_DOMAIN,
        ),
        (
            429,
            {"message": "Domain x.example is not allowed to send: account-requests-per-sec limit exceeded, try again after 9 seconds"},
            answers.TOO_MUCH,
        ),
        (429, b"", answers.TOO_MUCH),
        (500, {"message": "Internal Server Error"}, answers.UNKNOWN),
        (502, b"<html>", answers.UNKNOWN),
        (503, {"message": "Domain x is not allowed to send: account disabled"}, answers.UNKNOWN),
        (504, b"", answers.UNKNOWN),
        (408, b"", answers.UNKNOWN),
        (200, b"<html>welcome to the hotel's network</html>", answers.UNKNOWN),
        (200, {"message": "Queued. Thank you."}, answers.UNKNOWN),
        (200, {"id": 7, "message": "Queued. Thank you."}, answers.UNKNOWN),
        (200, [], answers.UNKNOWN),
        (202, {"id": "<1@x.example>"}, answers.UNKNOWN),
    ],
)
def test_an_answer(status, body, expected):
    assert expected == meaning(API.judge(answer(status, body), NOW))


@pytest.mark.parametrize(
    ("words", "expected"),
    [("120 seconds", 120.0), ("Fri, 15 Jan 2027 08:01:00 UTC", 60.0), ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0), ("a while", None)],
)
def test_both_documented_forms_of_when_to_try_again(words, expected):
    body = {"message": f"Domain x.example is not allowed to send: recipient limit exceeded, try again after {words}"}

    assert expected == API.judge(answer(429, body), NOW).reply.retry_after_s


def test_success():
    reply = API.judge(answer(200, {"id": "<20270115.1@acme-mail.example>", "message": "Queued. Thank you."}), NOW).reply

    assert (reply.outcome, reply.provider_message_id, reply.text) == (
        Outcome.ACCEPTED,
        "20270115.1@acme-mail.example",
        "Queued. Thank you.",
    )


def test_a_success_that_broke_off_is_uncertain():
    assert meaning(API.judge(answer(200, b'{"id": "<1@x', complete=False), NOW)) == answers.UNKNOWN
