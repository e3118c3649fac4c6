"""Bounces that are no RFC 3464 reports: what mail servers write to people, each family by its own words.

A recipient is read only where a family puts it: behind its introduction or inside its sentence, never "any address in the text". What
stands behind the returned message's first line is not looked at. Order: the header that names them (Exim, Gmail), the families' shapes,
the sentence shapes, and last the one address that both the notice names and the returned message was written to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from rotord.core import notice_shapes as shapes
from rotord.core import received
from rotord.core.events import attempt

if TYPE_CHECKING:
    from rotord.core.received import Part

#: of the words of a notice; what is longer is a list of what we sent
NOTICE_LENGTH: Final = 20_000
_LIST_LINES: Final = 12
_FOUND: Final = 20
_REASON_LENGTH: Final = 600
_SEARCHED: Final = 4_000
#: lines that may begin the message that came back: each is read from on, and an innocent notice has a handful
_BEGINNINGS: Final = 50
#: `RETURNED` tries every cut of a run of blanks: 2,000 of them would hold the leader for minutes
_BLANKS: Final = re.compile(r"[ \t]{9,}")


@dataclass(frozen=True, slots=True)
class Notice:
    """Who failed, each with the words about it. `words` are the whole notice's, `is_warning`: it is still being tried."""

    failed: tuple[tuple[str, str], ...]
    words: str
    is_warning: bool


def comes_from_mail_system(mail: Part) -> bool:
    """Tell whether a mail server, not a person, wrote it to tell that something was not delivered."""
    sender = mail.header("from")
    by_sender = bool(shapes.SYSTEM_SENDER.search(received.address(sender) or sender) or shapes.SYSTEM_NAME.search(sender))
    by_path = any(shapes.SYSTEM_PATH.fullmatch(path.strip()) for path in mail.all("return-path"))
    by_subject = bool(shapes.SUBJECT.search(mail.header("subject")))
    return (
        mail.has("x-failed-recipients")
        or (by_subject and (by_sender or by_path))
        or (by_sender and by_path)
        or ((by_sender or (by_subject and not _answers(mail)) or _is_report(mail)) and _says_failed(mail))
    )


def read(mail: Part, returned: Part | None) -> Notice:
    """Read a notice that a mail system wrote. `returned` is the message that came back, if its headers did."""
    words = notice_words(mail)
    ours = _not_ours(mail)
    to = {address for field in (returned.all("to") if returned is not None else ()) for address in received.addresses(field)}
    named = [address for field in mail.all("x-failed-recipients") for address in received.addresses(field)]
    found = [(address, _reason(words, words.lower().find(address))) for address in named]
    if not to.intersection(named):
        read = _in_shape(words, shapes.HEADING) or _listed(words) or _in_sentences(words)
        read = [(address, reason) for address, reason in read if not address.startswith("@")]  # before it were dots alone
        found = read if not found or any(address in to for address, _ in read) else found
    failed = {address: reason for address, reason in found if address not in ours and (address in to or not shapes.KEEPERS.match(address))}
    if not failed and len(to) == 1 and not to & ours:
        address = next(iter(to))
        at = words.lower().find(address)
        if at >= 0 or (not found and _came_back(returned, ours) and not set(received.addresses(words[:_SEARCHED])) - ours):
            failed = {address: _reason(words, at)}
    is_warning = bool(shapes.DELAYED.search(mail.header("subject") + "\n" + words[:3000])) and not shapes.GIVEN_UP.search(words[:3000])
    return Notice(tuple(failed.items())[:_FOUND], words, is_warning)


def returned_message(mail: Part) -> Part | None:
    """The headers of the message that came back: a part of its own, or quoted in the notice's text."""
    for part in mail.walk():
        if part.content_type in {"message/rfc822", "message/global"} and part is not mail and part.parts:
            return part.parts[0]
        if part.content_type in {"text/rfc822-headers", "message/rfc822-headers", "message/global-headers"}:
            return received.headers_only(part.text())
    text = all_words(mail)
    for mark in islice(shapes.HEADER_LINE.finditer(text, 0, NOTICE_LENGTH), _BEGINNINGS):
        quoted = received.headers_only(text[mark.start() : mark.start() + 2 * NOTICE_LENGTH])
        if quoted.has("from") and (quoted.has("to") or quoted.has("message-id")):
            return quoted
    return None


def identity(returned: Part | None) -> tuple[int | None, str]:
    """The attempt and the Message-ID that came back of ours, unproven; None and "" for what did not."""
    if returned is None:
        return None, ""
    return attempt(returned.header("x-rotord-attempt")), next(iter(received.message_ids(returned.header("message-id"))), "")


