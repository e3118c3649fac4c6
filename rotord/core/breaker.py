"""Whether a provider fails, from its answers alone: then nothing new begins there until probes have shown that it works again.

    closed -> open -> half-open -> closed       open: nothing begins      half-open: one real message at a time, the probe
                ^---------'                     a good probe of three in a row closes it, a bad one opens it for twice as long

The score of k errors among n answers is k ln(k/E) - (k - E), E = 2 % of n being what a working provider may have, of the last 10, 50 and
200 answers whichever is highest. At 9 it opens: after the 4th of only errors, the 8th answer of 60 % errors, the 38th of 20 %, and not
once in years at 1 %. One client's trouble closes a provider for nobody else: what is about the account (its domain, its right to a relay)
counts only when two clients met it, where two are known; and whoever fails while the others get through (a message of theirs that the
provider cannot bear) is left out. Requests that found nobody together are one answer, not as many as happened to be under way: a relay
that is back in a second would be shut for thirty. Pure: times are arguments, and the same answers in the same order give
the same state, so a new leader has it from the ledger.
"""

from __future__ import annotations

from collections import Counter, deque
from math import inf, log
from typing import TYPE_CHECKING, Final, NamedTuple

from rotord.core.model import Blame, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

ACCEPTABLE: Final = 0.02
TRIP_SCORE: Final = 9.0
WINDOWS: Final = (10, 50, 200)
#: below it, no share of errors means anything
FEWEST_ERRORS: Final = 3
FIRST_PAUSE_S: Final = 30.0
LONGEST_PAUSE_S: Final = 600.0
PROBES: Final = 3
#: so many e-folds likelier is it that a provider works for the others than that it fails them as it fails one client. More let a client
#: with most of the mail close it again and again, less hid outages: at 1.5 these are found as late as before, by an answer or two
OWN_SCORE: Final = 1.5
#: connections closed at a message's turn with nothing taken in between: so many are no limit of messages a connection any more
CLOSED_IN_A_ROW: Final = 20
_ERRORS: Final = frozenset({Blame.PROVIDER, Blame.NETWORK, Blame.ACCOUNT})
#: The database keeps microseconds of a time that was chosen in floats.
_ROUNDING_S: Final = 0.001


class Errors(NamedTuple):
    """So many of the last so many answers."""

    errors: int
    answers: int


class _Answer(NamedTuple):
    is_error: bool
    client: str
    is_of_account: bool  # counts only beside another client's


def score(errors: int, answers: int) -> float:
    """How hard it is to believe that a working provider made so many errors in so many answers; 0 when it is easy."""
    acceptable = answers * ACCEPTABLE
    if errors < FEWEST_ERRORS or errors <= acceptable:
        return 0.0
    return errors * log(errors / acceptable) - (errors - acceptable)


def is_own(one: Errors, others: Errors) -> bool:
    """Tell whether one client's errors are its own: the others' answers in the same time are those of a working provider."""
    share = (one.errors + 1) / (one.answers + 2)
    if share <= ACCEPTABLE:
        return False
    good = others.answers - others.errors
    return others.errors * log(ACCEPTABLE / share) + good * log((1 - ACCEPTABLE) / (1 - share)) >= OWN_SCORE


def works(outcome: Outcome, blame: Blame | None) -> bool | None:
    """Say what an attempt's end says of its provider: True it works, False it fails, None nothing.

    Nothing: what we stopped ourselves (no blame), what asks for less (a rate, which the provider's slots heed), and a connection that
    was closed at a message's turn, as relays do after so many messages. An error is one whether it refused for now or for good.
    """
    if blame is Blame.RATE or (outcome is Outcome.NOT_SENT and blame in {None, Blame.PROVIDER}):
        return None
    if outcome is Outcome.UNCERTAIN and blame is None:
        return None
    return outcome is Outcome.ACCEPTED or blame not in _ERRORS


