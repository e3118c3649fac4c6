"""Whose post is it? Ours are what the official libraries take; altered, stale and foreign ones are refused."""

import base64
import hashlib
import hmac
import json
import time

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mailgun.security import SecurityGuard
from sendgrid.helpers.eventwebhook import EventWebhook

from rotord.webhooks import mailgun, sendgrid
from rotord.webhooks.base import Refused, Verified, verify_bearer

NOW = 1_800_000_000.0
KEYS = ("new-key", "old-key")
TOKEN = "c" * 50


def triple(key="new-key", timestamp=str(int(NOW)), token=TOKEN, name="signature"):
    signature = hmac.new(key.encode(), (timestamp + token).encode(), hashlib.sha256).hexdigest()
    return {"timestamp": timestamp, "token": token, name: signature}


#: what the parser takes and `str` falls over
DEEP = json.loads("[" * 900 + "]" * 900)


def of_mailgun(given, now=NOW, keys=KEYS):
    return mailgun.verify(keys, {}, json.dumps({"signature": given, "event-data": {}}).encode(), now)


def test_mailgun_by_either_key_and_by_the_parents_signature():
    assert of_mailgun(triple()) == of_mailgun(triple("old-key")) == Verified(TOKEN)
    assert of_mailgun({**triple("sub-account's"), **triple(name="parent-signature")}) == Verified(TOKEN)


def test_what_mailgun_signed_its_own_library_takes():
    given = triple(timestamp=str(int(time.time())))
    assert isinstance(of_mailgun(given, now=time.time()), Verified)
    SecurityGuard.verify_webhook("new-key", given["token"], given["timestamp"], given["signature"])


@pytest.mark.parametrize("given", [{}, {"timestamp": "1"}, {**triple(), "signature": "0" * 64}, {**triple(), "token": "d" * 50},
                                   {**triple(), "timestamp": "1799999999"}, triple("another"), {**triple(), "signature": None},
                                   {**triple(), "token": 7}, {**triple(), "timestamp": DEEP}, {**triple(), "token": "a\x00b"}])  # fmt: skip
def test_mailgun_forged(given):
    refused = of_mailgun(given)

    assert isinstance(refused, Refused)
    assert not refused.signed


@pytest.mark.parametrize(("age_s", "taken"), [(9.5 * 3600, True), (11 * 3600, False), (-600, True), (-3600, False)])
def test_mailguns_window_outlives_its_retries(age_s, taken):
    verdict = of_mailgun(triple(timestamp=str(int(NOW - age_s))))

    assert isinstance(verdict, Verified) is taken
    assert taken or verdict == Refused("stale", signed=True)


def test_without_a_key_nothing_is_taken():
    assert isinstance(of_mailgun(triple(""), keys=()), Refused)
    assert isinstance(verify_bearer((), {"authorization": "Bearer "}, b"", NOW), Refused)


PRIVATE = ec.generate_private_key(ec.SECP256R1())
PUBLIC = base64.b64encode(
    PRIVATE.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
).decode()
BODY = '[{"event":"delivered","email":"кто@example.org"}]\r\n'.encode()


def signed(body=BODY, timestamp=str(int(NOW))):
    signature = PRIVATE.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    return {sendgrid.SIGNATURE: base64.b64encode(signature).decode(), sendgrid.TIMESTAMP: timestamp}


def test_sendgrid_and_its_own_library_take_the_same():
    headers = signed()
    official = EventWebhook(PUBLIC)

    assert isinstance(sendgrid.verify(("bad key", PUBLIC), headers, BODY, NOW), Verified)
    assert official.verify_signature(BODY.decode(), headers[sendgrid.SIGNATURE], headers[sendgrid.TIMESTAMP])
    altered = BODY.replace(b"delivered", b"bounce")
    assert sendgrid.verify((PUBLIC,), headers, altered, NOW) == Refused("wrong signature")
    assert not official.verify_signature(altered.decode(), headers[sendgrid.SIGNATURE], headers[sendgrid.TIMESTAMP])


@pytest.mark.parametrize("headers", [{}, signed() | {sendgrid.TIMESTAMP: "1"}, signed() | {sendgrid.SIGNATURE: "!"},
                                     signed() | {sendgrid.SIGNATURE: "AAAA"}])  # fmt: skip
def test_sendgrid_forged(headers):
    assert not getattr(sendgrid.verify((PUBLIC,), headers, BODY, NOW), "signed", True)


def test_sendgrid_stale():
    assert sendgrid.verify((PUBLIC,), signed(timestamp=str(int(NOW - 27 * 3600))), BODY, NOW) == Refused("stale", signed=True)
    assert isinstance(sendgrid.verify((PUBLIC,), signed(timestamp=str(int(NOW - 25 * 3600))), BODY, NOW), Verified)


def test_smtp2go_and_a_pipe_by_their_bearer():
    assert isinstance(verify_bearer(KEYS, {"authorization": "bearer old-key"}, b"x", NOW), Verified)
    for value in ("", "Bearer", "Bearer other", "Basic old-key", "old-key"):
        assert isinstance(verify_bearer(KEYS, {"authorization": value}, b"x", NOW), Refused)
