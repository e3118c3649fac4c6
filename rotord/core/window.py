"""When a client's bulk mail may leave: the weekly window, its exact UTC spans on any date, and a clock that is cheap to ask.

The text is `mon-fri 08:00-19:00`: days (mon..sun, ranges that may wrap, lists, or `daily`), then time spans, all with
commas between; several windows with `;` between. `24:00` may end a span. A span over midnight belongs to the day it
begins on. Every instant belongs to at most one day, also where the spans of two days would overlap: the earlier keeps it.

Clock changes: a time that the clocks skip is the instant they skip it; of a time that comes twice the first opens and
the second closes. `24:00` is the beginning of the next date, so that a window without gaps has none in any zone.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from zoneinfo import ZoneInfo

Minutes: TypeAlias = tuple[int, int]
Span: TypeAlias = tuple[float, float]

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOUR: Final = 60
_MIDNIGHT: Final = 24 * _HOUR
_ONE_DAY: Final = timedelta(days=1)
_AROUND_SIGNS: Final = re.compile(r"\s*([,;-])\s*")
_TIMES: Final = re.compile(r"(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class SendingDay:
    """One local date and its open spans in UTC seconds (sorted, apart, none empty); it owns the time from `since` on.

    `since` is when the last span of an earlier date closed.
    """

    date: date
    spans: tuple[Span, ...]
    since: float

    @property
    def opens(self) -> float:
        """When its first span begins."""
        return self.spans[0][0]

    @property
    def closes(self) -> float:
        """When its last span ends; from here on time belongs to the next day that has a span."""
        return self.spans[-1][1]

    @property
    def open_s(self) -> float:
        """All its open time, pauses left out."""
        return sum(closes - opens for opens, closes in self.spans)

    def span_at(self, now: float) -> Span:
        """Give the span that contains `now`, else the next one; `now` must lie before `closes`."""
        return next(span for span in self.spans if now < span[1])

    def position(self, at: float) -> float:
        """Say how much of the day's open time has passed at `at`."""
        passed = 0.0
        for opens, closes in self.spans:
            if at < closes:
                return passed + (at - opens) if at > opens else passed
            passed += closes - opens
        return passed

    def instant(self, position: float) -> float:
        """Say when so much open time has passed: within a span, or `closes` when the day has no more."""
        for opens, closes in self.spans:
            if position < closes - opens:
                return opens + position
            position -= closes - opens
        return self.closes


@dataclass(frozen=True, slots=True)
class SendingWindow:
    """A weekly window: for Monday to Sunday the spans in minutes after local midnight, sorted and apart."""

    week: tuple[tuple[Minutes, ...], ...]

    def __post_init__(self) -> None:
        if len(self.week) != len(_DAYS) or not any(self.week):
            raise ValueError("a sending window has seven days and opens on at least one of them")

    def spans(self, day: date, zone: ZoneInfo) -> tuple[Span, ...]:
        """Give that local date's open spans in UTC seconds: sorted, apart, none empty, none shared with another date."""
        taken_until = -inf
        yesterday = day - _ONE_DAY
        for _, end in self.week[yesterday.weekday()][-1:]:
            if end > _MIDNIGHT:
                taken_until = _instant(yesterday, end, zone, closing=True)
        spans: list[Span] = []
        for begin, end in self.week[day.weekday()]:
            opens = max(taken_until, _instant(day, begin, zone, closing=False))
            closes = _instant(day, end, zone, closing=end != _MIDNIGHT)
            if closes <= opens:
                continue
            if spans and spans[-1][1] == opens:
                opens = spans.pop()[0]
            spans.append((opens, closes))
            taken_until = closes
        return tuple(spans)

    def day_at(self, now: float, zone: ZoneInfo) -> SendingDay:
        """Give the day whose open time `now` lies in or, when closed, comes next."""
        # Yesterday's spans may reach over midnight into today, those of the day before are over.
        day = datetime.fromtimestamp(now, zone).date() - 2 * _ONE_DAY
        while not (spans := self.spans(day, zone)):
            day -= _ONE_DAY
        since = -inf
        while spans[-1][1] <= now:
            since = spans[-1][1]
            day, spans = self._first_after(day, zone)
        return SendingDay(day, spans, since)

    def day_after(self, day: SendingDay, zone: ZoneInfo) -> SendingDay:
        """Give the next day that has open time."""
        following, spans = self._first_after(day.date, zone)
        return SendingDay(following, spans, day.closes)

    def is_open(self, now: float, zone: ZoneInfo) -> bool:
        """Say whether bulk mail may leave at `now`."""
        return self.next_open(now, zone) == now

    def next_open(self, now: float, zone: ZoneInfo) -> float:
        """Say when bulk mail may leave: `now` when open, else the next opening."""
        return max(now, self.day_at(now, zone).span_at(now)[0])

    def day_of(self, now: float, zone: ZoneInfo) -> date:
        """Give the local date whose spans contain `now`, else the next date that has a span ahead."""
        return self.day_at(now, zone).date

    def _first_after(self, day: date, zone: ZoneInfo) -> tuple[date, tuple[Span, ...]]:
        # Ends within two weeks: some weekday opens, and no zone skips the same time twice in a fortnight.
        day += _ONE_DAY
        while not (spans := self.spans(day, zone)):
            day += _ONE_DAY
        return day, spans


