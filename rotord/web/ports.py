"""What the HTTP side needs of the rest, as functions and values that the composition root hands over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class UnavailableError(Exception):
    """The database cannot answer now; whether the call took effect is unknown, and asking again is right."""


class Source(StrEnum):
    """Who pressed: the mailbox provider for its user (RFC 8058), or the person on our page."""

    ONE_CLICK = "one-click"
    PAGE = "page"


@dataclass(frozen=True, slots=True)
class Addressee:
    """Whom a link is about. `client` is the name that people know."""

    client: str
    recipient: str


@dataclass(frozen=True, slots=True)
class Pulse:
    """How the database stands. `schema` is a word for it, `usable` whether this rotord can work on it; `epoch` is the newest term."""

    database: bool
    schema: str = "unknown"
    usable: bool = False
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Depth:
    """How long the queue is, by state, and how long ago its oldest ready message was due."""

    states: Mapping[str, int]
    oldest_due_s: float
    unfolded_posts: int = 0
    fold_lag_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Slots:
    """A provider's places."""

    up: bool | None
    ready: int
    in_flight: int
    capacity: int


class Stored(StrEnum):
    """What became of a verified post; FORGED: its token was taken by another body."""

    STORED = "stored"
    KNOWN = "known"
    FORGED = "forged"


@dataclass(frozen=True, slots=True)
class Post:
    """A verified post of a provider, as it came. `token` is taken once; `digest` tells the same post again from another one under it."""

    provider: str
    route: str
    token: str
    digest: bytes
    content_type: str
    body: bytes


#: Committed when it returns. Raises UnavailableError.
StorePost: TypeAlias = Callable[[Post], Awaitable[Stored]]
#: The row a link names, or None. Raises UnavailableError.
FindAddressee: TypeAlias = Callable[[int], Awaitable[Addressee | None]]
#: Suppresses the row's recipient for its client, committed when it returns; None when there is no such row. Raises UnavailableError.
Unsubscribe: TypeAlias = Callable[[int, Source], Awaitable[Addressee | None]]
#: Never raises for a database that is away.
ReadPulse: TypeAlias = Callable[[], Awaitable[Pulse]]
#: Raises UnavailableError.
ReadDepth: TypeAlias = Callable[[], Awaitable[Depth]]
ReadSlots: TypeAlias = Callable[[], Mapping[str, Slots]]