def is_rehearsed(returned: Part | None) -> bool:
    """Tell whether the message that came back was a rehearsal's: it had gone to a tester."""
    return returned is not None and returned.has("x-rotord-rehearsal")


def notice_words(mail: Part) -> str:
    """The words of the notice itself, without the message that came back."""
    text = _BLANKS.sub(" " * 8, all_words(mail))
    mark = shapes.RETURNED.search(text, 0, NOTICE_LENGTH)
    return text[: mark.start() if mark is not None and text[: mark.start()].strip() else NOTICE_LENGTH][:NOTICE_LENGTH]


def all_words(mail: Part) -> str:
    """The text that a reader would see first, its plain form if there is one."""
    if mail.content_type.startswith("text/") or (not mail.parts and not mail.content_type.startswith("message/")):
        return mail.text()
    for part in mail.parts:
        if part.content_type == "multipart/alternative" and any(child.content_type == "text/plain" for child in part.parts):
            return next(child for child in part.parts if child.content_type == "text/plain").text()
        if (
            part.content_type.startswith(("text/", "multipart/"))
            and part.content_type != "text/rfc822-headers"
            and (text := all_words(part)).strip()
        ):
            return text
    return ""


def _answers(mail: Part) -> bool:
    """A person's mail program says what a reply answers; a server that writes about a message has nothing to answer."""
    return mail.has("in-reply-to") or mail.has("references") or bool(shapes.ANSWERS.match(mail.header("subject")))


def _is_report(mail: Part) -> bool:
    return "delivery-status" in received.parameters(mail.header("content-type")).get("report-type", "").lower()


def _says_failed(mail: Part) -> bool:
    words = notice_words(mail)[:3000]
    return any(shape.search(words) for shape in (shapes.HEADING, shapes.INTRODUCTIONS, *shapes.SENTENCES))


def _listed(words: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for introduction in shapes.INTRODUCTIONS.finditer(words):
        at = introduction.end() + 1
        taken = indent = 0  # what is indented below an entry is said of it
        for line in words[at : at + 8000].split("\n")[:_LIST_LINES]:
            entry = None if shapes.ADVICE.search(line[:500]) else shapes.ENTRY.match(line[:500])
            if entry is not None and (not taken or _indented(line) <= indent):
                indent = _indented(line)
                found.append((_origin(words, at, entry), _reason(words, at)))
                taken += 1
            elif taken and not line.strip():
                break
            at += len(line) + 1
    return found


def _indented(line: str) -> int:
    return len(line) - len(line.lstrip())


def _in_sentences(words: str) -> list[tuple[str, str]]:
    return next((found for shape in shapes.SENTENCES if (found := _in_shape(words, shape))), [])


def _in_shape(words: str, shape: re.Pattern[str]) -> list[tuple[str, str]]:
    return [(_origin(words, match.start(), match), _reason(words, match.start("address"))) for match in shape.finditer(words)]


def _origin(words: str, at: int, entry: re.Match[str]) -> str:
    """The address we wrote to: a server that expanded an alias names it beside."""
    line = words[at : at + 1000].partition("\n\n")[0]
    expanded = shapes.EXPANDED.search("\n".join(line.split("\n")[:2]))
    return (expanded or entry).group("address").strip(".").lower()


def _reason(words: str, at: int) -> str:
    """The words about a recipient: from its line on to the next empty line but one."""
    if at < 0:
        return words[:_REASON_LENGTH]
    line_start = words.rfind("\n", 0, at) + 1
    paragraphs = [piece for piece in re.split(r"\n[ \t]*\n", words[line_start : line_start + 4 * _REASON_LENGTH]) if piece.strip()]
    return "\n".join(paragraphs[:2])[:_REASON_LENGTH]


def _not_ours(mail: Part) -> set[str]:
    """Addresses that are the report's own: its sender and us, whom it was sent to."""
    fields = (
        *mail.all("from"),
        *mail.all("to"),
        *mail.all("return-path"),
        *mail.all("delivered-to"),
        *mail.all("sender"),
        *mail.all("reply-to"),
    )
    return {address for field in fields for address in received.addresses(field)}


def _came_back(returned: Part | None, ours: set[str]) -> bool:
    """Tell whether it is one recipient's message that the report's recipient wrote, not a list's: then its To says whom."""
    lists = ("list-id", "list-post", "precedence", "sender", "errors-to")
    return returned is not None and received.address(returned.header("from")) in ours and not any(returned.has(name) for name in lists)
