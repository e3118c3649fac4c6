"""An SMTP server in the test's own process whose answers a test decides, message by message; it keeps what it took, whole."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from email.policy import SMTP as SMTP_POLICY
from typing import Any

from aiosmtpd.smtp import SMTP

OK = "250 2.0.0 Ok: queued as 1"


@dataclass(frozen=True, slots=True)
class Given:
    """One transaction: what came, when, and what was answered to its final dot or its recipient."""

    at: float
    sender: str
    recipient: str
    message: Message | None
    answer: str

    def header(self, name: str) -> str:
        """A header's value, unfolded; '' if it is not there."""
        return "" if self.message is None else str(self.message.get(name, ""))


def _take(_sender: str, _recipient: str) -> str:
    return OK


@dataclass
class PolicyReceiver:
    """`on_rcpt` and `on_data` give the answer for a (sender, recipient)."""

    on_rcpt: Callable[[str, str], str] = _take
    on_data: Callable[[str, str], str] = _take
    given: list[Given] = field(default_factory=list)
    port: int = 0

    @property
    def taken(self) -> list[Given]:
        """Those that were accepted, in order."""
        return [one for one in self.given if one.answer.startswith("250")]

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802
        answer = self.on_rcpt(envelope.mail_from, address)
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        else:
            self.given.append(Given(time.time(), envelope.mail_from, address, None, answer))
        return answer

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        (recipient,) = envelope.rcpt_tos
        answer = self.on_data(envelope.mail_from, recipient)
        message = message_from_bytes(envelope.content, policy=SMTP_POLICY)
        self.given.append(Given(time.time(), envelope.mail_from, recipient, message, answer))
        return answer


@asynccontextmanager
async def listening(
    policy: PolicyReceiver, *, context: ssl.SSLContext | None = None, authenticator: Any = None
) -> AsyncIterator[PolicyReceiver]:
    """Let it listen on a free port of loopback; with `context` it wants STARTTLS, with `authenticator` a login."""
    loop = asyncio.get_running_loop()

    def session() -> SMTP:
        return SMTP(
            policy,
            hostname="policy.invalid",
            enable_SMTPUTF8=True,
            tls_context=context,
            require_starttls=context is not None,
            authenticator=authenticator,
            auth_required=authenticator is not None,
            loop=loop,
        )

    server = await loop.create_server(session, "127.0.0.1", 0)
    policy.port = server.sockets[0].getsockname()[1]
    try:
        yield policy
    finally:
        server.close()
