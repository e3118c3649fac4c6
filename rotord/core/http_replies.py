"""What an HTTP API's answer to a send means: what became of the message, whose fault it was, what it says about the provider.

A provider's own rows (a status and words in its error text) are read first, then STATUSES. The rule that costs most when it is
broken holds for both: a 4xx proves that nothing was accepted, but 408, every 5xx and a success that cannot be read prove
nothing, so no row may speak for them.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from rotord.core.model import Blame, Outcome, Reply
from rotord.core.replies import RETRY_AFTER_LIMIT_S, clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Effect(StrEnum):
    """What an answer says about the provider, beyond the one message."""

    NONE = "none"
    EASE = "ease"  # a part of the account has too much at once: fewer on the wire
    PAUSE = "pause"  # the account has too much: nothing more for a while
    DOWN = "down"  # it takes no mail from us until a person has acted


class Answer(NamedTuple):
    """What came back. `headers` finds names in any case; `complete` is False when the body broke off or was too long."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True


class Verdict(NamedTuple):
    """The right side of a row."""

    outcome: Outcome
    blame: Blame
    effect: Effect = Effect.NONE


class Row(NamedTuple):
    """One row of a provider's table."""

    statuses: frozenset[int]
    pattern: re.Pattern[str]
    verdict: Verdict


class Judgement(NamedTuple):
    """A reply and what follows for the provider. `quota_back_in_s`: its own counter says nothing more is allowed for so long."""

    reply: Reply
    effect: Effect = Effect.NONE
    quota_back_in_s: float | None = None


REFUSED: Final = Verdict(Outcome.REJECTED, Blame.CONTENT)
#: our key, our plan, our base_url: no message is at fault, so none may fail or age because of it
NOT_LET_IN: Final = Verdict(Outcome.NOT_SENT, Blame.ACCOUNT, Effect.DOWN)
#: this domain or address may not send here (yet): others may
SENDER_FOR_NOW: Final = Verdict(Outcome.DEFERRED, Blame.SENDER)
ACCOUNT_FOR_NOW: Final = Verdict(Outcome.DEFERRED, Blame.ACCOUNT)
PROVIDER_FOR_NOW: Final = Verdict(Outcome.DEFERRED, Blame.PROVIDER)
TOO_MUCH: Final = Verdict(Outcome.DEFERRED, Blame.RATE, Effect.PAUSE)
TOO_MUCH_OF_ONE_DOMAIN: Final = Verdict(Outcome.DEFERRED, Blame.RATE, Effect.EASE)
UNKNOWN: Final = Verdict(Outcome.UNCERTAIN, Blame.PROVIDER)
_CUT_SHORT: Final = Verdict(Outcome.DEFERRED, Blame.NETWORK)

#: by status alone. 403 has no row: an intermediary's 403 is about one message or one moment; the API's own has words.
STATUSES: Final[Mapping[int, Verdict]] = {
    # base_url is wrong. 302 and 303 may follow a request that was carried out.
    **dict.fromkeys((301, 307, 308), NOT_LET_IN),
    **dict.fromkeys((401, 402, 404, 405, 407, 410), NOT_LET_IN),
    **dict.fromkeys((400, 413, 415, 422, 431), REFUSED),
    408: UNKNOWN,
    429: TOO_MUCH,
}
#: what these mean needs no words
_PLAIN: Final = frozenset({401, 408, 429})

_TRY_AGAIN_AFTER: Final = re.compile(r"try again after (\S[^;]{0,60})", re.IGNORECASE)
_SECONDS: Final = re.compile(r"(\d{1,15})(?: ?s(?:ec(?:ond)?s?)?)?\b", re.ASCII | re.IGNORECASE)
#: a larger number is a moment, a smaller one a distance
_EPOCH: Final = 1_000_000_000


