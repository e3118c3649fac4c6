"""Windows: what the text means, and that the clocks of the world do not bend it."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotord.core.window import ALWAYS, SendingWindow, WindowClock, parse_window

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
LORD_HOWE, APIA, HAVANA = ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Pacific/Apia"), ZoneInfo("America/Havana")
ST_JOHNS = ZoneInfo("America/St_Johns")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

zones = st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE, APIA, HAVANA, ST_JOHNS, ZoneInfo("UTC")])
moments = st.floats(datetime(2005, 1, 1, tzinfo=UTC).timestamp(), datetime(2030, 1, 1, tzinfo=UTC).timestamp())
# The nights on which these zones turn their clocks, and a whole day that never was.
turns = st.sampled_from(
    [(2026, 3, 29), (2026, 10, 25), (2026, 3, 8), (2026, 11, 1), (2026, 4, 4), (2026, 10, 3), (2011, 12, 30), (2011, 11, 6)]
)
near_turns = st.builds(lambda day, seconds: datetime(*day, tzinfo=UTC).timestamp() + seconds, turns, st.floats(-2 * 86400, 2 * 86400))


def clock_time(minutes):
    return f"{minutes // 60:02}:{minutes % 60:02}"


@st.composite
def texts(draw):
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        days = ",".join(draw(st.lists(st.sampled_from([*DAYS, "mon-fri", "sat-mon"]), min_size=1, max_size=3)))
        spans = []
        for _ in range(draw(st.integers(1, 3))):
            begin = draw(st.integers(0, 1439))
            end = draw(st.integers(0, 1440).filter(lambda minutes, begin=begin: minutes != begin))
            spans.append(f"{clock_time(begin)}-{clock_time(end)}")
        parts.append(f"{days} {','.join(spans)}")
    return ";".join(parts)


windows = texts().map(parse_window) | st.just(ALWAYS)


def local(spans, zone):
    return [tuple(datetime.fromtimestamp(at, zone).strftime("%d %H:%M%z") for at in span) for span in spans]


def at(zone, *parts, fold=0):
    return datetime(*parts, tzinfo=zone, fold=fold).timestamp()


def hours(spans):
    return sum(closes - opens for opens, closes in spans) / 3600


# --- the text ---


def open_days(text):
    return [day for day, spans in zip(DAYS, parse_window(text).week, strict=True) if spans]


def test_days_are_names_ranges_that_may_wrap_lists_or_daily():
    assert open_days("wed 08:00-09:00") == ["wed"]
    assert open_days("mon-fri 08:00-09:00") == ["mon", "tue", "wed", "thu", "fri"]
    assert open_days("sat-mon 08:00-09:00") == ["mon", "sat", "sun"]
    assert open_days("mon,wed-thu,sun 08:00-09:00") == ["mon", "wed", "thu", "sun"]
    assert open_days("daily 08:00-09:00") == list(DAYS)


def test_a_day_may_have_a_pause_and_windows_may_differ_by_day():
    window = parse_window("mon-fri 08:00-12:00,13:00-17:00; sat 09:30-24:00")

    assert window.week[0] == ((480, 720), (780, 1020))
    assert window.week[5] == ((570, 1440),)
    assert window.week[6] == ()


def test_a_span_over_midnight_belongs_to_the_day_it_begins_on():
    assert parse_window("fri 22:00-06:00").week[4:6] == (((1320, 1800),), ())
    assert parse_window("fri 22:00-00:00") == parse_window("fri 22:00-24:00")


def test_texts_that_mean_the_same_are_equal():
    same = {
        parse_window("mon,tue 08:00-19:00"),
        parse_window("  MON - tue , mon 8:00 - 12:00 , 11:00-19:00 "),
        parse_window("tue 12:00-19:00;tue 08:00-12:00;mon 08:00-19:00"),
    }

    assert len(same) == 1
    assert parse_window("daily 00:00-24:00") == ALWAYS


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is not days and times such as 'mon-fri 08:00-19:00'"),
        ("mon-fri", "'mon-fri' is not days and times"),
        ("08:00-19:00", "is not days and times"),
        ("mon-fri 08:00-19:00;", "'' is not days and times"),
        ("mon-fri 08:00-19:00 sat", "is not days and times"),
        ("mon-fry 08:00-19:00", "'fry' is no day; days are mon, tue, wed, thu, fri, sat, sun"),
        ("mon-,tue 08:00-19:00", "'' is no day"),
        ("mon-wed-fri 08:00-19:00", "'wed-fri' is no day"),
        ("mon,daily 08:00-19:00", "'daily' is no day"),
        ("mon 8-19", "'8-19' is not a span of time such as 08:00-19:00"),
        ("mon 08:00-19:00,", "'' is not a span"),
        ("mon 08:00-19:00am", "is not a span"),
        ("mon ٠٨:٠٠-19:00", "is not a span"),  # noqa: RUF001 - Arabic digits are digits to int(), not to us
        ("mon 08:60-19:00", "'08:60-19:00' leaves the day"),
        ("mon 08:00-19:60", "leaves the day"),
        ("mon 24:00-06:00", "leaves the day"),
        ("mon 08:00-24:01", "leaves the day"),
        ("mon 08:00-08:00", "'08:00-08:00' ends as it begins; write 00:00-24:00 for the whole day"),
    ],
)
def test_a_wrong_text_is_answered_with_what_is_wrong(text, says):
    with pytest.raises(ValueError) as raised:
        parse_window(text)

    assert str(raised.value).startswith(f"sending window {text!r}: ")
    assert says in str(raised.value)


def test_a_window_that_never_opens_cannot_be_made():
    with pytest.raises(ValueError):
        SendingWindow(((),) * 7)
    with pytest.raises(ValueError):
        SendingWindow((((0, 60),),))


@settings(max_examples=200)
@given(st.text("monfri0123456789:-,; ", max_size=30))
def test_any_text_is_a_window_or_a_value_error(text):
    try:
        window = parse_window(text)
    except ValueError:
        return

    assert any(window.week)


# --- clock changes ---


def test_berlin_skips_an_hour_in_spring_and_has_one_twice_in_autumn():
    working = parse_window("daily 09:00-18:00")
    night = parse_window("daily 01:00-04:00")

    assert hours(working.spans(date(2027, 3, 28), BERLIN)) == 9
    assert hours(night.spans(date(2027, 3, 28), BERLIN)) == 2
    assert hours(night.spans(date(2027, 10, 31), BERLIN)) == 4
    assert hours(ALWAYS.spans(date(2027, 3, 28), BERLIN)) == 23
    assert hours(ALWAYS.spans(date(2027, 10, 31), BERLIN)) == 25


def test_a_time_that_is_skipped_is_the_instant_of_the_skip():
    spring = date(2027, 3, 28)

    assert local(parse_window("daily 02:30-03:15").spans(spring, BERLIN), BERLIN) == [("28 03:00+0200", "28 03:15+0200")]
    assert local(parse_window("daily 01:00-02:30").spans(spring, BERLIN), BERLIN) == [("28 01:00+0100", "28 03:00+0200")]
    assert parse_window("daily 02:10-02:20").spans(spring, BERLIN) == ()


def test_a_time_that_comes_twice_opens_the_first_and_closes_the_second_time():
    autumn = date(2026, 11, 1)

    assert local(parse_window("daily 01:15-01:45").spans(autumn, NEW_YORK), NEW_YORK) == [("01 01:15-0400", "01 01:45-0500")]
    assert local(parse_window("daily 00:00-01:10,01:50-03:00").spans(autumn, NEW_YORK), NEW_YORK) == [("01 00:00-0400", "01 03:00-0500")]


def test_lord_howe_turns_its_clocks_by_half_an_hour():
    window = parse_window("daily 01:00-03:00")

    assert hours(window.spans(date(2026, 4, 5), LORD_HOWE)) == 2.5
    assert hours(window.spans(date(2026, 10, 4), LORD_HOWE)) == 1.5
    assert hours(window.spans(date(2026, 10, 5), LORD_HOWE)) == 2


def test_apia_had_no_30_december_2011():
    window = parse_window("daily 09:00-18:00")

    assert window.spans(date(2011, 12, 30), APIA) == ()
    assert window.next_open(at(APIA, 2011, 12, 29, 18), APIA) == at(APIA, 2011, 12, 31, 9)
    assert window.day_of(at(APIA, 2011, 12, 29, 18), APIA) == date(2011, 12, 31)
    assert hours(parse_window("thu 22:00-06:00").spans(date(2011, 12, 29), APIA)) == 2


def test_midnight_that_comes_twice_parts_the_days_once():
    assert hours(ALWAYS.spans(date(2026, 10, 31), HAVANA)) == 24
    assert hours(ALWAYS.spans(date(2026, 11, 1), HAVANA)) == 25


# --- any window, any zone, any time ---


@settings(max_examples=150)
@given(windows, zones, moments | near_turns)
def test_spans_are_sorted_apart_and_not_shared_between_days(window, zone, now):
    first = datetime.fromtimestamp(now, zone).date() - timedelta(days=2)
    ends = -1.0
    for offset in range(5):
        touching = False
        for opens, closes in window.spans(first + timedelta(days=offset), zone):
            assert opens < closes
            assert opens > ends if touching else opens >= ends
            ends, touching = closes, True


@settings(max_examples=150)
@given(windows, zones, moments | near_turns)
def test_open_is_what_some_day_covers_and_next_open_is_the_first_such_time(window, zone, now):
    today = datetime.fromtimestamp(now, zone).date()
    spans = [(day, span) for day in (today + timedelta(days=offset) for offset in range(-2, 16)) for span in window.spans(day, zone)]
    day, (opens, closes) = next((day, span) for day, span in spans if now < span[1])

    assert window.is_open(now, zone) == (opens <= now < closes)
    assert window.next_open(now, zone) == max(now, opens)
    assert window.day_of(now, zone) == day


@settings(max_examples=150)
@given(windows, zones, moments)
def test_away_from_clock_changes_the_window_is_what_the_clock_on_the_wall_says(window, zone, now):
    wall = datetime.fromtimestamp(now, zone)
    if len({(wall + timedelta(days=offset)).utcoffset() for offset in range(-2, 3)}) > 1:
        return
    minute = wall.hour * 60 + wall.minute
    covered = any(begin <= minute < end for begin, end in window.week[wall.weekday()]) or any(
        begin <= minute + 1440 < end for begin, end in window.week[wall.weekday() - 1]
    )

    assert window.is_open(now, zone) == covered


@settings(max_examples=100)
@given(zones, moments | near_turns)
def test_always_is_always(zone, now):
    assert ALWAYS.is_open(now, zone)


@settings(max_examples=100)
@given(windows, zones, moments | near_turns, st.lists(st.floats(-90_000, 400_000), max_size=20))
def test_a_clock_answers_as_its_window_in_whatever_order_it_is_asked(window, zone, start, steps):
    clock = WindowClock(window, zone)
    for now in [start, *(start + step for step in steps)]:
        day = window.day_at(now, zone)

        assert clock.opens_at(now) == window.next_open(now, zone)
        assert clock.day_at(now) == day
        assert clock.day_after(day) == window.day_after(day, zone)
        assert clock.day_after(day) == window.day_at(day.closes, zone)
        assert day.since <= now < day.closes
        assert clock.open_until(now) == (day.span_at(now)[1] if window.is_open(now, zone) else now)


@settings(max_examples=100)
@given(windows, zones, moments | near_turns, st.floats(0, 1, exclude_max=True))
def test_open_time_and_instants_are_two_ways_to_say_the_same(window, zone, now, part):
    day = window.day_at(now, zone)
    instant = day.instant(part * day.open_s)

    assert any(opens <= instant <= closes for opens, closes in day.spans)
    assert day.position(instant) == pytest.approx(part * day.open_s, abs=1e-5)
    assert day.position(day.opens - 1) == 0
    assert day.position(day.closes) == pytest.approx(day.open_s)
    assert day.instant(day.open_s + 1) == day.closes
