"""What a domain's DNS says of its mail: SPF (RFC 7208), DKIM keys (RFC 6376, RFC 8463), DMARC (RFC 7489), judged by their texts.

Pure: the texts come from whoever asked the DNS. Judges what one record shows: SPF's includes are counted, not followed.
"""

from __future__ import annotations

import base64
import binascii
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

if TYPE_CHECKING:
    from collections.abc import Sequence

#: RFC 7208 4.6.4: more of these in all, and the check is an error
SPF_LOOKUPS: Final = 10
_ASKS_DNS: Final = frozenset({"include", "a", "mx", "ptr", "exists", "redirect"})
_POLICIES: Final = frozenset({"none", "quarantine", "reject"})
#: an organisational domain has at least two labels
_LEAST_LABELS: Final = 2


class Level(StrEnum):
    """How good it is. FAIL: mail suffers now, or will."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Verdict(NamedTuple):
    """What was found, and what to do about it ('' when there is nothing to do)."""

    level: Level
    says: str
    remedy: str = ""


def spf(domain: str, texts: Sequence[str]) -> Verdict:
    """Judge the TXT records of `domain`."""
    records = [text for text in texts if re.match(r"v=spf1(\s|$)", text, re.IGNORECASE)]
    if not records:
        example = f'publish a TXT record at {domain} like "v=spf1 include:(your provider\'s) ~all"'
        return Verdict(Level.FAIL, "there is no SPF record, so nobody can tell who may send from it", example)
    if len(records) > 1:
        return Verdict(Level.FAIL, f"there are {len(records)} SPF records, which counts as an error", "merge them into one")
    terms = [(term, re.split(r"[:/=]", term.lstrip("+-~?"), maxsplit=1)[0].lower()) for term in records[0].split()[1:]]
    names = [name for _, name in terms]
    if any(name == "all" and term[0] not in "-~?" for term, name in terms):
        return Verdict(Level.FAIL, "its SPF record lets everybody send (+all)", "end it with ~all or -all")
    lookups = sum(name in _ASKS_DNS for name in names)
    if lookups > SPF_LOOKUPS:
        remedy = f"at most {SPF_LOOKUPS} are allowed, those of its includes among them: remove some"
        return Verdict(Level.FAIL, f"its SPF record asks for {lookups} look-ups, which counts as an error", remedy)
    if not {"all", "redirect"} & set(names):
        return Verdict(Level.WARN, "its SPF record says nothing about everybody else", "end it with ~all or -all")
    return Verdict(Level.OK, records[0])


def dmarc_names(domain: str) -> list[str]:
    """List where the DMARC record may be, its own place first: a subdomain without one has its parent's."""
    labels = domain.split(".")
    return ["_dmarc." + ".".join(labels[at:]) for at in range(max(1, len(labels) - _LEAST_LABELS + 1))]


def dmarc(domain: str, texts: Sequence[str], *, inherited: bool = False) -> Verdict:
    """Judge the TXT records of the first of `dmarc_names` that has DMARC; `inherited` says that it is a parent's."""
    records = [text for text in texts if is_dmarc(text)]
    if not records:
        remedy = f'publish a TXT record at _dmarc.{domain} like "v=DMARC1; p=none; rua=mailto:(your mailbox)"'
        return Verdict(Level.WARN, "there is no DMARC record, which Gmail, Yahoo and Microsoft want of bulk senders", remedy)
    if len(records) > 1:
        return Verdict(Level.FAIL, f"there are {len(records)} DMARC records, so none counts", "leave one")
    tags = _tags(records[0])
    policy = (tags.get("sp") if inherited else None) or tags.get("p", "")
    if policy.lower() not in _POLICIES:
        return Verdict(Level.FAIL, f"its DMARC record has p={policy}, so it does not count", "write p=none, p=quarantine or p=reject")
    return Verdict(Level.OK, f"p={policy.lower()}" + (" of its parent domain" if inherited else ""))


def is_dmarc(text: str) -> bool:
    """Tell a DMARC record from what else may stand beside it."""
    return re.match(r"v\s*=\s*DMARC1\s*(;|$)", text) is not None


def dkim_name(domain: str, selector: str) -> str:
    """Say where the public key is."""
    return f"{selector}._domainkey.{domain}"


def dkim(place: str, texts: Sequence[str], private_key_pem: bytes) -> Verdict:
    """Judge the key records at `place` by the private key that signs (one that `core.dkim.Signer` has accepted)."""
    ours = _public_forms(private_key_pem)
    kind = "ed25519" if len(ours[0]) == 32 else "rsa"  # noqa: PLR2004  RFC 8463: 32 octets
    publish = f'publish there "v=DKIM1; k={kind}; p={base64.b64encode(ours[0]).decode("ascii")}"'
    records = [tags for text in texts if "p" in (tags := _tags(text))]
    if not records:
        return Verdict(Level.FAIL, f"there is no DKIM key at {place}", publish)
    if len(records) > 1:
        return Verdict(Level.FAIL, f"there are {len(records)} DKIM keys at {place}, of which a verifier takes any", "leave one")
    published = _decoded(records[0]["p"])
    if not published:
        return Verdict(Level.FAIL, f"the DKIM key at {place} is revoked (its p= is empty or no base64)", publish)
    if published not in ours:
        return Verdict(Level.FAIL, f"the DKIM key at {place} is not that of the private key, so every signature fails", publish)
    if "y" in records[0].get("t", "").lower().split(":"):
        return Verdict(Level.WARN, f"the DKIM key at {place} says that it is only a test (t=y)", "remove t=y once mail arrives signed")
    return Verdict(Level.OK, f"the key at {place} is ours")


def _tags(record: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in record.split(";") if "=" in part)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _public_forms(private_key_pem: bytes) -> tuple[bytes, ...]:
    """Give what p= may hold, the usual form first: RSA keys are published in one of two wrappings."""
    key = load_pem_private_key(private_key_pem, password=None).public_key()
    if isinstance(key, Ed25519PublicKey):
        return (key.public_bytes(Encoding.Raw, PublicFormat.Raw),)
    if isinstance(key, RSAPublicKey):
        return tuple(key.public_bytes(Encoding.DER, form) for form in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1))
    raise ValueError("The DKIM key is neither RSA nor Ed25519.")
