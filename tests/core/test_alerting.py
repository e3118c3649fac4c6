"""A sink hears of each trouble once, of its worsening, now and then that it lasts, and of its end; and of what it missed, how it stands."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rotord.core.alerting import QUIET_S, REMIND_S, TEXT_LIMIT, Alert, Change, Severity, Standing, Told, change, told_by, words

AT = 1_795_000_000.0
DOWN = Standing(Alert("provider_down", "mailgun_eu", Severity.WARNING, "connection refused", "look at its status page"), AT)
UP = replace(DOWN, resolved_at=AT + 90, resolution="it answers again")


def test_it_is_told_once_then_that_it_lasts_then_that_it_is_over():
    told = Told()

    assert change(DOWN, told, AT) is Change.RAISED

    told = told_by(Change.RAISED, DOWN, AT)

    assert change(DOWN, told, AT + 86399) is None
    assert change(DOWN, told, AT + 86400) is Change.REMINDER
    assert change(UP, told, AT + 90) is Change.RESOLVED
    assert change(UP, told_by(Change.RESOLVED, UP, AT + 91), AT + 99) is None


def test_worse_is_told_at_once_and_better_is_not():
    told = told_by(Change.RAISED, DOWN, AT)
    critical = replace(DOWN, alert=replace(DOWN.alert, severity=Severity.CRITICAL))

    assert change(critical, told, AT + 1) is Change.WORSE

    told = told_by(Change.WORSE, critical, AT + 1)

    assert change(DOWN, told, AT + 2) is None
    assert change(critical, told, AT + 1 + REMIND_S[Severity.CRITICAL]) is Change.REMINDER


def test_what_can_wait_is_not_said_again():
    info = replace(DOWN, alert=replace(DOWN.alert, severity=Severity.INFO))

    assert change(info, told_by(Change.RAISED, info, AT), AT + 1e9) is None


def test_what_was_over_before_anyone_heard_is_told_once():
    assert change(UP, Told(), AT + 100) is Change.OVER
    assert change(UP, told_by(Change.OVER, UP, AT + 100), AT + 101) is None
    # an end that was told lies before this trouble began
    assert change(UP, Told(None, AT - 5000), AT + 100) is Change.OVER


def test_one_that_comes_and_goes_is_told_once_in_ten_minutes():
    told = told_by(Change.RESOLVED, UP, AT + 90)
    again = replace(DOWN, times=2)

    assert change(again, told, AT + 89 + QUIET_S) is None
    assert change(again, told, AT + 90 + QUIET_S) is Change.RAISED


@given(st.lists(st.tuples(st.sampled_from(["raise", "worse", "resolve", "nothing"]), st.floats(0.5, 400)), max_size=60), st.booleans())
def test_a_sink_that_is_asked_often_is_told_no_more_than_once_a_change_and_knows_the_end(steps, starts_open):
    now, standing, told, messages, changes = AT, DOWN if starts_open else UP, Told(), 0, 1
    for step, pause in steps:
        now += pause
        before = standing
        if step == "resolve" and standing.resolved_at is None:
            standing = replace(standing, resolved_at=now)
        elif step == "raise" and standing.resolved_at is not None:
            standing = replace(standing, resolved_at=None, times=standing.times + 1)
        elif step == "worse":
            standing = replace(standing, alert=replace(standing.alert, severity=Severity.CRITICAL))
        changes += standing != before
        for _ in range(2):  # asked again at once, there is nothing more to say
            what = change(standing, told, now)
            if what is not None:
                told = told_by(what, standing, now)
                messages += 1
        assert change(standing, told, now) is None

    reminders = (now - AT) / REMIND_S[Severity.CRITICAL]

    assert messages <= changes + reminders + 1

    final = change(standing, told, now + QUIET_S)
    told = told_by(final, standing, now) if final else told

    assert (told.severity is None) == (standing.resolved_at is not None)


def test_the_words_say_what_since_when_and_what_to_do():
    said = words(Change.RAISED, DOWN, AT + 30)

    assert said.title == "WARNING: provider down: mailgun_eu"
    assert said.lines == ("connection refused", "since 2026-11-18 11:06:40 UTC, for 30 s", "do: look at its status page")


def test_the_words_of_an_end_say_how_long_it_was():
    said = words(Change.RESOLVED, replace(UP, times=3, resolved_at=AT + 9000), AT)

    assert said.title == "RESOLVED: provider down: mailgun_eu"
    assert said.lines[1] == "it answers again (lasted 2 h 30 min, until 2026-11-18 13:36:40 UTC)"
    assert said.lines[2].startswith("it came and went: 3 times")


def test_every_change_has_its_title_and_bounded_text():
    long = replace(DOWN, alert=replace(DOWN.alert, text="x" * 9999, remedy=""), since_at=AT - 600)
    titles = {words(what, long, AT).title for what in Change}

    assert len(titles) == len(Change)
    assert words(Change.RAISED, long, AT).lines == ("x" * (TEXT_LIMIT - 1) + "…", "since 2026-11-18 10:56:40 UTC, for 10 min")