class Breaker:
    """One provider's. The pool that owns it tells it each message that begins and each that ends."""

    __slots__ = (
        "_answers",
        "_clients",
        "_closed",
        "_good",
        "_pause_s",
        "_probed",
        "_probes",
        "_refused",
        "_unreached_at",
        "opens_at",
        "tripped_by",
    )

    def __init__(self) -> None:
        self._answers: deque[_Answer] = deque(maxlen=WINDOWS[-1])
        self._probed: deque[_Answer] = deque(maxlen=WINDOWS[1])  # those of its probes, since it last stopped being closed
        self._clients: set[str] = set()  # the first two that were met
        self._refused: set[str] = set()  # whose probes the account was blamed for since it opened
        self._closed = 0
        self._unreached_at = -inf  # when the last one that found nobody, and counts, ended
        self._pause_s = FIRST_PAUSE_S
        self._probes = 0
        self._good = 0
        #: when it lets one begin, by its own clock: `-inf` while closed, then the time of the next probe
        self.opens_at = -inf
        #: what opened it; None while closed
        self.tripped_by: Errors | None = None

    @classmethod
    def tripped(cls, by: Errors, next_probe_at: float | None) -> Breaker:
        """One as another process told of it; None: its probe was on the wire."""
        breaker = cls()
        breaker.tripped_by, breaker.opens_at = by, -inf if next_probe_at is None else next_probe_at
        breaker._probes = int(next_probe_at is None)
        return breaker

    def free_at(self) -> float:
        """When a message may begin: `-inf` at any time, `inf` when only the end of the probe on the wire can tell."""
        return inf if self._probes else self.opens_at

    @property
    def is_probing(self) -> bool:
        """True while a probe is on the wire."""
        return self._probes > 0

    def __str__(self) -> str:
        """What opened it, for people; '' while closed."""
        if self.tripped_by is None:
            return ""
        probe = ", a probe is on the wire" if self.is_probing else ""
        return f"failing: {self.tripped_by.errors} of {self.tripped_by.answers} answers were errors{probe}"

    def began(self, at: float) -> None:
        """Count a message that began at `at`."""
        if self._is_probe(at):
            self._probes += 1

    def taken_back(self, began_at: float) -> None:
        """Undo `began`."""
        if self._is_probe(began_at) and self._probes:
            self._probes -= 1

    def ended(self, outcome: Outcome, blame: Blame | None, began_at: float, at: float, client: str = "") -> None:
        """Take note of an answer to a client's message. What was on the wire when it opened decides nothing any more."""
        is_good = self._works(outcome, blame, began_at, at)
        if len(self._clients) < 2:  # noqa: PLR2004 - whether there is another one
            self._clients.add(client)
        is_own = is_good is False and blame is Blame.ACCOUNT and len(self._clients) > 1
        if self.tripped_by is None:
            if is_good is not None:
                self._answers.append(_Answer(not is_good, client, is_own))
            if is_good is False:
                self._judge(at)
            return
        if self._is_probe(began_at):
            self.taken_back(began_at)
            self._judge_probe(is_good, at, client, is_own=is_own)

    def _judge_probe(self, is_good: bool | None, at: float, client: str, *, is_own: bool) -> None:
        if is_own:
            self._refused.add(client)
            if len(self._refused) == 1:
                return  # it says nothing yet: another client's may be taken
        if is_good is not None:
            self._probed.append(_Answer(not is_good, client, is_own))
            if not is_good and _is_his_own(client, tuple(self._probed)):
                self.opens_at = at + FIRST_PAUSE_S  # the good ones before it stand
                return
        if is_good:
            self._good += 1
            if self._good == PROBES:
                self._close()
        elif is_good is False and self.tripped_by is not None:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._open(at, self.tripped_by)

    def _works(self, outcome: Outcome, blame: Blame | None, began_at: float, at: float) -> bool | None:
        is_good = works(outcome, blame)
        if is_good:
            self._closed = 0
        elif outcome is Outcome.NOT_SENT and blame is Blame.PROVIDER:
            self._closed += 1
            if self._closed > CLOSED_IN_A_ROW:
                return False
        elif outcome is Outcome.NOT_SENT and blame is Blame.NETWORK:
            if began_at < self._unreached_at:
                return None
            self._unreached_at = at
        return is_good

    def _judge(self, at: float) -> None:
        owners = {answer.client for answer in self._answers if answer.is_of_account}
        newest = [answer for answer in reversed(self._answers) if not answer.is_of_account or len(owners) > 1]
        while True:
            worst = max((_errors(newest[:window]) for window in WINDOWS), key=lambda errors: score(*errors))
            if score(*worst) < TRIP_SCORE:
                return
            seen = newest[: worst.answers]
            client, _ = Counter(answer.client for answer in seen if answer.is_error).most_common(1)[0]
            if not _is_his_own(client, seen[::-1]):
                break
            newest = [answer for answer in newest if answer.client != client]
        self._open(at, worst)

    def _open(self, at: float, because: Errors) -> None:
        self.opens_at, self.tripped_by = at + self._pause_s, because
        self._probes = self._good = 0
        self._refused.clear()
        self._answers.clear()

    def _close(self) -> None:
        self.opens_at, self.tripped_by = -inf, None
        self._probes = self._good = self._closed = 0
        self._probed.clear()
        self._pause_s = FIRST_PAUSE_S

    def _is_probe(self, began_at: float) -> bool:
        return self.tripped_by is not None and began_at >= self.opens_at - _ROUNDING_S


def _errors(answers: Sequence[_Answer]) -> Errors:
    return Errors(sum(answer.is_error for answer in answers), len(answers))


def _is_his_own(client: str, answers: Sequence[_Answer]) -> bool:
    """Judge by what came since this client's first error, the oldest first."""
    first = next(number for number, answer in enumerate(answers) if answer.is_error and answer.client == client)
    since = answers[first:]
    return is_own(_errors([one for one in since if one.client == client]), _errors([one for one in since if one.client != client]))
