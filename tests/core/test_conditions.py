"""Which alerts hold: providers down or failing, plans at their steps, much that became uncertain; and what is not known."""

import pytest

from rotord.core.alerting import Severity
from rotord.core.conditions import (
    PLAN_USED,
    POSTS_REFUSED,
    PROVIDER_DOWN,
    PROVIDER_FAILING,
    UNCERTAIN_GROWING,
    ProviderSeen,
    RefusedSeen,
    Seen,
    assess,
)

UP = ProviderSeen("a", up=True, reason="", up_or_down_for_s=100, reported_s_ago=1, month_used=0, per_month=1000)


def holds(*providers, became_uncertain=0):
    hold, _ = assess(Seen(providers, became_uncertain))
    return [(alert.what, alert.subject, alert.severity) for alert in hold]


def test_all_well_is_no_alert():
    assert assess(Seen([UP], 5)) == ([], [])


def test_a_provider_that_is_down_for_a_while_is_urgent_when_no_other_can_carry_mail():
    down = UP._replace(name="b", up=False, reason="refused", up_or_down_for_s=6)

    assert holds(UP, down) == [(PROVIDER_DOWN, "b", Severity.WARNING)]
    assert holds(UP._replace(failing=(4, 4)), down) == [
        (PROVIDER_FAILING, "a", Severity.CRITICAL),
        (PROVIDER_DOWN, "b", Severity.CRITICAL),
    ]
    assert holds(down._replace(up_or_down_for_s=4)) == []


def test_what_was_not_tried_or_not_reported_lately_is_not_known():
    assert assess(Seen([UP._replace(up=None, month_used=None)], 0)) == ([], [(PROVIDER_DOWN, "a"), (PLAN_USED, "a")])

    stale = UP._replace(up=False, failing=(4, 4), month_used=1000, reported_s_ago=31)

    assert assess(Seen([stale], 0)) == ([], [(what, "a") for what in (PROVIDER_DOWN, PROVIDER_FAILING, PLAN_USED)])


@pytest.mark.parametrize(
    ("used", "severity"),
    [
        (799, None),
        (800, Severity.INFO),
        (900, Severity.WARNING),
        (999, Severity.WARNING),
        (1000, Severity.CRITICAL),
        (1001, Severity.CRITICAL),
    ],
)
def test_a_plan_is_told_of_at_80_90_and_100_percent(used, severity):
    assert holds(UP._replace(month_used=used)) == ([] if severity is None else [(PLAN_USED, "a", severity)])


def test_no_plan_is_never_used_up():
    assert holds(UP._replace(month_used=5, per_month=None)) == []


@pytest.mark.parametrize(
    ("count", "severity", "says"), [(10, "warning", "10"), (149, "warning", "100"), (2300, "critical", "2,000"), (59, "warning", "50")]
)
def test_many_uncertain_are_told_with_a_number_that_does_not_change_with_each(count, severity, says):
    hold, _ = assess(Seen([], count))

    assert [(alert.what, alert.severity) for alert in hold] == [(UNCERTAIN_GROWING, severity)]
    assert f"at least {says} messages" in hold[0].text


def refusals(**counts):
    hold, _ = assess(Seen([UP], 0, [RefusedSeen("mg", reason, count) for reason, count in counts.items()]))
    return hold


@pytest.mark.parametrize("counts", [{}, {"refused": 19}, {"stale": 10, "forged": 9}, {"foreign": 2}])
def test_a_few_refused_posts_are_no_alert(counts):
    assert refusals(**counts) == []


@pytest.mark.parametrize(
    ("counts", "text", "remedy"),
    [
        ({"refused": 20}, "at least 20 posts", "somebody else posts there"),
        ({"unverified": 49}, "at least 20 posts", "webhook_key is not its key"),
        ({"stale": 10, "forged": 10, "foreign": 2}, "another body under a used signature; signed long ago", "somebody has seen its posts"),
        ({"foreign": 3}, "at least 2 posts in its name were not believed within ten minutes: events of messages", "key for each account"),
        ({"something new": 50}, "at least 50 posts", "rotord_webhook_posts_total"),
    ],
)
def test_many_refused_posts_are_one_alert_that_names_the_gravest_cause(counts, text, remedy):
    (alert,) = refusals(**counts)

    assert (alert.what, alert.subject, alert.severity) == (POSTS_REFUSED, "mg", Severity.WARNING)
    assert text in alert.text
    assert remedy in alert.remedy


def test_each_provider_has_an_alert_of_its_own():
    hold, _ = assess(Seen([], 0, [RefusedSeen("a", "refused", 20), RefusedSeen("b", "refused", 1), RefusedSeen("c", "stale", 40)]))

    assert [alert.subject for alert in hold] == ["a", "c"]
