from rotord.providers.availability import Availability, probe_delay_s


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_probes_are_quick_at_first_and_never_rarer_than_asked():
    assert [probe_delay_s(after, 60.0) for after in (0, 9, 10, 299, 300, 9999)] == [1, 1, 10, 10, 60, 60]
    assert probe_delay_s(100, 5.0) == 5.0


def test_down_until_the_first_success():
    clock = Clock()
    state = Availability(30.0, clock)
    assert (state.up, state.may_try, state.next_try_in_s) == (None, True, None)

    assert state.failed("refused")
    assert not state.failed("refused")
    assert (state.up, state.may_try, state.next_try_in_s, state.reason) == (False, False, 1.0, "refused")
    clock.now = 1.0
    assert state.may_try
    assert state.succeeded()
    assert not state.succeeded()
    assert (state.up, state.reason) == (True, "")


def test_a_provider_that_flaps_is_not_probed_as_if_each_outage_were_its_first():
    clock = Clock()
    state = Availability(30.0, clock)
    state.failed("x")
    for clock.now in (5.0, 11.0):
        state.succeeded()
        state.failed("x")
    assert state.next_try_in_s == 10.0
    state.succeeded()
    clock.now += 60.0
    state.failed("x")
    assert state.next_try_in_s == 1.0


def test_what_only_a_person_can_mend_is_probed_slowly_from_the_start():
    state = Availability(30.0, Clock())
    state.failed("535", patiently=True)
    assert state.next_try_in_s == 30.0
