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
POSTS_REFUSED: Final = "posts_refused"
#: those `assess` decides on; others are raised by who sees them
ASSESSED: Final = (PROVIDER_DOWN, PROVIDER_FAILING, PLAN_USED, UNCERTAIN_GROWING, POSTS_REFUSED)
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


#: what posts were refused is looked at for so long
REFUSED_WITHIN_S: Final = 600.0
#: fewer are a scanner's, or a provider's own repetitions after a key was changed here
REFUSED_MANY: Final = 20
#: nobody without the key can make one, so few are enough
FOREIGN_MANY: Final = 3
FOREIGN: Final = "foreign"
#: by the outcome of a post (web/webhooks.py): what it says, what to do
_REFUSALS: Final = {
    FOREIGN: (
        "events of messages that went to another provider",
        "one account's posts go to another's webhook, or whoever has its key invents events: a webhook and a key for each account",
    ),
    "forged": ("another body under a used signature", "somebody has seen its posts and forges others: change its key, then webhook_key"),
    "unverified": (
        "not signed with our key, as is every post of it",
        "webhook_key is not its key, so its events are lost in some hours: copy the key, see rotord check",
    ),
    "refused": ("not signed with its key", "nothing is lost: somebody else posts there, or the key was changed: see rotord check"),
    "stale": ("signed long ago", "an old post is repeated by somebody, or this machine's clock is wrong"),
}


class RefusedSeen(NamedTuple):
    """Posts of a provider, or in its name, that were refused lately."""

    provider: str
    reason: str
    posts: int


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
    refused: Sequence[RefusedSeen] = ()


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
    return Assessment(hold + _refusals(seen.refused), unknown)


def _refusals(refused: Sequence[RefusedSeen]) -> list[Alert]:
    """One alert a provider, with the gravest of its reasons as the one to act on."""
    found = []
    for provider in dict.fromkeys(one.provider for one in refused):
        counts = {one.reason: one.posts for one in refused if one.provider == provider}
        foreign, others = counts.pop(FOREIGN, 0), sum(counts.values())
        if foreign < FOREIGN_MANY and others < REFUSED_MANY:
            continue
        reasons = [reason for reason in _REFUSALS if reason in counts or (reason == FOREIGN and foreign >= FOREIGN_MANY)]
        words = "; ".join(_REFUSALS[reason][0] for reason in reasons)
        text = f"at least {_floor(foreign + others)} posts in its name were not believed within ten minutes: {words}"
        remedy = _REFUSALS[reasons[0]][1] if reasons else "rotord_webhook_posts_total says what comes"
        found.append(Alert(POSTS_REFUSED, provider, Severity.WARNING, text, remedy))
    return found


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