def row(statuses: Iterable[int], pattern: str, verdict: Verdict) -> Row:
    """Make a row; refuses one that would turn "unknown" into "not accepted"."""
    covered = frozenset(statuses)
    if not all(200 <= status < 500 and status != 408 for status in covered):  # noqa: PLR2004 - HTTP's own numbers
        raise ValueError(f"no text can prove what {sorted(covered)} means")
    return Row(covered, re.compile(pattern, re.IGNORECASE), verdict)


def judge(answer: Answer, words: str, rows: tuple[Row, ...], now: float, *, code: str = "") -> Judgement:
    """Judge an answer that is no success. `words`: the API's own error text, '' if the body is not the API's; `now`: Unix time."""
    verdict = next((row.verdict for row in rows if answer.status in row.statuses and row.pattern.search(words)), None)
    if verdict is None:
        verdict = STATUSES.get(answer.status) or (PROVIDER_FOR_NOW if 400 <= answer.status < 500 else UNKNOWN)  # noqa: PLR2004
    if not answer.complete and 400 <= answer.status < 500 and answer.status not in _PLAIN:  # noqa: PLR2004
        verdict = _CUT_SHORT  # refused, but why stood in what is missing
    text = clean(words or answer.body.decode("utf-8", "replace")) or f"HTTP {answer.status} without a text"
    waits = verdict.outcome is Outcome.DEFERRED
    retry_after = retry_after_s(answer.headers, words, now) if waits else None
    reply = Reply(verdict.outcome, verdict.blame, f"{answer.status} {code}".rstrip(), text, retry_after_s=retry_after)
    return Judgement(reply, verdict.effect)


def accepted(answer: Answer, words: str, provider_message_id: str, now: float) -> Judgement:
    """Make the judgement of the documented success."""
    reply = Reply(Outcome.ACCEPTED, None, str(answer.status), clean(words) or "accepted", clean(provider_message_id))
    return Judgement(reply, Effect.NONE, _quota_back_in_s(answer.headers, now))


def unreadable(answer: Answer) -> Judgement:
    """Make the judgement of a success that is not the documented one: the provider may have the message."""
    text = clean(answer.body.decode("utf-8", "replace"))
    return Judgement(Reply(Outcome.UNCERTAIN, Blame.PROVIDER, str(answer.status), f"not the documented answer: {text}".rstrip(": ")))


def unanswered(error_text: str, *, body_left: bool) -> Judgement:
    """Make the judgement of a request that broke before an answer: all hangs on whether its last byte may have left."""
    outcome = Outcome.UNCERTAIN if body_left else Outcome.NOT_SENT
    return Judgement(Reply(outcome, Blame.NETWORK, "", clean(error_text)))


def retry_after_s(headers: Mapping[str, str], words: str, now: float) -> float | None:
    """Seconds to wait, from Retry-After, else X-RateLimit-Reset, else the text (`try again after 120 seconds`, or a date)."""
    now = _server_now(headers, now)
    found = _wait_s(headers.get("Retry-After", ""), now)
    if found is None:
        found = _wait_s(headers.get("X-RateLimit-Reset", ""), now)
    if found is None and (told := _TRY_AGAIN_AFTER.search(words)):
        found = _wait_s(told.group(1), now)
    return found


def _quota_back_in_s(headers: Mapping[str, str], now: float) -> float | None:
    if headers.get("X-RateLimit-Remaining", "") != "0":
        return None
    return _wait_s(headers.get("X-RateLimit-Reset", ""), _server_now(headers, now))


def _server_now(headers: Mapping[str, str], now: float) -> float:
    """Take the server's clock where it tells it: its moments are on that one."""
    return _moment(headers.get("Date", "")) or now


def _wait_s(value: str, now: float) -> float | None:
    value = value.strip()
    if value.isascii() and value.isdigit() and int(value[:15]) >= _EPOCH:
        wait = int(value[:15]) - now
    elif seconds := _SECONDS.match(value):
        wait = float(seconds.group(1))
    elif moment := _moment(value):
        wait = moment - now
    else:
        return None
    return min(max(wait, 0.0), RETRY_AFTER_LIMIT_S)


def _moment(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
