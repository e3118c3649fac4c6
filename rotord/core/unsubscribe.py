"""The token in an unsubscribe link: it names one outbox row, which names client and recipient, and cannot be forged.

    base64url( id, 8 octets | HMAC-SHA256(key, context | id), first 16 octets )        32 characters, no padding

It never expires: a link in an old message must still work. Keys are rotated by verifying with the old ones as well. A rehearsal's
message reached a tester instead of its recipient, so its token is made with another key (`rehearsal_key`) and unsubscribes nobody.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final

KEY_BYTES: Final = 16

_CONTEXT: Final = b"rotord unsubscribe 1\0"  # the key may serve other purposes; a token of those is none of these
_ID_BYTES: Final = 8
_MAC_BYTES: Final = 16  # 128 bits: beyond guessing over HTTP
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{32}")
_SUBJECT: Final = re.compile(r"\bunsubscribe ([A-Za-z0-9_-]{32})\s*\Z", re.IGNORECASE)


def token(key: bytes, outbox_id: int) -> str:
    """Return the token of an outbox row. OverflowError for an id that is no bigint, ValueError for a key that is too short."""
    row = outbox_id.to_bytes(_ID_BYTES, "big", signed=True)
    return base64.urlsafe_b64encode(row + _mac(key, row)).decode("ascii")


def verify(key: bytes | tuple[bytes, ...], token: str) -> int | None:
    """Return the row's id if the token was made with the key, or with one of several; None for anything else."""
    if not _TOKEN.fullmatch(token):
        return None
    raw = base64.urlsafe_b64decode(token)
    row, mac = raw[:_ID_BYTES], raw[_ID_BYTES:]
    keys = (key,) if isinstance(key, bytes) else key
    # Every key is tried whatever the first says, so that the time tells nothing.
    matches = [hmac.compare_digest(mac, _mac(candidate, row)) for candidate in keys]
    return int.from_bytes(row, "big", signed=True) if any(matches) else None


def rehearsal_key(key: bytes) -> bytes:
    """Return the key of a rehearsal's tokens."""
    return hmac.digest(key, b"rotord unsubscribe rehearsal 1", hashlib.sha256)


def mailto(address: str, token: str) -> str:
    """Return the mail link of a token: whoever follows it sends a mail whose subject `token_in` reads."""
    return f"mailto:{address}?subject=unsubscribe%20{token}"


def token_in(subject: str) -> str | None:
    """Find the token in the subject of a mail that asks to unsubscribe; readers and gateways may have put words before it."""
    found = _SUBJECT.search(subject)
    return None if found is None else found[1]


def _mac(key: bytes, row: bytes) -> bytes:
    if len(key) < KEY_BYTES:
        raise ValueError(f"The key of the unsubscribe links is shorter than {KEY_BYTES} octets.")
    return hmac.digest(key, _CONTEXT + row, hashlib.sha256)[:_MAC_BYTES]
