"""What every provider is to the engine: slots that are ready to send, and one call that never raises.

A slot is a place in which a message can leave *now*: for SMTP an open, greeted and authenticated connection, for an HTTP API
one of `max_in_flight` requests. The dispatcher begins a message (commits its attempt) only when it holds a slot, so what
fails before the wire costs nobody a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rotord.core.lookups import Finding, Sought, Timetable
    from rotord.core.mime import Header
    from rotord.core.model import Message, Reply, Sender


class Envelope(NamedTuple):
    """One message on its way: what the attempt needs, rendered. `mime` is complete, CRLF line ends, signed if it is signed.

    A provider that `writes_mail` itself has no `mime`, but its `head`, unsigned: a signature would not hold over what it writes.
    """

    attempt_id: int
    sender: Sender
    message: Message
    mime: bytes = b""
    head: Sequence[Header] = ()


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """How a provider is doing, for `rotord status` and `rotord why`. `up` is None until its first connection was tried."""

    up: bool | None
    ready: int
    in_flight: int
    capacity: int
    reason: str = ""
    next_try_in_s: float | None = None


class Provider(Protocol):
    """A way out. Only the dispatcher calls `want` and `take`; `send` runs in the delivery's own task."""

    name: str
    kind: str
    #: it makes the mail from its parts, so no body is encoded and nothing signed for it
    writes_mail: bool
    #: seconds after which an attempt is over whatever happened: the ledger's deadline_at comes from it
    attempt_timeout_s: float

    def ready(self) -> int:
        """Count the slots in which a message could leave now and which nobody has taken."""

    def want(self, slots: int) -> None:
        """Say how many slots the backlog could use; a provider opens connections in the background up to its own bound."""

    def on_ready(self, wake: Callable[[], None]) -> None:
        """Register the one function to call when a slot became ready or the provider came back."""

    def take(self) -> Slot | None:
        """Take a ready slot, or None if the last one has just gone."""

    def status(self) -> ProviderStatus:
        """Tell how it is doing; cheap."""

    async def run(self) -> None:
        """Keep connections open, probe while down. Runs for the life of the daemon; ends only by cancellation."""

    async def close(self) -> None:
        """Close every connection politely, within seconds."""


class LookUp(Protocol):
    """A provider's look-up: whether it has a message. Only the reconciler's task of that provider asks."""

    name: str
    timetable: Timetable

    async def ask(self, sought: Sought) -> Finding:
        """Look one message up, in its own time: it keeps to the provider's rate. Never raises but for cancellation."""

    async def close(self) -> None:
        """Close its connection."""


class Slot(Protocol):
    """A taken slot: `prepare` once, then `send` exactly once; or, at any time before `send`, `give_back` exactly once."""

    def prepare(self, envelope: Envelope) -> None:
        """Write what will leave: right after the rendering it costs half of what it costs in the delivery. May run in a thread.

        Raises RenderError for a message that this provider cannot be given: it has not begun yet.
        """

    async def send(self, leaving: Callable[[], None]) -> Reply:
        """Send what was prepared and say what became of it. Never raises but for cancellation; after it the slot is free again.

        It calls `leaving` right before it hands over the last byte, with no await between the two: should the process be killed, what it
        was not called for counts as never sent. An OSError of it means: do not send.

        Cancelled before the body has left: the caller records not_sent; `body_left` tells.
        """

    @property
    def body_left(self) -> bool:
        """True once the provider may have the message."""

    def give_back(self) -> None:
        """Return it unused."""
