"""Coverage-guided bytes for everything that reads what strangers send: `make fuzz`, or python -m tests.fuzz.parsers NAME [SECONDS].

Held: a parser returns, or says UnreadableError; nothing else is raised, nobody is named who is no address, an input takes less than
10 s and memory stays below 1 GB. What is found becomes a plain test beside the parser's others.
"""

import logging
import re
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["rotord"]):
    from rotord.core import received, return_path, unsubscribe
    from rotord.core.incoming import Bounced, recognise
    from rotord.webhooks import inbound, mailgun, sendgrid, smtp2go
    from rotord.webhooks.base import UnreadableError

logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)  # as rotord.log sets it: it writes a traceback of what it falls over

KEY = b"k" * 32
MAILS = Path(__file__).parent.parent / "data" / "bounces"
#: an address is short, or nobody; never more than one line
NAMED = re.compile(r"(?:[^\s@]{1,200}@[^\s@]{1,255})?")
REPORT = (
    b"Return-Path: <>\nFrom: MAILER-DAEMON@mx.example\nTo: a@b.example\nSubject: Undelivered\nContent-Type: multipart/report;"
    b' report-type=delivery-status; boundary="b"\n\n--b\n\nIt failed.\n--b\nContent-Type: message/delivery-status\n\n%b\n--b--\n'
)
FEEDBACK = (
    b"From: fbl@mx.example\nSubject: FW: x\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\n\nx\n--b\n"
    b"Content-Type: message/feedback-report\n\n%b\n--b\nContent-Type: message/rfc822\n\nTo: k@shop.example\n\n--b--\n"
)
NOTICE = b"Return-Path: <>\nFrom: MAILER-DAEMON@mx.example\nTo: a@b.example\nSubject: failure notice\n\n%b"


def mail(data):
    found = recognise(received.read(data), data)
    if isinstance(found, Bounced):
        assert all(NAMED.fullmatch(one.recipient) for one in found.bounces), found
    inbound.events_of(inbound.Arrived(data, None, ()), KEY)


def report(data):
    mail(REPORT.replace(b"%b", data))


def complaint(data):
    mail(FEEDBACK.replace(b"%b", data))


def notice(data):
    mail(NOTICE.replace(b"%b", data))


def form(data):
    content_type, _, body = data.partition(b"\0")
    kind = content_type.decode("latin-1")
    for text in (kind, "multipart/form-data; boundary=" + kind[:70]):
        inbound.form(body, text)
        inbound.verify_mailgun(("key",), {"content-type": text}, body, 0.0)
        for unwrap in (inbound.unwrap_mailgun, inbound.unwrap_sendgrid):
            inbound.events_of(unwrap(body, text), KEY)


def provider(module):
    def one(data):
        module.WEBHOOK.verify(("key",), {"authorization": data[:50].decode("latin-1")}, data, 0.0)
        try:
            parsed = module.WEBHOOK.parse(data, "application/json")
        except UnreadableError:
            return
        assert all(len(event.reason) <= 2000 for event in parsed.events)

    return one


def token(data):
    text = data.decode("utf-8", "surrogateescape")
    assert unsubscribe.verify(KEY, text) is None or len(text) < 100
    unsubscribe.token_in(text)
    return_path.attempt_of(KEY, text)


EVENT = b'{"event":"bounce","email":"k@shop.example","timestamp":1700000000,"sg_message_id":"m","reason":"550 5.1.1 no","type":"bounce"}'
MAILGUN = (
    b'{"signature":{"timestamp":"1","token":"t","signature":"s"},"event-data":{"event":"failed","id":"x","timestamp":1.5,'
    b'"recipient":"k@shop.example","severity":"permanent","reason":"bounce","delivery-status":{"code":550,"message":"no"},'
    b'"user-variables":{"rotord-attempt":"7"},"message":{"headers":{"message-id":"m@x"}}}}'
)
SMTP2GO = b'{"event":"bounce","rcpt":"k@shop.example","time":"2026-01-01T00:00:00Z","email_id":"1-2-3","bounce":"hard","message":"550 no"}'
FIELDS = b"Reporting-MTA: dns; x\n\nFinal-Recipient: rfc822; k@shop.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 no\n"
PART = b'--b\r\nContent-Disposition: form-data; name="email"\r\n\r\nFrom: a@b.c\r\n\r\n--b--\r\n'
SEEDS = {
    "report": [FIELDS],
    "complaint": [b"Feedback-Type: abuse\nUser-Agent: x/1\nVersion: 1\nOriginal-Rcpt-To: k@shop.example\n"],
    "form": [b"b\0" + PART, b"b\0--b\r\n\r\n--b--", b"\0timestamp=1&token=x"],
    "mailgun": [MAILGUN],
    "sendgrid": [b"[" + EVENT + b"," + EVENT + b"]"],
    "smtp2go": [SMTP2GO],
    "token": [unsubscribe.token(KEY, 77).encode(), return_path.build(KEY, 7, "b.example").encode()],
}
TARGETS = {
    "mail": mail, "report": report, "complaint": complaint, "notice": notice, "form": form, "token": token,
    "mailgun": provider(mailgun), "sendgrid": provider(sendgrid), "smtp2go": provider(smtp2go),
}  # fmt: skip


def main(name, seconds="600"):
    """Fuzz one; exits 0 after `seconds` without a finding. libFuzzer writes what it finds to ./crash-*."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = [path.read_bytes() for path in MAILS.glob("*.eml")] if name in {"mail", "notice"} else SEEDS[name]
        for number, seed in enumerate(seeds):
            (Path(folder) / str(number)).write_bytes(seed if name == "mail" else seed.partition(b"\n\n")[2] if name == "notice" else seed)
        limits = [
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-max_len=20000",
            f"-max_total_time={seconds}",
            "-print_final_stats=1",
            "-verbosity=0",
        ]
        atheris.Setup([sys.argv[0], *limits, folder], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
