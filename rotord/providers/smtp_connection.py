"""One session with an SMTP server: opened, greeted, encrypted, let in; kept; ended.

Owns the handshake and the words for why it failed. A certificate that does not verify, or a server that does not offer
the encryption it was configured with, is a failure: there is no falling back to plain text.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

from aiosmtplib import SMTP, SMTPException, SMTPResponseException

from rotord.core.model import Blame, Reply
from rotord.core.replies import Phase, clean, connection_lost, is_too_many_connections, smtp_reply

if TYPE_CHECKING:
    from collections.abc import Callable

#: QUIT is a courtesy; a server that does not answer it gets no more of our time
QUIT_TIMEOUT_S: Final = 2.0
#: liveness: a server that cannot answer RSET within it is not one to give a message to
RESET_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class SmtpConfig:
    """One configured SMTP relay. `ca_file` adds a private authority to the system's; `hello_name` is what we say we are."""

    name: str
    host: str
    port: int
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    username: str = ""
    password: str = ""
    connections: int = 8
    ca_file: str = ""
    hello_name: str = "localhost"
    #: the domain of the return path of each message, `{domain}` for the sender's; empty: the sender address is the return path
    return_path: str = ""
    return_path_key: bytes = b""
    #: bounces of a rehearsal's messages are to name no attempt by their ENVID: nothing in it says that they went to a tester
    is_rehearsal: bool = False
    connect_timeout_s: float = 30.0
    #: for everything from MAIL to the last byte before the final dot
    command_timeout_s: float = 300.0
    #: RFC 5321 4.5.3.2.6 and Postfix: to wait less makes duplicates
    final_dot_timeout_s: float = 600.0
    idle_s: float = 60.0
    #: unused for longer than this, a session is asked whether it still lives before a message is given to it
    verify_idle_s: float = 10.0
    probe_max_s: float = 30.0

    def __repr__(self) -> str:
        return f"SmtpConfig({self.name}, {self.host}:{self.port}, tls={self.tls})"


class HandshakeError(Exception):
    """No session came about. `reply` says it as an outcome, for the blame and the code; the text is for a person."""

    def __init__(self, reason: str, reply: Reply) -> None:
        super().__init__(reason)
        self.reply = reply

    @property
    def too_many_connections(self) -> bool:
        """The server has enough of us, but nothing against us."""
        return is_too_many_connections(self.reply)

    @property
    def needs_a_person(self) -> bool:
        """Trying again changes nothing: the credentials or the certificate are wrong."""
        return self.reply.blame is Blame.ACCOUNT


def tls_context(config: SmtpConfig) -> ssl.SSLContext | None:
    """Make the context all of a provider's sessions share; reads files, so not on the loop. None for tls = none."""
    if config.tls == "none":
        return None
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.ca_file:
        context.load_verify_locations(config.ca_file)
    return context


class SmtpConnection:
    """An open session. Used by one task at a time: the one that took it, or the provider's own while it is idle."""

    def __init__(self, client: SMTP, writer: asyncio.StreamWriter, now: float) -> None:
        self.client = client
        self.writer = writer
        self._transport = writer.transport
        self.messages = 0
        #: when a message last went over it, and when it last gave a sign of life (monotonic)
        self.used_at = now
        self.alive_at = now

    @classmethod
    async def open(cls, config: SmtpConfig, context: ssl.SSLContext | None, clock: Callable[[], float]) -> SmtpConnection:
        """Open a session ready for MAIL, within `connect_timeout_s` for all of it, or raise HandshakeError."""
        client = SMTP(
            hostname=config.host,
            port=config.port,
            local_hostname=config.hello_name,
            timeout=None,
            use_tls=config.tls == "implicit",
            start_tls=False,
            tls_context=context,
        )
        phase = Phase.CONNECT
        try:
            async with asyncio.timeout(config.connect_timeout_s):
                await client.connect()
                phase = Phase.GREETING
                await client.ehlo()
                if config.tls == "starttls":
                    phase = Phase.STARTTLS
                    await client.starttls()
                    await client.ehlo()
                if config.username:
                    phase = Phase.AUTH
                    await client.login(config.username, config.password)
        except (SMTPException, OSError, ValueError) as error:
            client.close()
            raise _handshake_error(config, phase, error) from error
        except asyncio.CancelledError:
            client.close()
            raise
        protocol = client.protocol
        if protocol is None or protocol.transport is None:
            raise _handshake_error(config, phase, ConnectionResetError("connection lost"))
        # uvloop's transports are none by inheritance, hence the casts
        transport = cast("asyncio.WriteTransport", protocol.transport)
        writer = asyncio.StreamWriter(transport, protocol, None, asyncio.get_running_loop())
        return cls(client, writer, clock())

    @property
    def is_open(self) -> bool:
        """False as soon as either side has closed: no message is given to it then."""
        return not self._transport.is_closing()  # asked of every idle session at every turn

    async def reset(self, now: float) -> bool:
        """Ask for a clean slate; True if the server lives and agrees."""
        try:
            async with asyncio.timeout(RESET_TIMEOUT_S):
                code, _ = await self.client.execute_command(b"RSET", timeout=None)
        except (SMTPException, OSError):
            self.abort()
            return False
        if code != 250:  # noqa: PLR2004 - the only answer RFC 5321 knows
            self.abort()
            return False
        self.alive_at = now
        return True

    async def quit(self) -> None:
        """Say goodbye and close; errors of it mean nothing."""
        try:
            async with asyncio.timeout(QUIT_TIMEOUT_S):
                await self.client.execute_command(b"QUIT", timeout=None)
        except (SMTPException, OSError):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once; what has not reached the kernel never will."""
        self.writer.transport.abort()
        self.client.close()


def _handshake_error(config: SmtpConfig, phase: Phase, error: Exception) -> HandshakeError:
    where = f"{config.host}:{config.port}"
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    reply: Reply | None = None
    match cause:
        case SMTPResponseException():
            phase = Phase.GREETING if phase is Phase.CONNECT else phase
            reply = smtp_reply(phase, cause.code, cause.message)
            reason = f"{where} answered {cause.code} {cause.message} ({phase})"
        case ssl.SSLCertVerificationError():
            reason = f"{where}: the certificate does not verify: {cause.verify_message}"
        case ssl.SSLError():
            reason = f"{where}: TLS failed: {cause.reason or cause}; does tls = {config.tls!r} fit the port?"
        case socket.gaierror():
            reason = f"{where}: no such host: {cause.strerror}"
        case ConnectionRefusedError():
            reason = f"{where}: connection refused"
        case TimeoutError():
            reason = f"{where}: no answer in {config.connect_timeout_s:g} s ({phase})"
        case _:
            reason = f"{where}: {str(cause) or type(cause).__name__} ({phase})"
    return HandshakeError(clean(reason), reply or connection_lost(phase, reason))
