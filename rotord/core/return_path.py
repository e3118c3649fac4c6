"""The return path of one attempt (VERP): it names the attempt and cannot be forged, so what comes back to it is about that attempt.

    bounces+<attempt, hexadecimal>-<HMAC-SHA256(key, context | attempt), 80 bits in base32>@bounces.example.com

At most 41 octets before the @ (64 are allowed). Lower case throughout and read whatever its case: some servers change it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

LOCAL_PART: Final = "bounces"
_CONTEXT: Final = b"rotord return path 1\0"
_MAC_BYTES: Final = 10  # 80 bits: guesses cost a mail each, and a right one suppresses one recipient
_FORM: Final = re.compile(r"bounces[+-]([0-9a-f]{1,16})-([a-z2-7]{16})(?:@.*)?", re.DOTALL)


def build(key: bytes, attempt_id: int, domain: str) -> str:
    """Return the return path of an attempt."""
    return f"{LOCAL_PART}+{attempt_id:x}-{_mac(key, attempt_id)}@{domain}"


def attempt_of(key: bytes, recipient: str) -> int | None:
    """The attempt that an address names; None for one that we did not make."""
    form = _FORM.fullmatch(recipient.strip().strip("<>").lower())
    if form is None:
        return None
    attempt_id = int(form.group(1), 16)
    return attempt_id if hmac.compare_digest(form.group(2), _mac(key, attempt_id)) else None


def attempt_among(key: bytes, recipients: Iterable[str]) -> int | None:
    """The first attempt that one of the addresses names."""
    return next((found for recipient in recipients if (found := attempt_of(key, recipient)) is not None), None)


def _mac(key: bytes, attempt_id: int) -> str:
    mac = hmac.digest(key, _CONTEXT + b"%x" % attempt_id, hashlib.sha256)[:_MAC_BYTES]
    return base64.b32encode(mac).decode("ascii").lower()
