"""What every provider's webhook has: keys to verify by, and a post's verdict."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from rotord.core.events import Parsed

#: clocks differ; a post from further ahead is not believed
AHEAD_S: Final = 900.0


class Verified(NamedTuple):
    """It is the provider's. `token` may be taken once: a second post under it is the same one again, or forged."""

    token: str


class Refused(NamedTuple):
    """It is not to be believed. `signed`: the key is right all the same, so that refusing it loses nothing that a new key would bring."""

    reason: str
    signed: bool = False


#: keys (the present one, those before it), headers by lower-case name, the body as it came, seconds since 1970
Verify: TypeAlias = Callable[[tuple[str, ...], Mapping[str, str], bytes, float], Verified | Refused]
#: the body, its content type
Parse: TypeAlias = "Callable[[bytes, str], Parsed]"


class UnreadableError(Exception):
    """A verified post is not what its provider publishes; it stays stored and is folded again by `rotord events replay`."""


class Webhook(NamedTuple):
    """One provider kind. `refusal`: the answer that ends a forged post."""

    verify: Verify
    parse: Parse
    refusal: int


def digest(body: bytes) -> str:
    """A token for posts that bring none."""
    return sha256(body).hexdigest()


def verify_bearer(keys: tuple[str, ...], headers: Mapping[str, str], body: bytes, _now: float) -> Verified | Refused:
    """Compare the token; a body has no time of its own, so the same body is one post for as long as posts are kept."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    given = token.strip().encode("utf-8", "replace")
    if scheme.lower() != "bearer" or not any(hmac.compare_digest(key.encode(), given) for key in keys):
        return Refused("wrong token")
    return Verified(digest(body))


def in_time(timestamp: str, now: float, window_s: float) -> bool:
    """Say whether whole seconds, as text, lie in the window before `now`."""
    line = timestamp.strip()
    return line.isascii() and line.isdigit() and len(line) <= len("10000000000") and -AHEAD_S <= now - int(line) <= window_s
