"""Mails that anybody can write and that would hold the leader for seconds to hours, by this process's own time, not by the clock."""

import signal
from contextlib import contextmanager

import pytest

from rotord.webhooks.inbound import parser, unwrap_raw, verify_mailgun

#: seconds; each took 0.3 at most on a slow core, and more than 2.4 without its bound
MOST_S = 2.0
NOTICE = b"From: mailer-daemon@example.net\nSubject: Undeliverable\n"
NESTED = b"".join(b"--b%d\nContent-Type: Multipart/mixed; boundary=b%d\n\n" % (i, i + 1) for i in range(900))
MAILS = {
    "a run of blanks": NOTICE + b"\n" + b" " * 19_000,
    "lines of blanks": NOTICE + b"\n" + (b" " * 78 + b"\n") * 2000,
    "many beginnings of a message": NOTICE + b"\n" + b"date:\n" * 3300,
    "many long headers": NOTICE + (b"To: " + b"a" * 7900 + b"\n") * 490 + b"\nx",
    "many encoded-words without an end": b"From: a@example.net\n" + (b"To: " + b"=?a?q?" * 1300 + b"\n") * 490 + b"\nx",
    "a charset of domain names": NOTICE + b"Content-Type: text/plain; charset=punycode\n\nabc-" + b"a" * 190_000,
    "parts in parts in capitals": NOTICE + b"Content-Type: multipart/mixed; boundary=b0\n\n" + NESTED + b"x\n" * 50_000,
}


class TooSlowError(BaseException):
    """No handler of the code under test catches it."""


@contextmanager
def own_time(most_s):
    def stop(*_):
        raise TooSlowError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, most_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@pytest.mark.parametrize("mail", MAILS.values(), ids=MAILS)
def test_no_mail_holds_the_leader(mail):
    parse = parser(unwrap_raw, b"k" * 32)
    with own_time(MOST_S):
        parse(mail, "")


def test_a_long_form_is_not_unpacked_before_it_is_verified():
    with own_time(MOST_S):
        verify_mailgun(("key",), {"content-type": "application/x-www-form-urlencoded"}, b"a=" + b"%41" * 10_600_000, 0.0)
