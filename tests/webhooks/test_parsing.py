"""Published payloads come out as the right kind, recipient, time and reason; what nobody knows is counted, not raised."""

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotord.core.events import EventKind, Reason, attempt
from rotord.webhooks import mailgun, sendgrid, smtp2go
from rotord.webhooks.base import UnreadableError

AT = 1521233195.375624
K = EventKind


def of_mailgun(event, **fields):
    data = {
        "event": event,
        "id": "G9Bn5sl1TC6nu79C8C0bwg",
        "timestamp": AT,
        "log-level": "info",
        "recipient": "Alice@Example.com",
        "recipient-domain": "example.com",
        "tags": ["my_tag"],
        "user-variables": {"rotord-attempt": "1889567281723441152"},
        "message": {"headers": {"message-id": "20130503182626.18666.16540@acme.example"}, "size": 111},
        "flags": {"is-test-mode": False},
        **fields,
    }
    body = json.dumps({"signature": {"timestamp": "1", "token": "t", "signature": "s"}, "event-data": data}).encode()
    return mailgun.parse(body, "application/json")


def failed(severity, reason, code, message="", **more):
    return {"severity": severity, "reason": reason, "delivery-status": {"code": code, "message": message, **more}}


@pytest.mark.parametrize(
    ("event", "fields", "kind", "suppresses"),
    [
        ("accepted", {"method": "http"}, K.ACCEPTED, None),
        ("delivered", {"delivery-status": {"code": 250, "message": "OK", "mx-host": "smtp.example.com"}}, K.DELIVERED, None),
        ("opened", {"ip": "50.56.129.169", "client-info": {"bot": ""}}, K.OPENED, None),
        ("clicked", {"url": "http://mailgun.com/"}, K.CLICKED, None),
        ("unsubscribed", {}, K.UNSUBSCRIBED, Reason.UNSUBSCRIBE),
        ("complained", {}, K.COMPLAINED, Reason.COMPLAINT),
        ("failed", failed("permanent", "bounce", 550, "5.1.1 The email account that you tried to reach does not exist"), K.BOUNCED, Reason.HARD_BOUNCE),  # noqa: E501
        ("failed", failed("permanent", "bounce", 550, "No such user", **{"enhanced-code": "5.1.1"}), K.BOUNCED, Reason.HARD_BOUNCE),
        ("failed", failed("permanent", "bounce", 552, "5.2.2 Mailbox full"), K.BOUNCED, None),
        ("failed", failed("permanent", "bounce", 550, "5.7.1 Message rejected due to sender reputation"), K.BOUNCED, None),
        ("failed", failed("permanent", "old", 602, "Too old"), K.BOUNCED, None),
        ("failed", failed("permanent", "generic", 498, "No MX for example.com"), K.BOUNCED, None),
        ("failed", failed("temporary", "generic", 452, "4.2.2 over quota", **{"retry-seconds": 600}), K.DEFERRED, None),
        ("failed", failed("permanent", "suppress-bounce", 605, "Not delivering to previously bounced address"), K.DROPPED, Reason.HARD_BOUNCE),  # noqa: E501
        ("failed", failed("permanent", "suppress-unsubscribe", 606), K.DROPPED, Reason.UNSUBSCRIBE),
        ("failed", failed("permanent", "suppress-complaint", 607), K.DROPPED, Reason.COMPLAINT),
        ("rejected", {"reject": {"reason": "Sandbox"}}, K.DROPPED, None),
    ],
)  # fmt: skip
def test_mailgun(event, fields, kind, suppresses):
    (read,), unknown = of_mailgun(event, **fields)

    assert (read.kind, read.suppresses, unknown) == (kind, suppresses, [])
    assert (read.recipient, read.occurred_at, read.attempt_id) == ("alice@example.com", AT, 1889567281723441152)
    assert read.message_id == "20130503182626.18666.16540@acme.example"


