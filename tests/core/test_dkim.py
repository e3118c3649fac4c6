"""Our signatures under somebody else's verifier (dkimpy): both kinds of key, odd bodies, and tampering."""

from __future__ import annotations

import base64
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from rotord.core.dkim import Signer
from rotord.core.model import Attachment, Message, Sender
from rotord.core.rendering import Stamp, render

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

AT = 1_795_000_000.9
DOMAIN = "acme-mail.example"


def pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Key(NamedTuple):
    """A signer, and the TXT record its domain would publish."""

    signer: Signer
    record: bytes

    def verifies(self, mime: bytes) -> bool:
        received = mime if mime.endswith(b"\r\n") else mime + b"\r\n"  # SMTP ends the last line
        return dkim.verify(received, dnsfunc=self.answer)

    def answer(self, name: bytes, timeout: int = 5) -> bytes | None:
        return self.record if name == f"s1._domainkey.{DOMAIN}.".encode() else None


def rsa_key(bits: int) -> Key:
    key = rsa.generate_private_key(65537, bits)
    public = base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return Key(Signer(DOMAIN, "s1", pem(key)), b"v=DKIM1; k=rsa; p=" + public)


def ed25519_key() -> Key:
    key = ed25519.Ed25519PrivateKey.generate()
    public = base64.b64encode(key.public_key().public_bytes_raw())
    return Key(Signer(DOMAIN, "s1", pem(key)), b"v=DKIM1; k=ed25519; p=" + public)


KEYS = {"rsa1024": rsa_key(1024), "rsa2048": rsa_key(2048), "ed25519": ed25519_key()}
HEAD = b"From: Acme <news@acme-mail.example>\r\nTo: jane@example.com\r\nSubject: Hello\r\n"


@pytest.fixture(params=KEYS)
def key(request: pytest.FixtureRequest) -> Key:
    return KEYS[request.param]


def letter(**changes: object) -> bytes:
    row = {
        "id": 1,
        "client": "acme",
        "recipient": "jane@example.com",
        "subject": "Grüße " * 30,
        "message_id": "<1.x@acme-mail.example>",
        "body_text": "Hello  there \n\n\n",
        "body_html": "<p>Grüße",
        "reply_to": "help@acme-mail.example",
        "in_reply_to": "<0.x@acme-mail.example>",
        "attachments": (Attachment("ä.bin", "application/pdf", bytes(500)),),
    }
    sender = Sender("news@acme-mail.example", "Acme, Inc.")
    return render(Message(**{**row, **changes}), sender, Stamp(1, AT, "https://rotor.example/u/t0ken"))


def test_a_rendered_message_verifies_and_is_otherwise_untouched(key: Key) -> None:
    mime = letter()

    signed = key.signer.sign(mime, AT)

    assert key.verifies(signed)
    assert signed.endswith(b"\r\n" + mime)
    assert signed.startswith(b"DKIM-Signature: v=1; a=")
    assert max(map(len, signed.partition(mime)[0].split(b"\r\n"))) <= 78


def test_every_header_that_matters_is_signed_and_from_once_more_than_it_occurs() -> None:
    signed = KEYS["ed25519"].signer.sign(letter(), AT)

    [listed] = re.findall(rb" h=([^;]*);", signed)
    assert listed.replace(b"\r\n ", b"").decode().split(":") == [
        *("From", "From", "To", "Subject", "Date", "Message-ID", "Reply-To", "In-Reply-To", "References", "MIME-Version"),
        *("Content-Type", "List-Unsubscribe", "List-Unsubscribe-Post"),
    ]
    assert b"; t=1795000000;" in signed


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\r\n", b"\r\n\r\n\r\n", b"a", b"a\r\n", b"a\r\n\r\n\r\n", b"a \r\n", b"a\t \t\r\n \r\n", b" \r\n", b"a  b\tc \r\n"),
        *(b"\t", b"a\r\n ", b"\r\n\r\na\r\n", b".\r\n..\r\n", b" leading\r\n\tleading\r\n", b"a" * 5000, b"a \r\n \t \r\n\r\n"),
    ],
)
def test_an_odd_body_verifies(body: bytes, key: Key) -> None:
    assert key.verifies(key.signer.sign(HEAD + b"\r\n" + body, AT))


