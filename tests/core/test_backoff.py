"""Retries keep their promises: never early, never beyond the end, apart from each other."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rotord.core.backoff import jitter_bytes, jitter_unit, next_try_at

units = st.floats(0, 1, exclude_max=True)
HOUR, DAY = 3600.0, 86400.0


def after(attempts, *, now=1000.0, first_at=1000.0, unit=0.0, retry_after_s=None, give_up_s=DAY):
    return next_try_at(now, first_at, attempts, first_s=60, max_s=HOUR, give_up_s=give_up_s, unit=unit, retry_after_s=retry_after_s)


def test_the_delay_doubles_up_to_its_maximum():
    delays = [after(attempts) - 1000 for attempts in range(1, 9)]

    assert delays == [60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_ten_thousand_attempts_overflow_nothing():
    assert after(10_000) == 1000 + HOUR
    assert after(0) == 1060


@given(attempts=st.integers(1, 100), unit=units)
def test_jitter_takes_at_most_a_quarter_of_the_delay(attempts, unit):
    longest = after(attempts) - 1000

    assert 0.75 * longest <= after(attempts, unit=unit) - 1000 <= longest


@given(attempts=st.integers(1, 100), unit=units, asked=st.floats(-10, 10 * DAY), late=st.floats(0, 2 * DAY))
def test_a_try_is_never_before_retry_after_nor_beyond_the_end(attempts, unit, asked, late):
    now = 1000 + late
    at = after(attempts, now=now, unit=unit, retry_after_s=asked)

    assert at is None or (at <= 1000 + DAY and at >= now + min(max(asked, 0), DAY) and at > now)


def test_retry_after_is_obeyed_beyond_the_longest_delay_and_spread_upwards():
    assert after(1, retry_after_s=5 * HOUR) == 1000 + 5 * HOUR
    assert 1000 + 5 * HOUR < after(1, retry_after_s=5 * HOUR, unit=0.5) <= 1000 + 5 * HOUR + 15


def test_retry_after_counts_for_a_day_at_most():
    assert after(1, retry_after_s=30 * DAY, give_up_s=3 * DAY) == 1000 + DAY


def test_a_short_retry_after_does_not_shorten_the_delay():
    assert after(5, retry_after_s=1) == after(5)


def test_the_last_try_is_made_on_the_edge_and_then_the_message_is_given_up():
    edge = 1000 + DAY

    assert after(9, now=edge - 2000) == edge
    assert after(9, now=edge - 1700) is None
    assert after(9, now=edge) is None


def test_a_provider_that_asks_for_more_time_than_is_left_gets_no_early_try():
    assert after(9, now=1000 + DAY - 2000, retry_after_s=2001) is None


@settings(max_examples=40)
@given(unit=units, limits=st.tuples(st.floats(1, 600), st.floats(600, DAY), st.floats(0, 7 * DAY)))
def test_every_message_is_given_up_after_finitely_many_tries(unit, limits):
    first_s, max_s, give_up_s = limits
    now, attempts = 0.0, 1
    while (at := next_try_at(now, 0.0, attempts, first_s=first_s, max_s=max_s, give_up_s=give_up_s, unit=unit)) is not None:
        assert now < at <= give_up_s
        now, attempts = at, attempts + 1

    assert attempts <= 20 + 2 * give_up_s / max_s


@given(st.lists(st.integers() | st.text(max_size=20), min_size=1, max_size=4))
def test_jitter_is_a_number_below_one_and_the_same_each_time(parts):
    assert 0 <= jitter_unit(*parts) < 1
    assert jitter_unit(*parts) == jitter_unit(*parts)


def test_jitter_stays_what_it_is_from_release_to_release():
    assert round(jitter_unit("address:a@b.example", 739000, 7), 6) == 0.475669
    assert len(jitter_bytes("a")) == 64


def test_jitter_is_spread_evenly():
    draws = [jitter_unit("key", number) for number in range(5000)]
    tenths = [sum(tenth / 10 <= draw < (tenth + 1) / 10 for draw in draws) for tenth in range(10)]

    assert min(tenths) > 400
    assert max(tenths) < 600
