"""A message as the fields of a JSON API, read back from the headers that the SMTP route would send.

There stand the thread's chain, the unsubscribe links, the marked subject of a rehearsal. Taking the fields from them, instead of
deciding them a second time, is what keeps all routes alike. Left out are those that the provider writes itself from the fields.
"""

from __future__ import annotations

import re
from email.header import decode_header, make_header
from typing import TYPE_CHECKING, Final, NamedTuple
from unicodedata import combining, normalize

from rotord.core import mime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotord.core.mime import Header
    from rotord.core.model import Attachment, Message, Sender

_FOLD: Final = re.compile(r"\r\n(?=[ \t])")
_PROVIDERS_OWN: Final = frozenset({"Date", "From", "To", "Subject", "Reply-To"})
_NOT_IN_A_TAG: Final = re.compile(r"[^ -~]+")


class ApiMail(NamedTuple):
    """`headers` are unfolded and ASCII unless an address needs SMTPUTF8; an empty body is None, for no API takes one."""

    sender: str
    sender_name: str
    recipient: str
    recipient_name: str
    reply_to: str
    subject: str
    text: str | None
    html: str | None
    headers: list[tuple[str, str]]
    attachments: tuple[Attachment, ...]


def api_mail(message: Message, sender: Sender, head: Sequence[Header]) -> ApiMail:
    """Take a message apart; `head` is what rendering made of it and its sender."""
    subject, headers = _fields(head)
    return ApiMail(
        sender=address(sender.email, "sender"),
        sender_name=sender.display_name.strip(" "),
        recipient=address(message.recipient, "recipient"),
        recipient_name=message.recipient_name.strip(" "),
        reply_to=address(message.reply_to, "reply-to address") if message.reply_to else "",
        subject=str(make_header(decode_header(subject))) if "=?" in subject else subject,
        text=_body(message.body_text),
        html=_body(message.body_html),
        headers=headers,
        attachments=message.attachments,
    )


def _fields(head: Sequence[Header]) -> tuple[str, list[tuple[str, str]]]:
    """The subject, and the headers that the provider does not write itself."""
    subject, headers = "", []
    for name, line in head:
        if name not in _PROVIDERS_OWN:
            headers.append((name, _value(name, line)))
        elif name == "Subject":
            subject = _value(name, line)
    return subject, headers


def _value(name: str, line: str) -> str:
    if "\n" in line:
        line = _FOLD.sub("", line)
        if "\n" in line or "\r" in line:
            raise mime.RenderError(f"The header {name} would be more than one.")
    return line[len(name) + 1 :].strip(" ")


def address(value: str, what: str) -> str:
    """Write an address as the message's own headers have it: the domain in A-labels wherever that is enough."""
    return mime.address(value, what, smtputf8=True)


def mailbox(name: str, addr_spec: str) -> str:
    """Write `name <address>` in the letters it has: a JSON string needs no encoded-words, but quotes all the same."""
    if not name:
        return addr_spec
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" <{addr_spec}>'


def tag(campaign: str, limit: int) -> str:
    """Write a campaign's name as a provider's tag: ASCII, bounded; what has no ASCII form becomes a hyphen."""
    ascii_form = "".join(character for character in normalize("NFKD", campaign) if not combining(character))
    return _NOT_IN_A_TAG.sub("-", ascii_form)[:limit].strip()


def _body(body: str | None) -> str | None:
    if body and "\r" in body:  # asked first: it is a hundred times as fast
        return body.replace("\r\n", "\n").replace("\r", "\n")
    return body or None
