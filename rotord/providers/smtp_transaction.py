"""One message over one open SMTP session, and an exact account of how far it got.

aiosmtplib's `send` and `data` hide whether a broken connection came before or after the final dot; here each command is a
step of its own, so that `phase` is always what the server has heard last. `body_left` turns True immediately before the
write that ends in the final dot: from then on the server may have the message, before it it cannot.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

import idna
from aiosmtplib import SMTPException, SMTPResponseException

from rotord.core.model import Blame, Outcome, Reply
from rotord.core.replies import Phase, connection_lost, smtp_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiosmtplib import SMTP

    from rotord.providers.base import Envelope

#: written at once, so that the final dot leaves with the rest; above it the dot waits until the rest is with the kernel
_CHUNK: Final = 65_536
_FINAL_DOT: Final = b".\r\n"
_START_INPUT: Final = 354
# whatever would end the command early, or start another: such an address is refused, never repaired
_NOT_IN_A_PATH: Final = re.compile(r"[\x00-\x20\x7f<>]")
_XTEXT_ESCAPED: Final = re.compile(r"[^!-*,-<>-~]")


class SmtpTransaction:
    """MAIL, RCPT, DATA, body, final dot. `writer` writes to the session's own transport, with flow control."""

    def __init__(
        self,
        client: SMTP,
        writer: asyncio.StreamWriter,
        envelope: Envelope,
        command_timeout_s: float,
        final_dot_timeout_s: float,
        *,
        return_path: str = "",
        is_rehearsal: bool = False,
    ) -> None:
        self.phase = Phase.MAIL
        self.body_left = False
        #: the two sides agree that no transaction is open; else RSET first
        self.clean = True
        #: the two sides may disagree: close
        self.broken = False
        self._client = client
        self._writer = writer
        self._envelope = envelope
        self._return_path = return_path or envelope.sender.email
        self._envelope_id = (b"rehearsal-%d" if is_rehearsal else b"%d") % envelope.attempt_id
        self._command_timeout_s = command_timeout_s
        self._final_dot_timeout_s = final_dot_timeout_s
        self._commands = self._worded()
        self._body = _stuffed(envelope.mime)

    async def run(self, leaving: Callable[[], None]) -> Reply:
        """Go through it. Everything up to the final dot has `command_timeout_s`, the answer to it `final_dot_timeout_s`.

        `leaving`: see Slot.
        """
        commands = self._commands
        if isinstance(commands, Reply):
            return commands
        try:
            async with asyncio.timeout(self._command_timeout_s) as deadline:
                for phase, command in commands:
                    self.phase, self.clean = phase, False
                    code, text = await self._client.execute_command(*command, timeout=None)
                    if code != _START_INPUT if phase is Phase.DATA else not 200 <= code < 300:  # noqa: PLR2004
                        return self._ended(smtp_reply(phase, code, text), code)
                await self._write_body(leaving)
                deadline.reschedule(asyncio.get_running_loop().time() + self._final_dot_timeout_s)
                code, text = await self._answer()
        except SMTPResponseException as garbage:
            self.broken = True
            return smtp_reply(self.phase, garbage.code, garbage.message)
        except TimeoutError:
            self.broken = True
            return connection_lost(self.phase, "no answer in time")
        except (SMTPException, OSError) as error:
            self.broken = True
            return connection_lost(self.phase, str(error) or type(error).__name__)
        return self._ended(smtp_reply(self.phase, code, text), code)

    def _ended(self, reply: Reply, code: int) -> Reply:
        self.broken = code == 421 or not 200 <= code < 600 or reply.outcome in {Outcome.NOT_SENT, Outcome.UNCERTAIN}  # noqa: PLR2004
        self.clean = reply.outcome is Outcome.ACCEPTED or self.phase is Phase.MAIL
        return reply

    async def _write_body(self, leaving: Callable[[], None]) -> None:
        body = self._body
        last = (len(body) - 1) // _CHUNK * _CHUNK
        for start in range(0, last, _CHUNK):
            self._writer.write(body[start : start + _CHUNK])
            await self._writer.drain()
        if not self._client.is_connected:
            raise ConnectionResetError("connection lost")
        # No await between these: what is said here is what happens.
        leaving()
        self.phase, self.body_left = Phase.FINAL_DOT, True
        self._writer.write(body[last:] + _FINAL_DOT)

    async def _answer(self) -> tuple[int, str]:
        protocol = self._client.protocol
        if protocol is None:
            raise ConnectionResetError("connection lost")
        code, text = await protocol.read_response(timeout=None)
        return code, text

    def _worded(self) -> list[tuple[Phase, tuple[bytes, ...]]] | Reply:
        """Put the envelope into words this server knows, or refuse what it could not carry."""
        extensions, mime = self._client.esmtp_extensions, self._envelope.mime
        sender, recipient = _in_ascii(self._return_path), _in_ascii(self._envelope.message.recipient)
        utf8 = not (sender + recipient).isascii() or not mime.partition(b"\r\n\r\n")[0].isascii()
        refusal = _refusal(extensions, sender, recipient, mime, utf8=utf8)
        if refusal is not None:
            return refusal
        mail, rcpt = [b"MAIL", f"FROM:<{sender}>".encode()], [b"RCPT", f"TO:<{recipient}>".encode()]
        if "size" in extensions:
            mail.append(b"SIZE=%d" % len(mime))
        if "8bitmime" in extensions and not mime.isascii():
            mail.append(b"BODY=8BITMIME")
        if utf8:
            mail.append(b"SMTPUTF8")
        if "dsn" in extensions:
            # A bounce that comes back as mail carries both, so it finds its attempt whatever happened to the headers.
            mail += [b"RET=HDRS", b"ENVID=" + self._envelope_id]
            if recipient.isascii():
                rcpt.append(b"ORCPT=rfc822;" + _xtext(recipient))
        return [(Phase.MAIL, tuple(mail)), (Phase.RCPT, tuple(rcpt)), (Phase.DATA, (b"DATA",))]


