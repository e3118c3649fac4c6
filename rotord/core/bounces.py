"""A bounce that came by mail: which message, whom, and how bad.

RFC 3464 first (delivery_status), then what servers write to people (notices), then flufl.bounce for the families that neither knows. It
says nothing rather than guess: a report that names nobody is a bounce only if the message that came back is one of ours, which the caller
knows by `Bounce.attempt_id` and `Bounce.message_id`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from email import message_from_bytes
from typing import TYPE_CHECKING, Final

from flufl.bounce import all_failures

from rotord.core import delivery_status, notices, received
from rotord.core.bounce_class import BounceClass, classify, status_of
from rotord.core.events import attempt
from rotord.core.replies import clean

if TYPE_CHECKING:
    from rotord.core.received import Part

__all__ = ["Bounce", "BounceClass", "bounces"]

#: what the library is given: it reads line by line, and no notice is longer
_LIBRARY_BYTES: Final = 200_000
_LIBRARY_DEPTH: Final = 20
#: a status alone that tells nothing; the words for people beside it do
_NO_REASONS: Final = frozenset({"", "4.0.0", "5.0.0", "5.3.0", "5.5.0"})
#: with other octets the parser's headers are no strings
_ASCII: Final = bytes(octet if octet < 128 else 63 for octet in range(256))  # noqa: PLR2004 - ASCII's end; 63 is a question mark
_OUT_OF_OFFICE: Final = re.compile(
    r"^(re: ?)?(auto(matic|matische|mated)?[- ]?(re(ply|sponse|spuesta)|antwort)?\b|out of( the)? office|abwesen|"
    r"vacation|away from|on leave|réponse auto|ooo\b|автоответ|自动回复|自動)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Bounce:
    """One recipient's. `recipient` "": the report names nobody. `attempt_id` and `message_id` are what came back of ours, unproven."""

    recipient: str
    bounce_class: BounceClass
    reason: str
    attempt_id: int | None = None
    message_id: str = ""
    rehearsed: bool = False


def bounces(mail: Part, raw: bytes) -> tuple[Bounce, ...]:
    """Every recipient that a bounce is about; () for a mail that is none. `raw` is what `mail` was read from."""
    returned = notices.returned_message(mail)
    found = _bounces(mail, raw, returned)
    return tuple(replace(bounce, rehearsed=True) for bounce in found) if notices.is_rehearsed(returned) else found


def _bounces(mail: Part, raw: bytes, returned: Part | None) -> tuple[Bounce, ...]:
    report = delivery_status.find(mail)
    if (report is None or not report.recipients) and notices.comes_from_mail_system(mail):
        report = delivery_status.find_in_words(notices.notice_words(mail)) or report
    attempt_id, message_id = notices.identity(returned)
    if attempt_id is None and report is not None:
        attempt_id = attempt(report.envelope_id)
    if report is not None and report.recipients:
        found = [
            Bounce(_whom(one, returned), one.verdict, clean(one.diagnostic or one.status), attempt_id, message_id)
            for one in report.recipients
            if one.verdict is not None
        ]
        named = [_worded(mail, bounce) for bounce in found]
        return tuple(bounce for bounce in named if bounce.recipient or attempt_id or message_id)
    if not notices.comes_from_mail_system(mail) or _OUT_OF_OFFICE.search(mail.header("subject")):
        return ()
    return _from_words(mail, raw, returned, attempt_id, message_id)


def _from_words(mail: Part, raw: bytes, returned: Part | None, attempt_id: int | None, message_id: str) -> tuple[Bounce, ...]:
    notice = notices.read(mail, returned)
    failed = notice.failed or (() if notice.is_warning else tuple((address, notice.words) for address in _by_library(raw)))
    made = []
    for address, reason in failed or ((("", notice.words),) if attempt_id or message_id else ()):
        bounce_class = BounceClass.DELAYED if notice.is_warning else _class(reason, notice.words, mail.header("subject"))
        made.append(Bounce(address, bounce_class, clean(reason), attempt_id, message_id))
    return tuple(made)


def _class(*texts: str) -> BounceClass:
    return next((found for text in texts if (found := classify(status_of(text), text)) is not BounceClass.UNKNOWN), BounceClass.UNKNOWN)


def _worded(mail: Part, bounce: Bounce) -> Bounce:
    """Where the fields say neither whom nor why, the report's own words for people may."""
    says_why = bounce.bounce_class is not BounceClass.UNKNOWN and bounce.reason not in _NO_REASONS
    if bounce.recipient and says_why:
        return bounce
    notice = notices.read(mail, None)
    recipient = bounce.recipient or (notice.failed[0][0] if len(notice.failed) == 1 else "")
    by_words = bounce.bounce_class if says_why or bounce.bounce_class is BounceClass.DELAYED else _class(notice.words)
    bounce_class = bounce.bounce_class if by_words is BounceClass.UNKNOWN else by_words
    return replace(bounce, recipient=recipient, bounce_class=bounce_class, reason=bounce.reason or clean(notice.words))


def _whom(one: delivery_status.RecipientStatus, returned: Part | None) -> str:
    """The address we wrote to: what the message that came back says decides between the report's two."""
    to = {address for field in (returned.all("to") if returned is not None else ()) for address in received.addresses(field)}
    candidates = [address for address in (one.original, one.final) if address]
    return next((address for address in candidates if address in to), candidates[0] if candidates else "")


def _by_library(raw: bytes) -> list[str]:
    cut = raw[:_LIBRARY_BYTES]
    # The standard library's parser, which it needs, recurses for each of these.
    kinds = cut.lower()
    if kinds.count(b"multipart/") + kinds.count(b"message/rfc822") > _LIBRARY_DEPTH:
        return []
    try:
        _, permanent = all_failures(message_from_bytes(cut.translate(_ASCII)))
    except Exception:  # noqa: BLE001 - another's heuristics over hostile bytes: what they fall over names nobody
        return []
    return sorted({found for one in permanent if (found := received.address(one.decode("ascii", "ignore")))})
