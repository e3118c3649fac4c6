"""A person's reply on its way to whoever answers for the client: what the mail says that passes it on.

It goes round in no circle: it is marked as passed on by a program (which `core.automatic` knows), and neither a reply from
where replies go nor one to a mail that passed one on is passed on again (`db.forwards`).
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotord.core import mime, received
from rotord.core.automatic import PASSED_ON
from rotord.core.events import words
from rotord.core.mime import RenderError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotord.core.received import Part

#: what the mail carries, so that programs on its way know it again
HEADERS: Final = {"Auto-Submitted": "auto-forwarded", "X-Loop": PASSED_ON}
#: of the original: what a message may carry as files (contract.md 5.1)
ORIGINAL_BYTES: Final = 10 * 1024 * 1024
_SUBJECT_LENGTH: Final = 300
# A line's end and a tab may stand in a text, no other control character, and no half of a surrogate pair.
_NOT_TEXT: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Forward:
    """A row's subject, body and reply-to ("" = none), and the whole reply in base64 ("" = too large to go along)."""

    subject: str
    body: str
    reply_to: str
    original: str


def forward(raw: bytes, sender: str, replied_to: str) -> Forward:
    """Write it of a reply as it came. `sender`: who wrote it; `replied_to`: our address that it answers."""
    mail = received.read(raw)
    fits = len(raw) <= ORIGINAL_BYTES
    facts = [
        f"From: {words(mail.header('from'))}",
        f"To: {replied_to}",
        f"Date: {words(mail.header('date'))}",
        "The whole mail is attached." if fits else f"The whole mail is {len(raw):,} bytes long, too large to be attached.",
    ]
    return Forward(
        subject=words(mail.header("subject"), _SUBJECT_LENGTH).replace("=?", "= ?") or "(no subject)",
        body="\n".join((*facts, "", _text(mail))),
        reply_to=_reply_to(sender),
        original=b64encode(raw).decode("ascii") if fits else "",
    )


def _reply_to(sender: str) -> str:
    """Who wrote it, if a header may say so: some addresses of this world break the rules, and one beyond ASCII would ask for SMTPUTF8."""
    try:
        mime.address(sender, "reply-to address", smtputf8=False)
    except RenderError:
        return ""
    return sender


def _text(mail: Part) -> str:
    """What was written: the first plain text, else the words of the first HTML."""
    texts = [part for part in _own(mail) if part.content_type in {"text/plain", "text/html"}]
    part = next((part for part in texts if part.content_type == "text/plain"), next(iter(texts), None))
    return "(no text)" if part is None else _NOT_TEXT.sub(" ", part.text()).strip() or "(no text)"


def _own(part: Part) -> Iterator[Part]:
    """The parts that are the mail itself: not in a mail that it carries, nor a file."""
    if part.content_type.startswith("message/") or part.header("content-disposition").strip().lower().startswith("attachment"):
        return
    if part.parts:
        for inner in part.parts:
            yield from _own(inner)
    else:
        yield part
