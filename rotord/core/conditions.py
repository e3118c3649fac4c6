"""What the leader watches: from how providers, plans and the queue stand, the alerts that hold now. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rotord.core.alerting import Alert, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

PROVIDER_DOWN: Final = "provider_down"
PROVIDER_FAILING: Final = "provider_failing"
PLAN_USED: Final = "plan_used"
UNCERTAIN_GROWING: Final = "uncertain_growing"
#: those `assess` decides on; others are raised by who sees them
ASSESSED: Final = (PROVIDER_DOWN, PROVIDER_FAILING, PLAN_USED, UNCERTAIN_GROWING)
DATABASE_AWAY: Final = "database_away"
SINK_FAILING: Final = "alert_sink_failing"

#: a relay's restart is no news
DOWN_AFTER_S: Final = 5.0
#: a report that is older tells of a leader that is no more
STALE_S: Final = 30.0
#: of the plan: from how much on it is told, and how soon a person should look
PLAN_STEPS: Final = ((1.0, Severity.CRITICAL), (0.9, Severity.WARNING), (0.8, Severity.INFO))
#: messages that became uncertain within ten minutes: fewer are what networks do
UNCERTAIN_MANY: Final = 10
UNCERTAIN_VERY_MANY: Final = 200


class ProviderSeen(NamedTuple):
    """A provider as the leader reported it. `failing`: (errors, answers) that opened its breaker."""

    name: str
    up: bool | None
    reason: str
    up_or_down_for_s: float
    reported_s_ago: float
    failing: tuple[int, int] | None = None
    month_used: int | None = None
    per_month: int | None = None


class Seen(NamedTuple):
    """Everything that is watched, at one moment. `became_uncertain`: within ten minutes, and still are."""

    providers: Sequence[ProviderSeen]
    became_uncertain: int


class Assessment(NamedTuple):
    """The alerts that hold, and those of which nothing is known now: they stay as they are."""

    hold: list[Alert]
    unknown: list[tuple[str, str]]


def assess(seen: Seen) -> Assessment:
    """Say which alerts hold."""
    hold, unknown = [], []
    usable = sum(provider.up is True and provider.failing is None for provider in seen.providers)
    urgency = Severity.WARNING if usable else Severity.CRITICAL
    beside = f"{usable} other{'' if usable == 1 else 's'} can carry mail" if usable else "no other can carry mail"
    for provider in seen.providers:
        name = provider.name
        is_stale = provider.reported_s_ago > STALE_S
        if is_stale or provider.up is None:
            unknown.append((PROVIDER_DOWN, name))
        elif not provider.up and provider.up_or_down_for_s >= DOWN_AFTER_S:
            text = f"nothing can be sent through it: {provider.reason or 'it does not answer'}; {beside}"
            hold.append(Alert(PROVIDER_DOWN, name, urgency, text, "see its status page and rotord check; it is tried again by itself"))
        if is_stale:
            unknown += [(PROVIDER_FAILING, name), (PLAN_USED, name)]
            continue
        if provider.failing is not None:
            errors, answers = provider.failing
            text = f"{errors} of its last {answers} answers were errors, so nothing but probes begins there; {beside}"
            hold.append(Alert(PROVIDER_FAILING, name, urgency, text, "three good probes in a row end it; rotord status shows the next one"))
        if provider.month_used is None:
            unknown.append((PLAN_USED, name))
        elif plan := _plan(provider, provider.month_used):
            hold.append(plan)
    if seen.became_uncertain >= UNCERTAIN_MANY:
        severity = Severity.CRITICAL if seen.became_uncertain >= UNCERTAIN_VERY_MANY else Severity.WARNING
        text = f"at least {_floor(seen.became_uncertain):,} messages lost their provider's answer within ten minutes and are uncertain"
        hold.append(
            Alert(UNCERTAIN_GROWING, "messages", severity, text, "rotord uncertain list shows them by provider; none is sent again")
        )
    return Assessment(hold, unknown)


def _plan(provider: ProviderSeen, used: int) -> Alert | None:
    if not provider.per_month:
        return None
    for share, severity in PLAN_STEPS:
        if used >= share * provider.per_month:
            text = f"at least {share:.0%} of this month's {provider.per_month:,} messages are used"
            if share >= 1:
                text = f"all of this month's {provider.per_month:,} messages are used: nothing more begins there until the 1st, 00:00 UTC"
            return Alert(PLAN_USED, provider.name, severity, text, f"raise the plan, then per_month of [providers.{provider.name}]")
    return None


def _floor(count: int) -> int:
    """Round down to 1, 2 or 5 times a power of ten: a text that changed with every message would be written as often."""
    step = int("1" + "0" * (len(str(count)) - 1))
    return step * next(factor for factor in (5, 2, 1) if factor * step <= count)
