"""Whatever comes in: an answer, soon, and never a crash."""

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotord.core import received, return_path
from rotord.core.complaints import Complaint
from rotord.core.incoming import Automatic, Bounced, PersonsReply, recognise

CORPUS = Path(__file__).parent.parent / "data" / "bounces"
MAILS = sorted(CORPUS.glob("*.eml"))
KEY = b"0123456789abcdef"
#: ten times what the slowest needs on a busy machine: what grows with the square of its size needs minutes
SOON_S = 10.0


def recognised(raw: bytes, envelope_sender: str | None = None) -> Complaint | Bounced | Automatic | PersonsReply:
    return recognise(received.read(raw), raw, envelope_sender)


@given(st.binary(max_size=2000))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_something(raw: bytes) -> None:
    recognised(raw)


@given(st.sampled_from(MAILS), st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_mail_names_nobody_else(path: Path, data: st.DataObject) -> None:
    raw = path.read_bytes()
    cut = data.draw(st.integers(0, len(raw)))
    drop = data.draw(st.integers(0, 200))
    found = recognised(raw[:cut] + raw[cut + drop :])
    if isinstance(found, Bounced):
        for one in found.bounces:
            assert one.recipient == "" or one.recipient not in {"ada@acme-mail.example", "sales@acme-mail.example", "help@partner.example"}


@pytest.mark.parametrize(
    "raw",
    [
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(3000)),
        b"Content-Type: message/rfc822\n\n" * 5000,
        b"Content-Type: multipart/report; boundary=x\n\n" + b"--x\n\n" * 100_000,
        b"From: mailer-daemon@x.example\nSubject: failure notice\nContent-Type: text/html\n\n" + b"<style" * 30_000,
        b"From: mailer-daemon@x.example\nSubject: failure notice\nContent-Type: text/html\n\n" + b"<a@" * 60_000,
        b"From: mailer-daemon@x.example\nSubject: failure notice\n\n" + b"could not be delivered to the following address " * 4000,
        b"From: mailer-daemon@x.example\nSubject: failure notice\n\n" + b"user " * 40_000,
        b"From: mailer-daemon@x.example\nSubject: failure notice\n\n" + b"a" * 200_000,
        b"From: mailer-daemon@x.example\nSubject: failure notice\n\n" + b"a@b." * 50_000,
        b"From: mailer-daemon@x.example\nSubject: failure notice\n\n" + b"quota mailbox account not host domain " * 5000,
        b"From: mailer-daemon@x.example\nSubject: failure notice\n\n" + b"\n \n" * 60_000,
        b"Subject: " + b"=?utf-8?q?=41?= " * 10_000 + b"\n\n",
        b"Subject: " + b"re: " * 2000 + b"\n\n",
        b"References: " + b"<" * 100_000 + b"\n\n",
        b"X: y\n" * 200_000,
        b"Content-Type: text/plain" + b"; a=b" * 100_000 + b"\n\n",
        b"\0" * (received.MAIL_BYTES + 1000),
    ],
)
def test_no_mail_takes_long(raw: bytes) -> None:
    began = time.process_time()
    recognised(raw)

    assert time.process_time() - began < SOON_S


def test_an_attempts_id_that_no_column_holds_is_none() -> None:
    mail = (CORPUS / "postfix-unknown.eml").read_bytes()
    ours = re.search(rb"X-Rotord-Attempt: (\d+)", mail)
    assert ours is not None
    for told, attempt_id in ((ours[1], int(ours[1])), (b"9" * 19, None)):
        found = recognised(mail.replace(ours[1], told))

        assert isinstance(found, Bounced)
        assert [one.attempt_id for one in found.bounces] == [attempt_id]


def test_an_empty_envelope_sender_is_no_person() -> None:
    assert recognised(b"From: kim@shop.example\nSubject: hello\n\nhi\n", "") is Automatic.AUTO_REPLY


@given(st.integers(1, 2**63 - 1))
def test_a_return_path_names_its_attempt_whatever_its_case(attempt_id: int) -> None:
    path = return_path.build(KEY, attempt_id, "b.acme.example")

    assert len(path.partition("@")[0]) <= 64
    assert return_path.attempt_of(KEY, path.upper()) == attempt_id
    assert return_path.attempt_of(b"another key of x", path) is None


@given(st.integers(1, 2**62), st.integers(0, 30))
def test_a_forged_return_path_is_none(attempt_id: int, at: int) -> None:
    local, _, domain = return_path.build(KEY, attempt_id, "b.acme.example").partition("@")
    place = min(len("bounces+") + at, len(local) - 1)
    forged = local[:place] + ("0" if local[place] != "0" else "1") + local[place + 1 :]

    assert return_path.attempt_of(KEY, f"{forged}@{domain}") is None


@pytest.mark.parametrize("local", ["`", "'", "...", "*'"])
def test_marks_alone_before_an_at_are_nobody(local: str) -> None:
    notice = "Return-Path: <>\nFrom: MAILER-DAEMON@mx.example\nTo: a@b.example\nSubject: failure notice\n\n"
    report = "Content-Type: message/delivery-status\n\nFinal-Recipient: rfc822; {}@shop.example\nAction: failed\nStatus: 5.1.1\n"

    assert received.addresses(f"{local}@shop.example") == []
    for mail in (notice + f"<{local}@shop.example>: 550 no such user\n", report.format(local)):
        found = recognised(mail.encode())
        assert not isinstance(found, Bounced) or not any(one.recipient for one in found.bounces)


def test_expectations_are_json_of_kinds() -> None:
    kinds = {entry["is"] for entry in json.loads((CORPUS / "expected.json").read_text()).values()}

    assert kinds == {"bounce", "complaint", "automatic", "reply"}
