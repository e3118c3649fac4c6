"""DKIM signatures (RFC 6376, RFC 8463): relaxed/relaxed, RSA or Ed25519, for mail that leaves by plain SMTP.

Owns the canonical forms and the list of headers that are signed. Promises that the signature verifies for the bytes given
and that From is signed once more than it occurs, so that a second From added on the way breaks it. Pure and safe to call
from several threads; RSA takes most of a millisecond and lets the others run meanwhile, so the engine signs in a thread.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

#: RFC 8058 4 wants both unsubscribe headers covered; Content-Type because it says what the body is.
SIGNED_HEADERS: Final = (
    *("From", "To", "Subject", "Date", "Message-ID", "Reply-To", "In-Reply-To", "References", "MIME-Version"),
    *("Content-Type", "Content-Transfer-Encoding", "List-Unsubscribe", "List-Unsubscribe-Post"),
)
#: RFC 8301 3.2: verifiers ignore what is shorter.
RSA_BITS: Final = 1024

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?)*")
_BLANKS: Final = re.compile(rb"[ \t]+")
_B_LINE: Final = 72


class Signer:
    """One domain's key under one selector. Raises ValueError at once for a key that cannot sign; never quotes it."""

    def __init__(self, domain: str, selector: str, private_key_pem: bytes) -> None:
        if not _NAME.fullmatch(domain) or not _NAME.fullmatch(selector):
            raise ValueError("The DKIM domain or selector is not a DNS name in ASCII.")
        self.domain: Final = domain
        self.selector: Final = selector
        self._key: Final = _load(private_key_pem, domain)
        self._algorithm: Final = "rsa-sha256" if isinstance(self._key, RSAPrivateKey) else "ed25519-sha256"

    def __repr__(self) -> str:
        return f"Signer({self.domain!r}, {self.selector!r}, {self._algorithm})"

    def sign(self, mime: bytes, at: float) -> bytes:
        """Return the message with one DKIM-Signature before it. Line ends are CRLF already; `at` is the signature's time."""
        head, _, body = mime.partition(b"\r\n\r\n")
        names, fields = _select(head)
        body_hash = base64.b64encode(hashlib.sha256(_relaxed_body(body)).digest()).decode("ascii")
        listed = ":\r\n ".join(":".join(names[at : at + 6]) for at in range(0, len(names), 6))
        unsigned = (
            f"DKIM-Signature: v=1; a={self._algorithm}; c=relaxed/relaxed; d={self.domain};\r\n"
            f" s={self.selector}; t={int(at)};\r\n h={listed};\r\n bh={body_hash};\r\n b="
        ).encode("ascii")
        signature = base64.b64encode(self._signature(b"".join((*fields, _relaxed_header(unsigned)))))
        folded = b"\r\n ".join([signature[at : at + _B_LINE] for at in range(0, len(signature), _B_LINE)])
        return b"".join((unsigned, folded, b"\r\n", mime))

    def _signature(self, data: bytes) -> bytes:
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(data, PKCS1v15(), SHA256())
        return self._key.sign(hashlib.sha256(data).digest())  # RFC 8463 3: Ed25519 signs the hash


def _load(pem: bytes, domain: str) -> RSAPrivateKey | Ed25519PrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError(f"The DKIM key of {domain} is encrypted; give it without a passphrase.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"The DKIM key of {domain} is not a private key in PEM form.") from None
    if isinstance(key, RSAPrivateKey):
        if key.key_size < RSA_BITS:
            raise ValueError(f"The DKIM key of {domain} has {key.key_size} bits; verifiers want at least {RSA_BITS}.")
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise ValueError(f"The DKIM key of {domain} is neither RSA nor Ed25519.")


def _select(head: bytes) -> tuple[list[str], list[bytes]]:
    """Return the names for h= and the canonical headers in that order; of several alike the last comes first (RFC 6376 5.4.2)."""
    found: dict[bytes, list[bytes]] = {}
    for field in re.split(rb"\r\n(?![ \t])", head):
        canonical = _relaxed_header(field)
        found.setdefault(canonical.partition(b":")[0], []).append(canonical + b"\r\n")
    names = []
    fields: list[bytes] = []
    for name in SIGNED_HEADERS:
        same = found.get(name.lower().encode("ascii"), [])
        names += [name] * len(same)
        fields += reversed(same)
        if name == "From":
            names.append(name)
    return names, fields


def _relaxed_header(field: bytes) -> bytes:
    name, _, value = field.partition(b":")
    return name.strip(b" \t").lower() + b":" + _BLANKS.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")


def _relaxed_body(body: bytes) -> bytes:
    """RFC 6376 3.4.4: runs of blanks are one space, none at the end of a line, no empty lines at the end."""
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"  # as SMTP will
    if b"\t" in body or b"  " in body:
        body = _BLANKS.sub(b" ", body)
    body = body.replace(b" \r\n", b"\r\n").rstrip(b"\r\n")
    return body + b"\r\n" if body else b""