@pytest.mark.parametrize(
    ("message", "recipient"),
    [
        ({"headers": {"to": "Recipient <R@Example.com>", "message-id": "m@acme.example"}}, "r@example.com"),
        ({"headers": {}, "recipients": ["r@example.com"]}, "r@example.com"),
        ({"headers": {"to": "r@example.com, s@example.com"}, "recipients": ["r@example.com", "s@example.com"]}, ""),
        ("stored elsewhere", ""),
    ],
)
def test_mailguns_rejected_names_its_recipient_elsewhere(message, recipient):
    reject = {"reason": "Sandbox subdomains are for test purposes only.", "description": "Please add your own domain"}
    data = {"event": "rejected", "id": "x", "timestamp": AT, "reject": reject, "message": message}
    (read,), _ = mailgun.parse(json.dumps({"event-data": data}).encode(), "application/json")

    assert (read.kind, read.recipient, read.suppresses) == (K.DROPPED, recipient, None)
    assert read.reason == "Sandbox subdomains are for test purposes only. Please add your own domain"


def test_mailgun_tells_its_reason_and_survives_variables_that_are_a_sentence():
    (read,), _ = of_mailgun(
        "failed", **failed("permanent", "bounce", 550, "5.1.1\r\nNo such\x00 user"), **{"user-variables": "could not be loaded"}
    )

    assert (read.reason, read.attempt_id) == ("bounce 550 5.1.1 No such user", None)


def test_an_event_keeps_its_key_whenever_it_is_told_and_another_has_another():
    again = of_mailgun("delivered", **{"log-level": "warn", "a-new-field": 1})

    assert again.events[0].key == of_mailgun("delivered").events[0].key != of_mailgun("delivered", id="other").events[0].key


SENDGRID = {
    "email": "Example@test.com",
    "timestamp": 1513299569,
    "smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>",
    "category": "cat facts",
    "sg_event_id": "sg_event_id",
    "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
    "rotord_attempt": "1889567281723441152",
}


@pytest.mark.parametrize(
    ("fields", "kind", "suppresses"),
    [
        ({"event": "processed"}, K.ACCEPTED, None),
        ({"event": "deferred", "response": "400 try again later", "attempt": "5"}, K.DEFERRED, None),
        ({"event": "delivered", "response": "250 OK"}, K.DELIVERED, None),
        ({"event": "open", "useragent": "Mozilla/4.0", "ip": "255.255.255.255"}, K.OPENED, None),
        ({"event": "click", "url": "http://www.sendgrid.com/"}, K.CLICKED, None),
        ({"event": "bounce", "type": "bounce", "reason": "500 unknown recipient", "status": "5.0.0", "bounce_classification": "Invalid Address"}, K.BOUNCED, Reason.HARD_BOUNCE),  # noqa: E501
        ({"event": "bounce", "type": "bounce", "reason": "550 5.1.1 no such user", "status": "5.1.1"}, K.BOUNCED, Reason.HARD_BOUNCE),
        ({"event": "bounce", "type": "blocked", "reason": "550 5.1.1 no such user", "status": "5.1.1"}, K.BOUNCED, None),
        ({"event": "bounce", "type": "bounce", "reason": "554 spam", "status": "5.7.1", "bounce_classification": "Reputation"}, K.BOUNCED, None),  # noqa: E501
        ({"event": "dropped", "reason": "Bounced Address", "status": "5.0.0"}, K.DROPPED, Reason.HARD_BOUNCE),
        ({"event": "dropped", "reason": "Unsubscribed Address"}, K.DROPPED, Reason.UNSUBSCRIBE),
        ({"event": "dropped", "reason": "Spam Reporting Address"}, K.DROPPED, Reason.COMPLAINT),
        ({"event": "dropped", "reason": "Invalid SMTPAPI header"}, K.DROPPED, None),
        ({"event": "dropped", "reason": "Recipient List over Package Quota"}, K.DROPPED, None),
        ({"event": "spamreport"}, K.COMPLAINED, Reason.COMPLAINT),
        ({"event": "unsubscribe"}, K.UNSUBSCRIBED, Reason.UNSUBSCRIBE),
        ({"event": "group_unsubscribe", "asm_group_id": 10}, K.UNSUBSCRIBED, Reason.UNSUBSCRIBE),
    ],
)  # fmt: skip
def test_sendgrid(fields, kind, suppresses):
    (read,), unknown = sendgrid.parse(json.dumps([SENDGRID | fields]).encode(), "application/json")

    assert (read.kind, read.suppresses, unknown) == (kind, suppresses, [])
    assert (read.recipient, read.occurred_at, read.attempt_id) == ("example@test.com", 1513299569.0, 1889567281723441152)
    assert read.reason == (fields.get("reason") or fields.get("response") or fields.get("url") or "")