def _stuffed(mime: bytes) -> bytes:
    """A body as RFC 5321 4.5.2 has it on the wire, without the final dot; without a dot to stuff it is the same object."""
    body = mime.replace(b"\r\n.", b"\r\n..")
    if body.startswith(b"."):
        body = b"." + body
    return body if body.endswith(b"\r\n") else body + b"\r\n"


def _refusal(extensions: Mapping[str, str], sender: str, recipient: str, mime: bytes, *, utf8: bool) -> Reply | None:
    """Say why this server could not, or must not, be given the message; None if it can."""
    # A bare CR or LF could end the message early on the far side (SMTP smuggling).
    if not mime.count(b"\r\n") == mime.count(b"\n") == mime.count(b"\r"):
        return _refused(Blame.CONTENT, "the message has a bare CR or LF")
    size_limit = extensions.get("size", "")
    if size_limit.isdecimal() and 0 < int(size_limit) < len(mime):
        return _refused(Blame.CONTENT, f"the message has {len(mime)} bytes, the server takes {size_limit}")
    for address, blame in ((sender, Blame.SENDER), (recipient, Blame.RECIPIENT)):
        if _NOT_IN_A_PATH.search(address):
            return _refused(blame, "the address cannot be written in an SMTP command")
    if utf8 and "smtputf8" not in extensions:
        return _refused(Blame.CONTENT, "an address or header needs SMTPUTF8, which the server does not support")
    return None


def _refused(blame: Blame, text: str) -> Reply:
    return Reply(Outcome.REJECTED, blame, "", text)


def _in_ascii(address: str) -> str:
    """An international domain has an ASCII form and needs no extension; a local part has none."""
    local, at, domain = address.rpartition("@")
    if domain.isascii():
        return address
    try:
        return f"{local}{at}{idna.encode(domain, uts46=True).decode('ascii')}"
    except UnicodeError:
        return address


def _xtext(text: str) -> bytes:
    """Write `text` as RFC 3461's xtext."""
    return _XTEXT_ESCAPED.sub(lambda found: f"+{ord(found.group()):02X}", text).encode("ascii")
