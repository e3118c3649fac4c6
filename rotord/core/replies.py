"""What a mail server's answer means: one value that says what became of the message and whose fault it was.

Three tables are read in this order, the first hit counts: words and codes that one mailbox provider gives a meaning of its
own (PATTERNS), the enhanced status code of RFC 3463 and 5248 (ENHANCED), the bare reply code of RFC 5321 (BASIC). They say
whose fault it is; whether it is for now or for good is the reply's first digit, unless the table knows better (a full
mailbox is for now even as 552). Two rules cost most when they are broken: a 5xx is not in itself a bad address
(suppressing on 5.7.x destroys lists), and only what came before the final dot proves that nothing was sent.

`Outcome.REJECTED` with `Blame.RECIPIENT` means the recipient does not exist or never wants this: a hard bounce.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple

from rotord.core.model import Blame, Outcome, Reply


class Phase(StrEnum):
    """How far an SMTP session is when it is answered, or breaks. From FINAL_DOT on the server may have the message."""

    CONNECT = "connect"
    GREETING = "greeting"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    FINAL_DOT = "final_dot"

    @property
    def is_handshake(self) -> bool:
        """True while no message is concerned yet."""
        return self in {Phase.CONNECT, Phase.GREETING, Phase.STARTTLS, Phase.AUTH}


class Verdict(NamedTuple):
    """A row's right side. `outcome` None: the reply's first digit decides."""

    blame: Blame
    outcome: Outcome | None = None


#: an operator reads the text in a table cell, and it is stored with every attempt
TEXT_LIMIT: Final = 500
RETRY_AFTER_LIMIT_S: Final = 86_400.0

_RECIPIENT: Final = Verdict(Blame.RECIPIENT)
_RECIPIENT_FOR_NOW: Final = Verdict(Blame.RECIPIENT, Outcome.DEFERRED)
_SENDER: Final = Verdict(Blame.SENDER)
_CONTENT: Final = Verdict(Blame.CONTENT)
_RATE: Final = Verdict(Blame.RATE)
_RATE_FOR_NOW: Final = Verdict(Blame.RATE, Outcome.DEFERRED)
_PROVIDER: Final = Verdict(Blame.PROVIDER)
_PROVIDER_FOR_NOW: Final = Verdict(Blame.PROVIDER, Outcome.DEFERRED)
_ACCOUNT: Final = Verdict(Blame.ACCOUNT)
_ACCOUNT_FOR_NOW: Final = Verdict(Blame.ACCOUNT, Outcome.DEFERRED)
# our credentials or our right to use the relay: no message is at fault, so none may fail or age because of it
_NOT_LET_IN: Final = Verdict(Blame.ACCOUNT, Outcome.NOT_SENT)
_CONNECTION_USED_UP: Final = Verdict(Blame.PROVIDER, Outcome.NOT_SENT)

_GREYLISTING: Final = re.compile(r"gr[ea]y-?\s?list|postgrey|recipient address rejected: try again later", re.IGNORECASE)

#: (pattern over "code text", verdict). Specific before general: the order is part of the table.
PATTERNS: Final[tuple[tuple[re.Pattern[str], Verdict], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), verdict)
    for pattern, verdict in (
        # The connection, not the message: Yahoo and some relays count messages or seconds per connection.
        (r"max(imum)? (number of )?messages? per (connection|session)", _CONNECTION_USED_UP),
        (r"too many (messages|mails|transactions) (in|on|per|for|during) (this|one|a|the)? ?(connection|session)", _CONNECTION_USED_UP),
        (r"^421 .*(idle|time-?\s?out|timed out|closing (connection|transmission|channel)|shutting down)", _CONNECTION_USED_UP),
        (r"^421 (4\.[34]\.2 )?\S+ (service )?(closing|not available)", _CONNECTION_USED_UP),
        # Microsoft
        (r"\b[45]\.7\.57\b|client was not authenticated", _NOT_LET_IN),
        (r"\b5\.7\.515\b|\b5\.7\.509\b|\b5\.7\.50[1-3]\b|\b5\.1\.8\b", _SENDER),
        (r"\bRP-00[1-3]\b|\b4\.7\.65[0-2]\b|\b5\.7\.508\b", _RATE),
        (r"\bSC-001\b", _CONTENT),
        (r"\b(SC-00[24]|OU-002)\b", _SENDER),
        (r"\b(DY-00[12]|OU-001)\b|\(S3\d{3}\)|\b5\.7\.(511|60[6-9]|6[1-4]\d)\b", _PROVIDER),
        (r"\b4\.7\.(5\d\d|6\d\d|8[5-9]\d)\b", _PROVIDER_FOR_NOW),
        (r"\b5\.7\.7[0-4]\d\b", _ACCOUNT),
        (r"\b5\.2\.12[12]\b", _RECIPIENT_FOR_NOW),
        (r"\b5\.1\.90\b", _RATE_FOR_NOW),
        (r"\b5\.4\.1\b.*(recipient address rejected|recipient rejected|access denied)", _RECIPIENT),
        (r"\b5\.5\.0\b.*mailbox unavailable", _RECIPIENT),
        # Gmail
        (r"receiving (mail|messages|email) (at a rate|too (quickly|fast))|receiving too (quickly|fast)", _RECIPIENT_FOR_NOW),
        (r"daily (user |smtp relay )?sending (limit|quota)|\b5\.4\.5\b", _RATE_FOR_NOW),
        (r"\b[45]\.7\.28\b|unusual rate|message-id.*quota", _RATE),
        (r"\b[45]\.7\.(23|25|29)\b|\bPTR record\b|reputation of the sending ip|ip address.*reputation", _PROVIDER),
        (r"\b[45]\.7\.(24|26|27|30|31|32|40)\b|reputation of the (sending )?domain", _SENDER),
        (r"rfc ?5322|(multiple|duplicate|missing|invalid).{0,20}(from|message-id|date)\b.{0,10}header", _CONTENT),
        # Yahoo, AOL
        (r"\[(TSS?\d\d|IPTS\d\d)\]", _RATE_FOR_NOW),
        (r"\[BL\w*\]", _PROVIDER),
        (r"\[PH\w*\]", _CONTENT),
        (r"(user|account).{0,20}(doesn't|does not) have a \S+ account", _RECIPIENT),
        (r"unresolvable.{0,20}(from|sender|domain)|(sender|from).{0,20}(soa|unresolvable)", _SENDER),
        # Apple, GMX and web.de
        (r"\[(BS02|HCM1)\]", _PROVIDER_FOR_NOW),
        (r"reject due to policy (restrictions|violations)", _SENDER),
        # Everybody
        (_GREYLISTING.pattern, _RECIPIENT_FOR_NOW),
        (r"(mailbox|inbox|account).{0,30}(is )?(full|over ?quota|quota exceeded|exceeded.{0,20}quota)", _RECIPIENT_FOR_NOW),
        (
            r"over ?quota|user.{0,20}quota|quota exceeded.{0,10}(mailbox|user)|not enough (disk|storage) space.{0,20}user",
            _RECIPIENT_FOR_NOW,
        ),
        (r"too many (concurrent )?(connections|sessions)", _RATE_FOR_NOW),
        (r"rate limit|too many (messages|mails|emails|recipients)|sending too (fast|quickly)|throttl", _RATE_FOR_NOW),
        (r"relay(ing)? (access )?(denied|not permitted|prohibited)|not (permitted|allowed) to relay|unable to relay", _ACCOUNT_FOR_NOW),
        (r"your (smtp )?(account|credentials?|plan).{0,30}(disabled|suspended|blocked|expired|unpaid)", _ACCOUNT_FOR_NOW),
        (r"client host rejected|cannot find your (reverse )?hostname|helo command rejected", _PROVIDER),
        (r"sender (address )?(rejected|denied|refused|unknown|verify failed)|sendasdenied|not (owned|allowed).{0,20}send as", _SENDER),
        (r"\b(dbl\.spamhaus|surbl|uribl)", _SENDER),
        (r"spamhaus|spamcop|barracuda|dnsbl|\brbl\b|(block|black)[ -]?list", _PROVIDER),
        (r"virus|malware|phish|spam (detected|content|message)|(identified|detected|classified|rejected) as spam", _CONTENT),
        (r"message.{0,20}(too (large|big)|size exceeds|exceeds.{0,20}size)", _CONTENT),
        (r"(user|recipient|mailbox|account|address) (is )?(unknown|not found|unavailable|disabled|inactive|invalid)", _RECIPIENT),
        (r"(unknown|invalid|no such|non-?existent) (local )?(user|recipient|mailbox|address|account|person)", _RECIPIENT),
        (r"(user|recipient|mailbox|account|address).{0,40}(does not|doesn't|not) exist", _RECIPIENT),
        (r"unrouteable address|not a valid (user|mailbox|recipient)|null mx|does not accept mail", _RECIPIENT),
    )
)

#: by subject.detail, then by subject alone ("7")
ENHANCED: Final[dict[str, Verdict]] = {
    "1": _RECIPIENT,
    "1.7": _SENDER,
    "1.8": _SENDER,
    "2": _RECIPIENT,
    "2.2": _RECIPIENT_FOR_NOW,
    "2.3": _CONTENT,
    "3": _PROVIDER_FOR_NOW,
    "3.4": _CONTENT,
    "4": _PROVIDER_FOR_NOW,
    "4.7": _RECIPIENT_FOR_NOW,
    "5": _PROVIDER,
    "5.1": _PROVIDER_FOR_NOW,  # out of step: another connection will do
    "5.3": _RATE_FOR_NOW,
    "6": _CONTENT,
    "7": _SENDER,
    **dict.fromkeys(("7.8", "7.9", "7.10", "7.11", "7.12", "7.13"), _NOT_LET_IN),
    "7.17": _RECIPIENT,
    "7.18": _RECIPIENT,
}

#: by reply code, where one meaning holds in every phase
BASIC: Final[dict[int, Verdict]] = {
    421: _PROVIDER_FOR_NOW,
    450: _RECIPIENT_FOR_NOW,
    451: _PROVIDER_FOR_NOW,
    452: _PROVIDER_FOR_NOW,
    454: _PROVIDER_FOR_NOW,
    455: _PROVIDER_FOR_NOW,
    500: _PROVIDER,
    502: _PROVIDER,
    503: _PROVIDER_FOR_NOW,
    504: _PROVIDER,
    530: _NOT_LET_IN,
    534: _NOT_LET_IN,
    535: _NOT_LET_IN,
    538: _NOT_LET_IN,
    551: _RECIPIENT,
    555: _PROVIDER,
    556: _RECIPIENT,
}

#: what a code without one meaning is about, by the command it answers
BY_PHASE: Final[dict[tuple[int, Phase], Verdict]] = {
    (501, Phase.RCPT): _RECIPIENT,
    (552, Phase.RCPT): _RECIPIENT_FOR_NOW,
    (553, Phase.RCPT): _RECIPIENT,
    (552, Phase.MAIL): _CONTENT,
    (552, Phase.FINAL_DOT): _CONTENT,
    (554, Phase.FINAL_DOT): _CONTENT,
}
#: codes whose rows above must win over the enhanced code that came with them: RFC 4954 has 530 5.7.0, 534 5.7.9, 535 5.7.8
_NOT_LET_IN_CODES: Final = frozenset({530, 534, 535, 538})

_ENHANCED_AT_START: Final = re.compile(r"#?([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
_ENHANCED_INSIDE: Final = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_QUEUE_ID: Final = re.compile(r"(?:queued as |\bid=)<?([^\s<>]{1,200})>?", re.IGNORECASE)
_RETRY_AFTER: Final = re.compile(r"\b(?:in|after|for) (\d{1,5}) ?(s|sec|second|m|min|minute|h|hour)s?\b", re.IGNORECASE)
_UNIT_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}


def smtp_reply(phase: Phase, code: int, text: str) -> Reply:
    """Say what a complete reply of the server means for the one message and one recipient of the transaction.

    Total: a code that does not belong in the phase (a 250 to DATA, nonsense) counts like a broken connection, for the
    two sides no longer agree on where they are.
    """
    enhanced, words = _parse(text)
    shown = f"{code} {enhanced}".rstrip()
    if phase is Phase.FINAL_DOT and 200 <= code < 300:  # noqa: PLR2004 - RFC 5321's own classes
        queue_id = _QUEUE_ID.search(words)
        return Reply(Outcome.ACCEPTED, None, shown, words, provider_message_id=queue_id.group(1) if queue_id else "")
    if not 400 <= code < 600:  # noqa: PLR2004
        lost = connection_lost(phase, f"unexpected reply {code} {words}")
        return Reply(lost.outcome, Blame.PROVIDER, shown, lost.text)
    verdict = _verdict(phase, code, enhanced, words)
    outcome = verdict.outcome or (Outcome.DEFERRED if code < 500 else Outcome.REJECTED)  # noqa: PLR2004
    if phase.is_handshake:
        outcome = Outcome.NOT_SENT
    elif phase is Phase.FINAL_DOT and outcome is Outcome.NOT_SENT:
        outcome = Outcome.DEFERRED  # it did leave, and was refused
    return Reply(outcome, verdict.blame, shown, words, retry_after_s=_retry_after_s(words) if code < 500 else None)  # noqa: PLR2004


def connection_lost(phase: Phase, error_text: str) -> Reply:
    """Say what a broken or silent connection means: after the final dot the server may have the message."""
    outcome = Outcome.UNCERTAIN if phase is Phase.FINAL_DOT else Outcome.NOT_SENT
    return Reply(outcome, Blame.NETWORK, "", clean(f"{phase}: {error_text}"))


def is_greylisting(reply: Reply) -> bool:
    """Tell whether the server only wants to be asked again: the retry must come from the same sender address."""
    return reply.outcome is Outcome.DEFERRED and _GREYLISTING.search(reply.text) is not None


def is_too_many_connections(reply: Reply) -> bool:
    """Tell whether a handshake was refused for the number of connections rather than for what we are."""
    return reply.outcome is Outcome.NOT_SENT and (reply.blame is Blame.RATE or reply.code.startswith("421"))


def clean(text: str) -> str:
    """Make a server's words fit to be stored and shown: one line, nothing unprintable, bounded."""
    if text.isalnum() and text.isascii() and len(text) <= TEXT_LIMIT:  # an id, as most answers are
        return text
    return " ".join(_UNPRINTABLE.sub(" ", text[: TEXT_LIMIT * 4]).split())[:TEXT_LIMIT]