def test_sendgrids_examples_with_capitals_and_milliseconds():
    batch = [SENDGRID | {"event": "Processed"}, SENDGRID | {"event": "open", "timestamp": 1591726752372}]
    (first, second), unknown = sendgrid.parse(json.dumps(batch).encode(), "")

    assert (first.kind, second.kind, second.occurred_at, unknown) == (K.ACCEPTED, K.OPENED, 1591726752.372, [])


def test_sendgrids_odd_ones_are_counted_and_hide_no_others():
    batch = [{"event": "account_status_change"}, 7, None, SENDGRID | {"event": "new"}, SENDGRID | {"event": "delivered"}, {"event": "group_resubscribe"},  # noqa: E501
             SENDGRID | {"event": "open", "sg_machine_open": True}]  # fmt: skip

    events, unknown = sendgrid.parse(json.dumps(batch).encode(), "")

    assert [event.kind for event in events] == [K.DELIVERED]
    assert unknown == ["account_status_change", "(no event)", "(no event)", "new"]


def test_a_retry_of_sendgrids_with_a_new_event_id_is_the_same_event():
    first, again = [sendgrid.parse(json.dumps([SENDGRID | {"event": "open", "sg_event_id": one}]).encode(), "").events[0] for one in "ab"]

    assert first.key == again.key


SMTP2GO = {
    "time": "2026-02-07T18:05:02Z",
    "sendtime": "2026-02-07T18:05:01.123456+00:00",
    "email_id": "1abc-DEF",
    "id": "hook-1",
    "message-id": "<7.0123456789abcdef01234567@acme.example>",
    "X-Rotord-Attempt": "1889567281723441152",
}


