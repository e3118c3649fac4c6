"""What a bounce says about its recipient: gone for good, full, unwanted, or only not now. From status, diagnostic and words.

The tables of `replies` judge first, so a refusal means the same whether it came in the session or later by mail. What those cannot know is
here: the words that mail servers write to people.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from rotord.core.model import Blame, Outcome
from rotord.core.replies import Phase, clean, smtp_reply


class BounceClass(StrEnum):
    """HARD suppresses; the others do not."""

    HARD = "hard"  # no such mailbox or domain, or it is closed
    FULL = "full"  # over quota
    BLOCKED = "blocked"  # what we are or what we wrote was refused
    SOFT = "soft"  # given up after trying, or a fault on the way
    DELAYED = "delayed"  # still being tried
    UNKNOWN = "unknown"  # came back, and nobody says why


_FLAGS: Final = re.IGNORECASE
#: (pattern over the words, class): the first hit counts, specific before general
_WORDS: Final[tuple[tuple[re.Pattern[str], BounceClass], ...]] = tuple(
    (re.compile(pattern, _FLAGS), found)
    for pattern, found in (
        (r"(mail ?box|inbox|account|storage|folder|recipient).{0,40}\b(full|over ?(its )?(quota|limit)|exceed\w*)", BounceClass.FULL),
        (
            r"quota.{0,30}(exceed|full|over)|over ?quota|exceed\w*.{0,40}(quota|storage|mailbox)|out of (disk )?(space|storage)",
            BounceClass.FULL,
        ),
        (
            r"insufficient (system )?storage|not enough (disk )?space|mailbox size limit|postfach.{0,20}voll|bo[iî]te.{0,30}pleine",
            BounceClass.FULL,
        ),
        (r"ящик.{0,20}(переполнен|заполнен)|buz[oó]n.{0,20}lleno|caixa.{0,20}cheia|邮箱.{0,6}满|容量.{0,6}超", BounceClass.FULL),
        (r"message (is )?too (large|big)|size (limit|exceed)|exceed\w*.{0,20}(message|size)|maximum message size", BounceClass.BLOCKED),
        (r"sender (address )?(rejected|denied|refused|unknown|verif)|(bad|invalid|unknown) sender", BounceClass.BLOCKED),
        (
            r"spam|\brbl\b|dnsbl|block ?list|black ?list|spamhaus|virus|phish|malware|reputation|banned|unsolicited|junk mail",
            BounceClass.BLOCKED,
        ),
        (
            r"dmarc|dkim|\bspf\b|unauthenticated|policy (reason|violation|restrict|reject)|rejected (by|for|due to).{0,20}policy",
            BounceClass.BLOCKED,
        ),
        (
            r"not (permitted|authori[sz]ed|allowed) to (send|post|relay|submit)|permission|restricted|only accepts?|moderat",
            BounceClass.BLOCKED,
        ),
        (
            r"relay(ing)? (access )?(denied|not permitted|not allowed|prohibited)|unable to relay|content (rejected|filter)",
            BounceClass.BLOCKED,
        ),
        (
            r"(host|domain)( or domain)?( name)?[^.\n]{0,60}\b(not found|unknown|invalid|does not exist|doesn't exist|unrouteable)",
            BounceClass.HARD,
        ),
        (
            (
                r"unknown (host|domain)|no such (host|domain)|nxdomain|no (valid )?mx|mx records point to non-?exist|"
                r"invalid final delivery|couldn't find any host|bad destination (host|mailbox)"
            ),
            BounceClass.HARD,
        ),
        (
            (
                r"(unknown|invalid|no such|non-?exist\w*|bad|unrecogni[sz]ed|inactive|incorrect) (local |virtual |e-?mail )?"
                r"(user|recipient|mail ?box|address|account|person|alias|name|maildrop)"
            ),
            BounceClass.HARD,
        ),
        (
            (
                r"(user|recipient|mail ?box|account|address|addressee)\b.{0,60}\b(unknown|not (be )?(found|known|valid|"
                r"active|listed|exist\w*)|"
                r"does(n't| not) exist|do(es)?n't exist|no longer|invalid|disabled|inactive|unavailable|suspended|"
                r"discontinued|closed|deactivated|"
                r"expired|non-?exist\w*|terminated|not in (the )?(directory|address book)|didn't match|isn't in|not match)"
            ),
            BounceClass.HARD,
        ),
        (
            r"no (such )?(mail ?box|user|recipient|account) (here|by that name|with that name|exists|found|named)|no mailbox here",
            BounceClass.HARD,
        ),
        (
            r"(does not|doesn't|don't) have an? .{0,30}account|not a known user|not our customer|unrouteable address|user not known",
            BounceClass.HARD,
        ),
        (
            (
                r"not listed in .{0,40}(directory|address book)|wasn't found at|couldn't be found|no longer (valid|in use|"
                r"employed|works|active)"
            ),
            BounceClass.HARD,
        ),
        (
            r"address (was )?(not found|rejected)|recipient (address )?(rejected|not recogni[sz]ed)|can't create output|has moved to",
            BounceClass.HARD,
        ),
        (
            r"unbekannt|existiert nicht|nicht gefunden|inconnu|n'existe pas|introuvable|desconocid|no existe|sconosciut|non esist",
            BounceClass.HARD,
        ),
        (
            r"n[aã]o existe|inexistente|не существует|не найден|нет такого|неизвестн|存在しません|不存在|見つかりません|nie istnieje",
            BounceClass.HARD,
        ),
        (
            r"(time|tried|retr|trying|hours|days).{0,40}(expired|too long|exceeded|timed? ?out)|timed? ?out|delivery time expired",
            BounceClass.SOFT,
        ),
        (
            r"connection (refused|reset|lost|timed|dropped)|no route to host|unreachable|try again|temporar|deferred|could not connect",
            BounceClass.SOFT,
        ),
        (
            r"not (be )?(delivered|deliverable) (with)?in|given? up|greylist|graylist|too many hops|loop|hop count|resources",
            BounceClass.SOFT,
        ),
    )
)
_STATUS: Final = re.compile(r"(?<![\d.])([245])\s?\.\s?(\d{1,3})\s?\.\s?(\d{1,3})(?![\d.])")
_CODE: Final = re.compile(r"(?<![\d.#:/-])([45][0-5]\d)(?=[\s#:\-]|$)(?!\s*(?:bytes|seconds|byte|kb|mb))")
#: what a mailing program reads from a code alone, where the words say nothing
_BARE_CODES: Final = {
    "550": BounceClass.HARD,
    "551": BounceClass.HARD,
    "553": BounceClass.HARD,
    "552": BounceClass.FULL,
    "521": BounceClass.HARD,
}
_BARE_STATUS: Final = {"1": BounceClass.HARD, "2": BounceClass.HARD, "4": BounceClass.SOFT, "3": BounceClass.SOFT, "5": BounceClass.SOFT}


def status_of(text: str) -> str:
    """The first enhanced status code of class 4 or 5 in it; "" for none."""
    return next((".".join(found) for found in _STATUS.findall(text[:4000]) if found[0] != "2"), "")


def classify(status: str, diagnostic: str) -> BounceClass:
    """Judge one recipient's failure. `status` may be empty; `diagnostic` is what the server said, or the report's own words."""
    text = clean(diagnostic)
    inside = status_of(text)
    best = inside if inside and status[1:] in {"", ".0.0"} else status or inside
    code = _CODE.search(text)
    # a host that cannot be found, a retry that ran out: the reporting server's words, which no session would say
    found = _by_words(text)
    if best.startswith("4") and found is not BounceClass.FULL and not (code is not None and code.group(1)[0] == "5"):
        return found if found is BounceClass.BLOCKED else BounceClass.SOFT
    return _as_reply(best, code.group(1) if code else "", text, found)


def _by_words(text: str) -> BounceClass | None:
    return next((found for pattern, found in _WORDS if pattern.search(text)), None)


def _as_reply(status: str, code: str, text: str, found: BounceClass | None) -> BounceClass:
    reply = smtp_reply(Phase.RCPT, int(code or "550"), f"{status} {text}".strip())
    _, _, detail = status.partition(".")
    if reply.blame is Blame.RECIPIENT:
        if reply.outcome is Outcome.REJECTED:
            return BounceClass.FULL if found is BounceClass.FULL else BounceClass.HARD
        return BounceClass.FULL if found is BounceClass.FULL or detail == "2.2" else BounceClass.SOFT
    if found is not None:
        return BounceClass.SOFT if found is BounceClass.HARD and detail == "4.7" else found
    if detail and detail != "0.0":
        return BounceClass.BLOCKED if detail[0] in "67" else _BARE_STATUS.get(detail[0], BounceClass.SOFT)
    if code:
        return _BARE_CODES.get(code, BounceClass.BLOCKED if code == "554" else BounceClass.SOFT)
    return BounceClass.UNKNOWN
