"""What a fleet file declares: clients, domains and addresses, checked.

Where the file says nothing of `status` or `used_day` the value is None: it leaves what the database has, so that applying
the file again never undoes `rotord pause`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotord.core.model import Pacing, Status

if TYPE_CHECKING:
    from datetime import date

A_LINE: Final = "one line without control characters and without =?"
# As the schema's constraints: `=?` would begin an encoded word (RFC 2047) in the From header.
_NO_LINE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]|=\\?")


def is_line(text: str) -> bool:
    """Accept what may stand as a name in a header."""
    return _NO_LINE.search(text) is None


@dataclass(frozen=True, slots=True)
class DeclaredClient:
    """A `[[client]]`."""

    slug: str
    name: str = ""
    timezone: str = "UTC"
    per_hour: int | None = None
    per_day: int | None = None
    weight: float = 1.0
    transactional_reserve: float = 0.0
    sending_window: str | None = None
    pacing: Pacing = Pacing.NONE
    status: Status | None = None
    unsubscribe_host: str | None = None
    forward_replies_to: str | None = None


@dataclass(frozen=True, slots=True)
class DeclaredDomain:
    """A `[[client.domain]]`."""

    name: str
    client: str
    stream: str = "main"
    providers: tuple[str, ...] = ()
    per_hour: int | None = None
    per_day: int | None = None
    warmup: str = "none"
    warmup_started_on: date | None = None
    status: Status | None = None
    forward_replies_to: str | None = None


@dataclass(frozen=True, slots=True)
class DeclaredAddress:
    """A line of the address file."""

    email: str
    domain: str
    display_name: str = ""
    per_hour: int | None = None
    per_day: int | None = None
    status: Status | None = None
    used_day: int | None = None
    forward_replies_to: str | None = None


@dataclass(frozen=True, slots=True)
class FleetFile:
    """A whole fleet, in the order of its files; every reference in it holds."""

    clients: tuple[DeclaredClient, ...] = ()
    domains: tuple[DeclaredDomain, ...] = ()
    addresses: tuple[DeclaredAddress, ...] = ()
