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

from rotord.core import received
from rotord.core.events import attempt

if TYPE_CHECKING:
    from rotord.core.received import Part

#: of the words of a notice; what is longer is a list of what we sent
NOTICE_LENGTH: Final = 20_000
_LIST_LINES: Final = 12
_FOUND: Final = 20
_REASON_LENGTH: Final = 600
_FLAGS: Final = re.IGNORECASE | re.MULTILINE
#: lines that may begin the message that came back: each is read from on, and an innocent notice has a handful
_BEGINNINGS: Final = 50
#: `_RETURNED` tries every cut of a run of blanks: 2,000 of them would hold the leader for minutes
_BLANKS: Final = re.compile(r"[ \t]{3,}")

_A: Final = r"(?P<address>[^\s@<>()\[\]\",;:\\'`]{1,128}@[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63}){0,8})"
_SYSTEM_SENDER: Final = re.compile(
    r"^(mailer[-_. ]?daemon|mail[-_. ]?daemon|postmaster|post-?master|mdaemon|mail(er)?[-_.]?(delivery|system|admin\w*)|"
    r"mailadmin|bounces?|"
    r"microsoftexchange\w*|exchange|administrator|system[-_.]?administrator|non-?delivery|mailmaster|smtpd?|daemon|root|uucp|mmdf|"
    r"mail-?server|smtp-?server|complaints|noreply|no-reply|autoreply)[^@]{0,40}@|^(mailer-daemon|postmaster)$",
    re.IGNORECASE,
)
_SYSTEM_NAME: Final = re.compile(
    r"mail delivery (sub)?system|mail(er)?[- ]daemon|postmaster|system administrator|microsoft outlook|mail administrator|mail system|"
    r"internet mail delivery|delivery (service|agent)|inflex|mail server|message router|mailbox-?daemon",
    re.IGNORECASE,
)
_SUBJECT: Final = re.compile(
    r"undeliver(ed|able)|non[- ]?deliver|not delivered|unzustellbar|delivery[- ](status[- ]notification|fail|problem|"
    r"error|report|notif|incomplete|"
    r"unsuccessful|has failed|delayed?)|returned (mail|to sender|message|e-?mail|due)|mail (delivery )?(fail|error|"
    r"system error|could not|delay)|"
    r"failure notice|failed (mail|delivery|message)|(message|mail|e-?mail).{0,20}(status|rejected|undeliver|returned|"
    r"not delivered|bounce|blocked|"
    r"could not be delivered|you sent|delayed)|deliver(y|ing).{0,20}(fail|error|problem|impossible|attempt)|"
    r"bounced? (mail|message)|error (sending|"
    r"delivering)|unknown (user|recipient|address)|user unknown|mailbox (full|unavailable|unknown)|nondelivery|ndn:|"
    r"ndr:|permanent (delivery )?"
    r"(failure|error)|(problem|error|failure).{0,20}deliver|could not (send|deliver)|unable to deliver|"
    r"warning: (message|could not send)|"
    r"mailsystem|rejected|non remis|échec|echec|retourné|no se (pudo|ha podido) entregar|no entregado|devuelto|devolvid|não entregue|"
    r"nao entregue|mancata consegna|non recapitabile|impossibile recapitare|не ?доставлен|недоставлен|не удалось доставить|"
    r"nie ?dostarczon|onbestelbaar|退信|退回|未送达|无法送达|配信(不能|エラー|失敗)|送信(できません|エラー)|반송|iletilemedi|"
    r"kézbesíthetetlen|zustellung|unable to send|can't be delivered|message refused",
    re.IGNORECASE,
)
_DELAYED: Final = re.compile(
    r"(?:delivery (?:status notification )?\(?delay|(?:message|mail|delivery).{0,30}\b(?:delayed|is delayed|still being|"
    r"has not yet been)|warning: could not send|"
    r"transient (?:non-?fatal )?error|this is a warning (?:message )?only|you do ?n[o']t need to (?:resend|retry)|"
    r"will (?:be retried|keep trying|continue to (?:try|attempt))|"
    r"no action is required on your part|temporarily delayed|not been delivered yet|has been delayed|delay(?:ed)? \d+ hours)",
    re.IGNORECASE,
)
_GIVEN_UP: Final = re.compile(
    r"permanent(?:ly)?\b.{0,20}(?:fail|error|fatal)|(?<!non[- ])fatal error|giv(?:en|ing) up|gave up|"
    r"could not be delivered\b(?! (?:yet|for))|has failed|delivery failed",
    re.IGNORECASE,
)
#: where the message that comes back begins
_RETURNED: Final = re.compile(
    r"^[ \t]*(?:[-=_*>+ ]{2,40}[ \t]*(?:below this line is|this is a copy of|the body of the|original message|"
    r"returned message|unsent message|message (?:header|text|follows)|"
    r"copy of|here is (?:a copy|your)|start of returned|the (?:header|original|attached)|begin of|undelivered message|"
    r"headers? (?:of|follow)|"
    r"return(?:ed)? (?:mail|header)|message contents|weitergeleitete|forwarded message|исходное).*|"
    r"(?:original message (?:headers?|follows)|message headers? follow|included is a copy|here is a copy|"
    r"the original message (?:was|follows|headers?|is)|"
    r"a copy of (?:the|your) (?:original )?message|original (?:mail|headers)|header of (?:the )?original|"
    r"unsent message below|start of message|"
    r"(?:-----)?original message(?:-----)?|your message (?:is|was|follows) (?:attached|below|enclosed)).*|"
    r"(?:return-path|received|dkim-signature|x-rotord-attempt): .*)$",
    _FLAGS,
)
_HEADER_LINE: Final = re.compile(
    r"^(?:return-path|received|from|to|message-id|date|subject|dkim-signature|mime-version|x-[a-z-]{2,40}):", _FLAGS
)