@pytest.mark.parametrize(
    "head",
    [
        b"Subject: folded\r\n  twice\r\n\tand by a tab  \r\n",
        b"SUBJECT:   blanks  around \r\n",
        b"Subject:\r\n begins on the next line\r\n",
        b"Subject:\r\n",
        b"Subject: one\r\nX-Between: x\r\nSubject: two\r\n",
        b"X-Unsigned: x\r\n",
    ],
)
def test_an_odd_header_verifies(head: bytes, key: Key) -> None:
    assert key.verifies(key.signer.sign(b"From: a@acme-mail.example\r\n" + head + b"\r\nbody\r\n", AT))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"a", b".", b"=20"])).map(b"".join))
def test_any_mix_of_blanks_and_lines_verifies(body: bytes) -> None:
    assert KEYS["ed25519"].verifies(KEYS["ed25519"].signer.sign(HEAD + b"\r\n" + body, AT))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Hello", b"Hallo"),
        (b"To: jane@", b"To: john@"),
        (b"news@acme-mail.example>", b"news@evil.example>"),
        (b"List-Unsubscribe=One-Click", b"List-Unsubscribe=Two-Click"),
        (b"u/t0ken", b"u/f0rged"),
        (b"From: ", b"From: boss@acme-mail.example\r\nFrom: "),
        (b"Reply-To: help@", b"Reply-To: evil@"),
        (b"multipart/mixed", b"multipart/parallel"),
        (b"; t=1795000000;", b"; t=1795000001;"),
    ],
)
def test_tampering_breaks_the_signature(before: bytes, after: bytes, key: Key) -> None:
    signed = key.signer.sign(letter(), AT)
    assert before in signed

    assert not key.verifies(signed.replace(before, after, 1))


def test_one_signer_serves_many_threads() -> None:
    key = KEYS["rsa1024"]
    letters = [letter(id=number, subject=str(number)) for number in range(1, 41)]

    with ThreadPoolExecutor(4) as threads:
        signed = list(threads.map(lambda mime: key.signer.sign(mime, AT), letters))

    assert all(key.verifies(mime) for mime in signed)
    assert len(set(signed)) == len(letters)


RSA = rsa.generate_private_key(65537, 1024)


def short_rsa() -> rsa.RSAPrivateKey:
    """cryptography makes no key this short, but it loads one; two Mersenne primes save the search."""
    p, q, e = 2**521 - 1, 2**127 - 1, 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, p * q))
    return numbers.private_key()


BAD_KEYS = {
    "short": (pem(short_rsa()), "648 bits"),
    "not PEM": (b"hello", "PEM"),
    "a public key": (RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "PEM"),
    "torn": (pem(RSA)[:300], "PEM"),
    "encrypted": (RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")), "passphrase"),
    "elliptic": (pem(ec.generate_private_key(ec.SECP256R1())), "neither"),
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_a_key_that_cannot_sign_is_refused_without_quoting_it(case: str) -> None:
    key, word = BAD_KEYS[case]

    with pytest.raises(ValueError, match=word) as caught:
        Signer(DOMAIN, "s1", key)

    assert DOMAIN in str(caught.value)
    assert not [line for line in key.decode().splitlines() if len(line) > 10 and line in str(caught.value)]
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("domain", "selector"), [("acme.example; x=1", "s1"), ("acme.example", "s1\r\nBcc: x"), ("bücher.example", "s1"), ("", "s")]
)
def test_a_domain_or_selector_that_is_no_name_is_refused(domain: str, selector: str) -> None:
    with pytest.raises(ValueError, match="DNS name"):
        Signer(domain, selector, pem(RSA))


def test_a_signer_does_not_show_its_key() -> None:
    assert repr(KEYS["ed25519"].signer) == "Signer('acme-mail.example', 's1', ed25519-sha256)"
