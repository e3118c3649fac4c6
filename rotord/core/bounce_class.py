"""What a bounce says about its recipient: gone for good, full, unwanted, or only not now. From status, diagnostic and words.

The tables of `replies` judge first, so a refusal means the same whether it came in the session or later by mail. What those cannot know is
in `bounce_words`: the words that mail servers write to people.
"""

from __future__ import annotations

import re
from typing import Final

from rotord.core.bounce_words import BounceClass, by_words
from rotord.core.model import Blame, Outcome
from rotord.core.replies import Phase, clean, smtp_reply

__all__ = ["BounceClass", "classify", "status_of"]

_FLAGS: Final = re.IGNORECASE
#: Postfix writes it before every reason of its own and of its policy servers: it says something only where nothing else does
_WEAK_HARD: Final = re.compile(r"address (was )?rejected|recipient (address )?rejected", _FLAGS)
#: how far the session was, in the words of the server that wrote the report
_PHASES: Final = tuple(
    (re.compile(pattern, _FLAGS), phase)
    for pattern, phase in (
        (r"initial connection|refused to talk to me|(after|in reply to|respon\w+ to) (ehlo|helo)|my name was rejected", Phase.GREETING),
        (r"(after|in reply to|respon\w+ to) mail from|mail from command|sender was rejected", Phase.MAIL),
        (r"end of data|(after|in reply to) data|for text command|after i sent the message", Phase.FINAL_DOT),
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
#: subjects of a status that speak of anything but the address
_OF_THE_WAY: Final = frozenset("34567")
_NO_SUCH_MAILBOX: Final = frozenset({"1.1", "1.2", "1.6", "1.10", "4.1"})
_TAKES_NONE: Final = re.compile(r"null mx|does(n't| not) (receive|accept) e?-?mail", _FLAGS)
_HASTE: Final = re.compile(r"frequency limit|too many recipients|sent to too many|try again", _FLAGS)
_BARE_STATUS: Final = {"1": BounceClass.HARD, "2": BounceClass.SOFT, "4": BounceClass.SOFT, "3": BounceClass.SOFT, "5": BounceClass.SOFT}


def status_of(text: str) -> str:
    """The first enhanced status code of class 4 or 5 in it; "" for none."""
    return next((".".join(found) for found in _STATUS.findall(text[:4000]) if found[0] != "2"), "")


def classify(status: str, diagnostic: str) -> BounceClass:
    """Judge one recipient's failure. `status` may be empty; `diagnostic` is what the server said, or the report's own words."""
    text = clean(diagnostic)
    inside = status_of(text)
    best = inside if inside and status[1:] in {"", ".0.0"} else status or inside
    code = _CODE.search(text)
    basic = code.group(1) if code else ""
    # a host that cannot be found, a retry that ran out: the reporting server's words, which no session would say
    found = by_words(text)
    phase = next((phase for pattern, phase in _PHASES if pattern.search(text)), Phase.RCPT)
    if phase in {Phase.GREETING, Phase.MAIL}:
        # nobody had been named yet, whatever the words seem to say of an address
        return BounceClass.SOFT if found is BounceClass.SOFT or (basic or best).startswith("4") else BounceClass.BLOCKED
    if best.endswith(".2.2"):
        return BounceClass.FULL
    if best.startswith("4") and found is BounceClass.HARD and _TAKES_NONE.search(text):
        return found  # a domain that says so says so for good, though RFC 3463 has the status 4 for a name server's answer
    if best.startswith("4") and found is not BounceClass.FULL and not basic.startswith("5"):
        return found if found is BounceClass.BLOCKED else BounceClass.SOFT
    return _as_reply(best, basic, text, found, phase)


def _as_reply(status: str, code: str, text: str, found: BounceClass | None, phase: Phase) -> BounceClass:
    reply = smtp_reply(Phase.RCPT, int(code or "550"), f"{status} {text}".strip())
    _, _, detail = status.partition(".")
    if found is BounceClass.SOFT and _HASTE.search(text):
        return found
    if reply.blame is Blame.RECIPIENT and detail != "2.0" and (found is not BounceClass.BLOCKED or detail in _NO_SUCH_MAILBOX):
        at_fault = BounceClass.HARD if reply.outcome is Outcome.REJECTED else BounceClass.SOFT
        return found if found is BounceClass.FULL else at_fault
    if found is not None:
        return BounceClass.SOFT if found is BounceClass.HARD and detail == "4.7" else found
    if detail == "4.4":
        return BounceClass.HARD  # no host, no mail exchanger
    if _WEAK_HARD.search(text) and detail[:1] not in _OF_THE_WAY:
        return BounceClass.HARD
    return _by_numbers(detail, code, phase)


def _by_numbers(detail: str, code: str, phase: Phase) -> BounceClass:
    if detail and detail != "0.0":
        return BounceClass.BLOCKED if detail[0] in "67" else _BARE_STATUS.get(detail[0], BounceClass.SOFT)
    if not code:
        return BounceClass.UNKNOWN
    return BounceClass.BLOCKED if code == "554" or phase is Phase.FINAL_DOT else _BARE_CODES.get(code, BounceClass.SOFT)