#: a family's words in front of its list of recipients
_INTRODUCTIONS: Final = re.compile(
    r"(?:"
    r"the following addresse?s? (?:had|have|has|failed|was|were)[^\n]*|"  # sendmail, Courier, AOL, Exim's kin
    r"(?:could|can) ?not be delivered to(?: one or more of| the following| any of)?[^\n@]{0,80}[:.]?|"
    r"(?:did not|didn't) reach(?: some or all of)? (?:the )?(?:following|intended)? ?recipient[^\n@]*|"  # Exchange 5.5 to 2003
    r"(?:the )?following recipient\(?s?\)?[^\n@]{0,60}(?:could not|cannot|failed|was|were|has|have|did)[^\n@]*|"
    r"delivery (?:has )?failed to (?:these|the following) [^\n@]*|"  # Exchange 2007 and later
    r"delivery to (?:the )?following (?:recipients?|address(?:es)?)(?:\(s\))?[^\n@]*|"  # Gmail, Hotmail
    r"(?:delivery )?failed for the following [^\n@]*|"
    r"(?:unable|not able|failed|impossible|couldn't|could not|can ?not) (?:to )?deliver (?:your |the |this )?(?:message|"
    r"mail|e-?mail|letter)?[^\n@]{0,40}"
    r"to (?:the|these|this|all)?[^\n@]*(?:address|recipient|user)[^\n@]*|"  # Yahoo, qmail's kin
    r"(?:message|mail)[^\n@]{0,40}(?:undeliverable|not deliver(?:ed|able)) to(?: the following)?[^\n@]*|"  # GroupWise
    r"was not delivered to:?|"  # Domino
    r"address[^\n@]{0,20} to which the message has not yet been delivered[^\n@]*|"  # Exim's warning
    r"(?:message|mail)[^\n@]{0,60}(?:rejected|refused|returned|bounced|undeliverable)[^\n@]{0,40}(?:recipients?|address(?:es)?)[^\n@]*|"
    r"failed recipients?(?:\(s\))?:?|undeliver(?:able|ed) (?:recipients?|address(?:es)?|to):?|"
    r"(?:list of )?(?:failed|rejected|bad|invalid|unknown) (?:recipients?|address(?:es)?|users?)(?: (?:is|are|follows?))?:?|"
    r"error[^\n@]{0,60}(?:deliver|send)[^\n@]{0,60}(?:recipients?|address(?:es)?)[^\n@]*|"  # Amazon SES
    r"(?:account|mailbox|user)[^\n@]{0,60}(?:disabled|full|unknown|not found|unavailable|does not exist)[^\n@]{0,20}[:.]|"
    r"(?:reached|delivered to)[^\n@]{0,20}following recipients?[^\n@]*|"
    r"n'a (?:pas )?pu être (?:remis|délivré)[^\n@]*|(?:konnte|kann) [^\n@]{0,60}nicht (?:zugestellt|ausgeliefert)[^\n@]*|"
    r"konnte[^\n@]{0,60}(?:empfänger|adresse)[^\n@]*|(?:folgende[nrs]?|an die) [^\n@]{0,30}(?:empfänger|adresse)[^\n@]*|"
    r"no (?:se )?(?:pudo|ha podido)[^\n@]{0,80}|não (?:pôde|foi)[^\n@]{0,80}|non (?:è stato|ha potuto)[^\n@]{0,80}|"
    r"не (?:может быть|было|был|удалось)[^\n@]{0,30} ?доставл[^\n@]*|не удалось доставить[^\n@]*|宛先[^\n@]{0,30}|"
    r"收件人[^\n@]{0,30}|无法[^\n@]{0,40}"
    r")[:.]?[ \t]*$",
    _FLAGS,
)
#: an entry of such a list: an address at the start of its line, perhaps behind a name
_ENTRY: Final = re.compile(
    r"^[ \t>*•-]*(?:to:[ \t]*)?(?:[\"']?[^<>()\n@]{0,80}[<(\[][ \t]*)?(?:mailto:|smtp:|rfc822;|"
    r"\[smtp:)?[ \t]*['\"]?" + _A,
    re.IGNORECASE,
)
#: whole shapes: what stands round the address is the family's own
_SENTENCES: Final = tuple(
    re.compile(pattern, _FLAGS)
    for pattern in (
        r"^<" + _A + r">(?:[ \t]*\((?:expanded from|generated from)[^)\n]*\))?:",  # qmail, Postfix, Yahoo
        r"your message to[ \t]+[<\"']?"
        + _A
        + r"[>\"']?[ \t]*(?:\([^)\n]*\)[ \t]*)?(?:could ?n[o']t|couldn't|can ?not|was|has|wasn't|hasn't|failed|did)",  # Office 365
        r"message (?:wasn't|was not|could not be|couldn't be|cannot be|can't be|hasn't been|"
        r"is not) (?:yet )?(?:been )?delivered to[ \t]+[<\"']?" + _A,  # Gmail
        r"(?:failed|unable|error|problem|impossible|couldn't|could not|cannot|can't)[^\n@]{0,40}(?:deliver|"
        r"send)\w*[^\n@]{0,40} to:?[ \t]*[<\"'\[]?(?:smtp:)?" + _A,
        r"(?:message|mail)[^\n@]{0,60}to[ \t]+[<\"']?"
        + _A
        + r"[>\"']?[^\n]{0,20}(?:could not|couldn't|cannot|was not|has been (?:rejected|returned|refused|blocked)|"
        r"was (?:rejected|returned|refused|blocked|undeliverable)|is undeliverable|bounced|failed|has not been)",
        r"^[ \t]*(?:final |original |intended |failed |recipient |rejected |bounced |e-?mail |to )?(?:recipient|address|"
        r"failed to|undeliverable to|user unknown)"
        r"(?: address| name)?[ \t]*[:=][ \t]*(?:rfc822;|smtp:|\[smtp:)?[ \t]*[<\"'\[]?" + _A,  # iPlanet, KDDI, MailEnable
        r"(?:invalid final delivery userid|user mailbox exceeds allowed size|undeliverable to|unknown user|"
        r"unknown local user|user not known)[ \t]*:?[ \t]*[<\"']?" + _A,
        r"^[ \t]*(?:<<<|>>>)?[ \t]*[45]\d\d[- ](?:#?[45]\.\d+\.\d+[ \t]+)?[<\"']?"
        + _A
        + r"[>\"']?[ \t]*(?:\.\.\.|:|,|is|not|user|mailbox|recipient|does|[a-z])",  # sendmail
        r"^[<\"']?" + _A + r"[>\"']?[ \t]*(?:\.\.\.|,[ \t]*error code|:[ \t]*(?:[45]\d\d|user|mailbox|unknown|host|address|recipient|"
        r"unrout|smtp error)|\((?:user|mailbox|unknown))",
        r"[<\"']?" + _A + r"[>\"']?[ \t]+(?:wasn't found at|isn't (?:a|in)|couldn't be found|(?:was )?not found|is unknown|user unknown|"
        r"does not exist|on [0-9a-z, /.]{6,24} [0-9:]{4,8})",
        r"rcpt to:[ \t]*<" + _A + r">[^\n]{0,200}\n[^\n]{0,40}?\b5\d\d\b",  # a transcript whose next line refuses it
        r"(?:the user|user|the recipient|recipient|the address|the mailbox|mailbox|the e-?mail address|account|sorry,) [<\"'(]?"
        + _A
        + r"[>\"')]?[^\n@]{0,30}(?:unknown|not|does|doesn't|is (?:full|invalid|disabled|inactive)|over|rejected|"
        r"has exceeded|no longer|isn't)",
    )
)
_EXPANDED: Final = re.compile(
    r"\((?:expanded from|generated from|ultimately generated from|reason: expanded from|alias of)[: \t]*<?" + _A, re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Notice:
    """Who failed, each with the words about it. `words` are the whole notice's, `is_warning`: it is still being tried."""

    failed: tuple[tuple[str, str], ...]
    words: str
    is_warning: bool


def comes_from_mail_system(mail: Part) -> bool:
    """Tell whether a mail server, not a person, wrote it to tell that something was not delivered."""
    sender = mail.header("from")
    by_sender = bool(_SYSTEM_SENDER.search(received.address(sender) or sender) or _SYSTEM_NAME.search(sender))
    by_path = any(path.strip() in {"<>", ""} for path in mail.all("return-path"))
    by_subject = bool(_SUBJECT.search(mail.header("subject")))
    return (
        mail.has("x-failed-recipients")
        or (by_subject and (by_sender or by_path))
        or (by_sender and by_path)
        or (by_sender and _says_failed(mail))
    )


def read(mail: Part, returned: Part | None) -> Notice:
    """Read a notice that a mail system wrote. `returned` is the message that came back, if its headers did."""
    words = notice_words(mail)
    named = [address for field in mail.all("x-failed-recipients") for address in received.addresses(field)]
    found = [(address, _reason(words, words.lower().find(address))) for address in named] or _listed(words) or _in_sentences(words)
    ours = _not_ours(mail)
    failed = {address: reason for address, reason in found if address not in ours}
    if not failed and returned is not None:
        failed = _agreed(words, returned, ours)
    is_warning = bool(_DELAYED.search(mail.header("subject") + "\n" + words[:3000])) and not _GIVEN_UP.search(words[:3000])
    return Notice(tuple(failed.items())[:_FOUND], words, is_warning)


def returned_message(mail: Part) -> Part | None:
    """The headers of the message that came back: a part of its own, or quoted in the notice's text."""
    for part in mail.walk():
        if part.content_type in {"message/rfc822", "message/global"} and part is not mail and part.parts:
            return part.parts[0]
        if part.content_type in {"text/rfc822-headers", "message/rfc822-headers", "message/global-headers"}:
            return received.headers_only(part.text())
    text = _all_words(mail)
    for mark in islice(_HEADER_LINE.finditer(text, 0, NOTICE_LENGTH), _BEGINNINGS):
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
    text = _BLANKS.sub("  ", _all_words(mail))
    mark = _RETURNED.search(text, 0, NOTICE_LENGTH)
    return text[: mark.start() if mark is not None and text[: mark.start()].strip() else NOTICE_LENGTH][:NOTICE_LENGTH]


def _all_words(mail: Part) -> str:
    if mail.content_type.startswith("text/") or (not mail.parts and not mail.content_type.startswith("message/")):
        return mail.text()
    for part in mail.parts:
        if part.content_type == "multipart/alternative" and any(child.content_type == "text/plain" for child in part.parts):
            return next(child for child in part.parts if child.content_type == "text/plain").text()
        if (
            part.content_type.startswith(("text/", "multipart/"))
            and part.content_type != "text/rfc822-headers"
            and (text := _all_words(part)).strip()
        ):
            return text
    return ""


def _says_failed(mail: Part) -> bool:
    words = notice_words(mail)[:3000]
    return _INTRODUCTIONS.search(words) is not None or any(shape.search(words) for shape in _SENTENCES)


def _listed(words: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for introduction in _INTRODUCTIONS.finditer(words):
        at = introduction.end() + 1
        taken = 0
        for line in words[at : at + 8000].split("\n")[:_LIST_LINES]:
            entry = _ENTRY.match(line[:500])
            if entry is not None:
                found.append((_origin(words, at, entry), _reason(words, at)))
                taken += 1
            elif taken and not line.strip():
                break
            at += len(line) + 1
    return found


def _in_sentences(words: str) -> list[tuple[str, str]]:
    for shape in _SENTENCES:
        found = [(_origin(words, match.start(), match), _reason(words, match.start("address"))) for match in shape.finditer(words)]
        if found:
            return found
    return []


def _origin(words: str, at: int, entry: re.Match[str]) -> str:
    """The address we wrote to: a server that expanded an alias names it beside."""
    line = words[at : at + 1000].partition("\n\n")[0]
    expanded = _EXPANDED.search("\n".join(line.split("\n")[:2]))
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


def _agreed(words: str, returned: Part, ours: set[str]) -> dict[str, str]:
    """The one address that the message was written to and that the notice names."""
    to = {address for field in returned.all("to") for address in received.addresses(field)}
    at = words.lower().find(next(iter(to))) if len(to) == 1 else -1
    return {next(iter(to)): _reason(words, at)} if at >= 0 and not to & ours else {}
