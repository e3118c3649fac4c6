"""CPU microseconds a message, in this process: our writer beside the standard library's, our DKIM beside dkimpy's.

    python -m bench.rendering [--json] [--rounds N]

Each round times every row once, so that a busy machine disturbs all alike; the best round counts. The standard library's rows
get the same bodies, names and headers and are serialised by policy.SMTP.
"""

from __future__ import annotations

import argparse
import base64
import json
import time
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from typing import TYPE_CHECKING, NamedTuple

import dkim
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.figures import Figure, Scale
from rotord.core.dkim import Signer
from rotord.core.model import Attachment, Message, Sender
from rotord.core.rendering import Stamp, message_id, render

if TYPE_CHECKING:
    from collections.abc import Callable

AT = 1_795_000_000.0
URL = "https://rotor.example.com/u/AAAAAAAAAAdjZGVmZ2hpamtsbW5vcHFy"
SENDER = Sender("news@acme-mail.example", "Acme GmbH")
PLAIN_HTML = "<p class='body'>Dear customer, this line of the letter is of an ordinary length.</p>\n" * 49
UMLAUT_HTML = "<p class='body'>Grüße, dies ist eine gewöhnliche Zeile des Briefs, nicht länger.</p>\n" * 48


class Row(NamedTuple):
    name: str
    ours: Callable[[], object]
    theirs: Callable[[], object] | None


def message(**changes: object) -> Message:
    row = {
        "id": 42,
        "client": "acme",
        "recipient": "jane.doe@example.com",
        "recipient_name": "Jane Doe",
        "subject": "Your order of last week",
        "message_id": message_id(42, "acme-mail.example"),
        "body_text": "Dear customer,\n\nthank you for your order.\n" * 8,
        "body_html": PLAIN_HTML,
    }
    return Message(**{**row, **changes})


def ours(row: Message) -> bytes:
    return render(row, SENDER, Stamp(1_882_194_000_000_000_000, AT, URL))


def theirs(row: Message) -> bytes:
    found = EmailMessage(policy=SMTP)
    found["Date"] = formatdate(AT)
    found["From"] = Address(SENDER.display_name, addr_spec=SENDER.email)
    found["To"] = Address(row.recipient_name, addr_spec=row.recipient)
    found["Subject"] = row.subject
    found["Message-ID"] = row.message_id
    found["List-Unsubscribe"] = f"<{URL}>"
    found["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    found["X-Rotord-Attempt"] = "1882194000000000000"
    found.set_content(row.body_text or "")
    found.add_alternative(row.body_html or "", subtype="html")
    for file in row.attachments:
        main, _, sub = file.content_type.partition("/")
        found.add_attachment(file.content, main, sub, filename=file.filename)
    return found.as_bytes()


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    form = PrivateFormat.PKCS8 if isinstance(key, ed25519.Ed25519PrivateKey) else PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def rows() -> list[Row]:
    plain = message()
    umlauts = message(subject="Ihre Bestellung für März", recipient_name="Jörg Müller", body_html=UMLAUT_HTML)
    cyrillic = message(subject="Привет, мир", body_html="<p>Здравствуйте, это обычная строка письма.</p>\n" * 50)
    files = message(attachments=(Attachment("invoice.pdf", "application/pdf", bytes(range(256)) * 400),))
    built = [
        Row(name, lambda row=row: ours(row), lambda row=row: theirs(row))
        for name, row in (
            ("text + 4 kB html, ASCII", plain),
            ("text + 4 kB html, umlauts (quoted-printable)", umlauts),
            ("text + 4 kB html, Cyrillic (base64)", cyrillic),
            ("text + 4 kB html + 100 kB attachment", files),
        )
    ]
    rsa_key = pem(rsa.generate_private_key(65537, 2048))
    ed_key = ed25519.Ed25519PrivateKey.generate()
    seed = base64.b64encode(ed_key.private_bytes_raw())
    mime = ours(plain)
    rsa_signer = Signer("acme-mail.example", "s1", rsa_key)
    ed_signer = Signer("acme-mail.example", "s2", pem(ed_key))
    return [
        *built,
        Row("DKIM rsa2048", lambda: rsa_signer.sign(mime, AT), lambda: dkim.sign(mime, b"s1", b"acme-mail.example", rsa_key)),
        Row(
            "DKIM ed25519",
            lambda: ed_signer.sign(mime, AT),
            lambda: dkim.sign(mime, b"s2", b"acme-mail.example", seed, signature_algorithm=b"ed25519-sha256"),
        ),
    ]


def microseconds(call: Callable[[], object], budget_s: float) -> float:
    """Thread CPU time a call, over as many calls as fit the budget."""
    calls = 0
    began = time.thread_time()
    while (spent := time.thread_time() - began) < budget_s or calls == 0:
        for _ in range(4):
            call()
        calls += 4
    return spent / calls * 1e6


def figures(scale: Scale) -> list[Figure]:
    found = []
    for name, mine, library in rows():
        budget_s = {Scale.TINY: 0.001, Scale.SHORT: 0.1, Scale.FULL: 0.5}[scale]
        ours_us = min(microseconds(mine, budget_s) for _ in range(3))
        beside = "" if library is None else f"the library {microseconds(library, budget_s):,.0f}"
        found.append(Figure(name, ours_us, "us a message", at_most=100 if name == "text + 4 kB html, ASCII" else None, beside=beside))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    table = rows()
    best: dict[str, list[float]] = {row.name: [float("inf"), float("inf")] for row in table}
    for _ in range(options.rounds):
        for row in table:
            for column, call in enumerate((row.ours, row.theirs)):
                best[row.name][column] = min(best[row.name][column], microseconds(call, 0.05))
    if options.json:
        print(json.dumps({name: {"rotord_us": ours, "library_us": library} for name, (ours, library) in best.items()}))
        return
    print(f"{'CPU us a message':<48}{'rotord':>10}{'library':>10}{'ratio':>8}")
    for name, (mine, library) in best.items():
        print(f"{name:<48}{mine:>10.1f}{library:>10.0f}{library / mine:>7.0f}x")


if __name__ == "__main__":
    main()