@pytest.mark.parametrize(
    ("fields", "kind", "suppresses"),
    [
        ({"event": "processed", "recipients": ["R@example.org"]}, K.ACCEPTED, None),
        ({"event": "delivered", "rcpt": "r@example.org"}, K.DELIVERED, None),
        ({"event": "bounce", "bounce": "hard", "rcpt": "r@example.org"}, K.BOUNCED, Reason.HARD_BOUNCE),
        ({"event": "bounce", "bounce": "soft", "rcpt": "r@example.org"}, K.DEFERRED, None),
        ({"event": "hard-bounced", "rcpt": "r@example.org"}, K.BOUNCED, Reason.HARD_BOUNCE),
        ({"event": "spam", "rcpt": "r@example.org"}, K.COMPLAINED, Reason.COMPLAINT),
        ({"event": "spam_complaint", "rcpt": "r@example.org"}, K.COMPLAINED, Reason.COMPLAINT),
        ({"event": "unsubscribed", "rcpt": "r@example.org"}, K.UNSUBSCRIBED, Reason.UNSUBSCRIBE),
        ({"event": "reject", "rcpt": "r@example.org", "reason": "recipient is suppressed"}, K.DROPPED, Reason.HARD_BOUNCE),
        ({"event": "reject", "rcpt": "r@example.org", "reason": "sender is unverified"}, K.DROPPED, None),
        ({"event": "reject", "rcpt": "r@example.org", "reason": "rejected as spam"}, K.DROPPED, None),
        ({"event": "reject", "rcpt": "r@example.org", "message": "has previously hard-bounced"}, K.DROPPED, Reason.HARD_BOUNCE),
        ({"event": "reject", "rcpt": "r@example.org", "context": "made a spam complaint"}, K.DROPPED, Reason.COMPLAINT),
        ({"event": "reject", "rcpt": "r@example.org", "message": "recipient has unsubscribed"}, K.DROPPED, Reason.UNSUBSCRIBE),
        (
            {"event": "bounce", "bounce": "hard", "email": "r@example.org", "context": "RCPT TO:<r@example.org>"},
            K.BOUNCED,
            Reason.HARD_BOUNCE,
        ),
        ({"event": "opened", "rcpt": "r@example.org"}, K.OPENED, None),
        ({"event": "click", "rcpt": "r@example.org", "url": "https://a.example/"}, K.CLICKED, None),
    ],
)
def test_smtp2go_as_json_and_as_a_form(fields, kind, suppresses):
    as_json = smtp2go.parse(json.dumps(SMTP2GO | fields).encode(), "application/json; charset=utf-8")
    as_form = smtp2go.parse(urlencode(SMTP2GO | fields, doseq=True).encode(), "application/x-www-form-urlencoded")

    (read,), unknown = as_json
    assert as_form == as_json
    assert (read.kind, read.suppresses, unknown) == (kind, suppresses, [])
    assert (read.recipient, read.occurred_at, read.attempt_id) == ("r@example.org", 1770487502.0, 1889567281723441152)
    assert read.message_id == "7.0123456789abcdef01234567@acme.example"


def test_smtp2gos_json_is_known_by_its_shape_and_its_time_by_either_name():
    body = {"event": "delivered", "rcpt": "r@example.org", "email_id": "x", "timestamp": 1700000100}
    (read,), _ = smtp2go.parse(b" " + json.dumps(body).encode(), "")

    assert (read.kind, read.recipient, read.occurred_at) == (K.DELIVERED, "r@example.org", 1700000100.0)


def test_smtp2gos_short_messages_to_telephones_are_nothing_of_ours():
    body = {"event": "delivered", "destination_number": "+61400000000", "time": "2026-02-07T18:05:02Z", "status_code": "delivered"}

    assert smtp2go.parse(json.dumps(body).encode(), "application/json") == ([], [])


#: what the parser of JSON takes and `str` falls over
DEEP = json.loads("[" * 900 + "]" * 900)


@pytest.mark.parametrize("told", [None, True, 1.0, "", "-1", "0", "1x", "\u0661", str(2**63), "0" * 19 + "1" + "9" * 5000, "9" * 100, DEEP])
def test_what_is_no_attempts_id_is_none(told):
    assert attempt(told) is None


@pytest.mark.parametrize("told", [1, "1", str(2**63 - 1), 1889567281723441152])
def test_an_attempts_id_is_read_as_number_or_text(told):
    assert attempt(told) == int(told)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "event",
                    "event-data",
                    "recipient",
                    "timestamp",
                    "email",
                    "rcpt",
                    "time",
                    "message",
                    "headers",
                    "delivery-status",
                    "severity",
                    "reason",
                    "x",
                ]
            ),
            inner,
            max_size=8,
        )
    ),
    max_leaves=20,
)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_body_crashes_a_parser(body):
    for one in (mailgun, sendgrid, smtp2go):
        for content_type in ("application/json", "application/x-www-form-urlencoded"):
            try:
                events, _ = one.parse(body, content_type)
            except UnreadableError:
                continue
            for event in events:
                assert "\x00" not in event.recipient + event.reason
                (event.recipient + event.reason + event.message_id + event.provider_message_id).encode()
