"""Which state is worth a message to a person, when to say it (again), and in which words.

An alert is a state, not an event: it is raised while its condition holds and resolved when it no longer does, as often as anyone likes.
What a sink is told follows from two values alone, the alert as it stands and what that sink was told last, so that nothing is said twice
after a restart and nothing piles up while a sink is away: it then hears how things stand, not their history.

    nothing -> raised -> (worse | reminder)* -> resolved       resolved before it was told: one message, that it was and is over
                  ^---- again, at the earliest QUIET_S after "resolved" ----'
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, assert_never

#: a condition that comes and goes is told once in so long
QUIET_S: Final = 600.0
#: what belongs to one alert, in characters; the least of the sinks' limits (Slack's section text, 3000) holds all of it
TEXT_LIMIT: Final = 1000


class Severity(StrEnum):
    """How soon a person should look."""

    INFO = "info"  # when there is time
    WARNING = "warning"  # today
    CRITICAL = "critical"  # now

    @property
    def rank(self) -> int:
        """Higher is more urgent."""
        return _RANKS[self]


_RANKS: Final = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}
#: what still holds is said again so often; what can wait is not
REMIND_S: Final = {Severity.INFO: None, Severity.WARNING: 86400.0, Severity.CRITICAL: 14400.0}


class Change(StrEnum):
    """Why a sink is told now."""

    RAISED = "raised"
    WORSE = "worse"
    REMINDER = "reminder"
    RESOLVED = "resolved"
    OVER = "over"  # it was, and nobody has heard of it


@dataclass(frozen=True, slots=True)
class Alert:
    """A state that a person should know of. `what` (a fixed word: provider_down) and `subject` (whose: mailgun_eu) name it.

    `text`: one sentence with the numbers. Numbers that change every second do not belong in it: each change is written.
    `remedy`: what to do.
    """

    what: str
    subject: str
    severity: Severity
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """An alert as the database has it. `times`: how often it was raised since `since_at` (flapping)."""

    alert: Alert
    since_at: float
    resolved_at: float | None = None
    resolution: str = ""
    times: int = 1


@dataclass(frozen=True, slots=True)
class Told:
    """What one sink was told last of an alert: at which severity (None: that it is resolved), and when (None: never anything)."""

    severity: Severity | None = None
    at: float | None = None


def change(standing: Standing, told: Told, now: float) -> Change | None:
    """Say what this sink should be told now; None: nothing new."""
    if standing.resolved_at is not None:
        if told.severity is not None:
            return Change.RESOLVED
        return Change.OVER if told.at is None or told.at < standing.since_at else None
    if told.severity is None:
        is_quiet = told.at is not None and now < told.at + QUIET_S
        return None if is_quiet else Change.RAISED
    severity = standing.alert.severity
    if severity.rank > told.severity.rank:
        return Change.WORSE
    remind_s = REMIND_S[severity]
    return Change.REMINDER if remind_s is not None and now >= (told.at or 0.0) + remind_s else None


def told_by(what: Change, standing: Standing, now: float) -> Told:
    """Say what a sink knows once it was told."""
    return Told(None if what in {Change.RESOLVED, Change.OVER} else standing.alert.severity, now)


@dataclass(frozen=True, slots=True)
class Words:
    """A message: a headline, and lines below it. Plain text: each sink escapes it in its own way."""

    title: str
    lines: tuple[str, ...]


def words(what: Change, standing: Standing, now: float) -> Words:
    """Say it to a person: what it is, the numbers, since when, what to do."""
    alert = standing.alert
    name = f"{alert.what.replace('_', ' ')}: {alert.subject}"
    match what:
        case Change.RAISED:
            title = f"{alert.severity.upper()}: {name}"
        case Change.WORSE:
            title = f"{alert.severity.upper()} (worse): {name}"
        case Change.REMINDER:
            title = f"{alert.severity.upper()} (still): {name}"
        case Change.RESOLVED:
            title = f"RESOLVED: {name}"
        case Change.OVER:
            title = f"OVER: {name}"
        case _:
            assert_never(what)
    lines = [_cut(alert.text)]
    if standing.resolved_at is None:
        lines.append(f"since {_when(standing.since_at)}, for {_span(now - standing.since_at)}")
        if alert.remedy:
            lines.append(f"do: {_cut(alert.remedy)}")
    else:
        # one that was raised when it was over already says itself how long it was
        lasted_s = standing.resolved_at - standing.since_at
        lasted = f"lasted {_span(lasted_s)}, until " if lasted_s >= 1 else ""
        lines.append(f"{_cut(standing.resolution) or 'it is over'} ({lasted}{_when(standing.resolved_at)})")
    if standing.times > 1:
        lines.append(f"it came and went: {standing.times} times since {_when(standing.since_at)}")
    return Words(_cut(title), tuple(lines))


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _span(seconds: float) -> str:
    seconds = max(0, round(seconds))
    if seconds < 120:  # noqa: PLR2004 - below two minutes seconds tell something
        return f"{seconds} s"
    if seconds < 7200:  # noqa: PLR2004 - below two hours minutes do
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
