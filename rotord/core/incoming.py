"""What a mail that came to us is: a bounce, a complaint, a program's answer, or a person's reply.

    complaint?  ->  bounce?  ->  automatic?  ->  reply

A bounce is asked for before "automatic", because RFC 3464 reports are marked as automatic themselves; an out-of-office that speaks of
addresses is no bounce, since a bounce needs a mail system as its sender. Whose message a reply answers is for the caller to find, by
`references`, nearest first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from rotord.core import received
from rotord.core.automatic import is_automatic
from rotord.core.bounces import Bounce, bounces
from rotord.core.complaints import Complaint, complaint, is_feedback_report
from rotord.core.notices import comes_from_mail_system

if TYPE_CHECKING:
    from rotord.core.received import Part

#: what stands in the subject of a rehearsal's message (core.rendering) and so in that of its answer
_REHEARSED: Final = re.compile(r"\[to [^\s\[\]]+@[^\s\[\]]+\]")
#: a chain longer than this has lost its way; the newest are last
REFERENCES: Final = 50


class Automatic(StrEnum):
    """Not a person's."""

    AUTO_REPLY = "auto_reply"
    OTHER = "other"  # a report that is no bounce and no complaint of ours


@dataclass(frozen=True, slots=True)
class PersonsReply:
    """What a person wrote. `references`: the Message-IDs that it answers, nearest first. `rehearsed`: it answers what went to a tester."""

    sender: str
    subject: str
    references: tuple[str, ...]
    rehearsed: bool = False


@dataclass(frozen=True, slots=True)
class Bounced:
    """One bounce a recipient."""

    bounces: tuple[Bounce, ...]


def recognise(mail: Part, raw: bytes, envelope_sender: str | None = None) -> Complaint | Bounced | Automatic | PersonsReply:
    """Say what a mail is; `raw` is what it was read from. `envelope_sender` "" is the empty return path, None: not known."""
    told = complaint(mail)
    if told is not None:
        return told
    if is_feedback_report(mail):
        return Automatic.OTHER
    found = bounces(mail, raw)
    if found:
        return Bounced(found)
    if comes_from_mail_system(mail):
        return Automatic.OTHER
    if is_automatic(mail, envelope_sender):
        return Automatic.AUTO_REPLY
    return reply(mail)


def reply(mail: Part) -> PersonsReply:
    """Read a person's reply."""
    nearest = received.message_ids(mail.header("in-reply-to"))
    chain = [found for field in mail.all("references") for found in received.message_ids(field)][-REFERENCES:]
    ordered = dict.fromkeys((*nearest, *reversed(chain)))
    return PersonsReply(
        # a list of Google's puts its own address into From where DMARC asks for that
        sender=received.address(mail.header("x-original-from")) or received.address(mail.header("from")),
        subject=mail.header("subject")[:300],
        references=tuple(ordered),
        rehearsed=bool(_REHEARSED.search(mail.header("subject"))),
    )