class WindowClock:
    """One window in one zone, cheap to ask again and again with a time that mostly moves forward. One owner, one task."""

    __slots__ = ("_after", "_closes", "_day", "_opens", "_valid_from", "window", "zone")

    def __init__(self, window: SendingWindow, zone: ZoneInfo) -> None:
        self.window = window
        self.zone = zone
        self._day: SendingDay | None = None
        self._after: tuple[SendingDay, SendingDay] | None = None
        # The span in hand, and the earliest time for which it is known to be the right one.
        self._valid_from, self._opens, self._closes = inf, inf, -inf

    def opens_at(self, now: float) -> float:
        """Say when bulk mail may leave: `now` when open, else the next opening."""
        if not self._valid_from <= now < self._closes:
            self._seek(now)
        return max(now, self._opens)

    def open_until(self, now: float) -> float:
        """Say when the span that `now` lies in closes; when closed, `now`. Another span may follow at once."""
        return self._closes if self.opens_at(now) == now else now

    def day_at(self, now: float) -> SendingDay:
        """Give the day whose open time `now` lies in or, when closed, comes next."""
        day = self._day
        if day is None or not day.since <= now < day.closes:
            day = self._day = self.window.day_at(now, self.zone)
        return day

    def day_after(self, day: SendingDay) -> SendingDay:
        """Give the next day that has open time."""
        if self._after is None or self._after[0] != day:
            self._after = (day, self.window.day_after(day, self.zone))
        return self._after[1]

    def _seek(self, now: float) -> None:
        self._opens, self._closes = self.day_at(now).span_at(now)
        self._valid_from = min(now, self._opens)


def parse_window(text: str) -> SendingWindow:
    """Read a sending window; a ValueError says in one sentence what is wrong and what would be right.

    Texts that mean the same give equal windows.
    """
    week: list[list[Minutes]] = [[] for _ in _DAYS]
    try:
        for part in _AROUND_SIGNS.sub(r"\1", text.strip().lower()).split(";"):
            weekdays, spans = _part(part)
            for weekday in weekdays:
                week[weekday].extend(spans)
    except ValueError as error:
        raise ValueError(f"sending window {text!r}: {error}") from None
    return SendingWindow(tuple(tuple(_merged(spans)) for spans in week))


def _part(text: str) -> tuple[list[int], list[Minutes]]:
    match text.split():
        case [days, times]:
            return list(_weekdays(days)), [_span(item) for item in times.split(",")]
        case _:
            raise ValueError(f"{text!r} is not days and times such as 'mon-fri 08:00-19:00'")


def _weekdays(text: str) -> Iterator[int]:
    if text == "daily":
        yield from range(len(_DAYS))
        return
    for item in text.split(","):
        first, dash, last = item.partition("-")
        for name in (first, last) if dash else (first,):
            if name not in _DAYS:
                raise ValueError(f"{name!r} is no day; days are {', '.join(_DAYS)}, ranges such as mon-fri, or daily")
        begin = _DAYS.index(first)
        length = (_DAYS.index(last or first) - begin) % len(_DAYS)
        for offset in range(length + 1):
            yield (begin + offset) % len(_DAYS)


def _span(text: str) -> Minutes:
    if (found := _TIMES.fullmatch(text)) is None:
        raise ValueError(f"{text!r} is not a span of time such as 08:00-19:00")
    begin_hour, begin_minute, end_hour, end_minute = map(int, found.groups())
    begin, end = begin_hour * _HOUR + begin_minute, end_hour * _HOUR + end_minute
    if max(begin_minute, end_minute) >= _HOUR or begin >= _MIDNIGHT or end > _MIDNIGHT:
        raise ValueError(f"{text!r} leaves the day; a span begins at 00:00 to 23:59 and ends by 24:00")
    if begin == end:
        raise ValueError(f"{text!r} ends as it begins; write 00:00-24:00 for the whole day")
    return (begin, end) if begin < end else (begin, end + _MIDNIGHT)


def _merged(spans: Iterable[Minutes]) -> list[Minutes]:
    merged: list[Minutes] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _instant(day: date, minutes: int, zone: ZoneInfo, *, closing: bool) -> float:
    wall = datetime.combine(day, time.min) + timedelta(minutes=minutes)
    first = wall.replace(tzinfo=zone).timestamp()
    second = wall.replace(tzinfo=zone, fold=1).timestamp()
    if second < first:  # The clocks skip this time, somewhere between the two readings of it.
        skipped = range(int(second), int(first))
        return float(int(second) + bisect_left(skipped, wall, key=lambda at: _wall(at, zone)))
    return second if closing else first


def _wall(at: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at, zone).replace(tzinfo=None)


ALWAYS: Final = SendingWindow((((0, _MIDNIGHT),),) * 7)