def _parse(text: str) -> tuple[str, str]:
    """Split a reply's text into its enhanced code, if it has one, and its words on one line."""
    lines = text[: TEXT_LIMIT * 4].splitlines() or [""]
    first = _ENHANCED_AT_START.match(lines[0].lstrip())
    if first is None:
        inside = _ENHANCED_INSIDE.search(lines[0])
        return (".".join(inside.groups()) if inside else ""), clean(" ".join(lines))
    enhanced = ".".join(first.groups())
    # every line of a multi-line reply repeats the code
    return enhanced, clean(" ".join(line.lstrip().removeprefix(f"#{enhanced}").removeprefix(enhanced) for line in lines))


def _verdict(phase: Phase, code: int, enhanced: str, words: str) -> Verdict:
    if code in _NOT_LET_IN_CODES:
        return _NOT_LET_IN
    if phase is Phase.AUTH:
        return _NOT_LET_IN if code >= 500 else _PROVIDER_FOR_NOW  # noqa: PLR2004
    verdict = _by_pattern(code, enhanced, words) or _by_enhanced(enhanced) or _by_code(phase, code)
    if phase is Phase.MAIL and verdict.blame is Blame.RECIPIENT:
        return Verdict(Blame.SENDER, verdict.outcome)  # no recipient has been named yet
    if phase.is_handshake and verdict.blame in {Blame.RECIPIENT, Blame.SENDER, Blame.CONTENT}:
        return _PROVIDER  # no address has been named either
    return verdict


def _by_pattern(code: int, enhanced: str, words: str) -> Verdict | None:
    line = f"{code} {enhanced} {words}" if enhanced else f"{code} {words}"
    return next((verdict for pattern, verdict in PATTERNS if pattern.search(line)), None)


def _by_enhanced(enhanced: str) -> Verdict | None:
    _, _, rest = enhanced.partition(".")
    if rest in {"", "0.0"}:
        return None
    return ENHANCED.get(rest) or ENHANCED.get(rest.partition(".")[0])


def _by_code(phase: Phase, code: int) -> Verdict:
    by_phase = BY_PHASE.get((code, phase))
    # What has no row (a bare 550) blames the sender: the recipient would be suppressed for good on a guess.
    return by_phase or BASIC.get(code) or (_CONTENT if phase is Phase.FINAL_DOT else _SENDER)


def _retry_after_s(words: str) -> float | None:
    found = _RETRY_AFTER.search(words)
    if found is None:
        return None
    return min(float(found.group(1)) * _UNIT_S[found.group(2)[0].lower()], RETRY_AFTER_LIMIT_S)
