"""What `rotord check` says of look-ups: whether each API lets itself be asked after a message, tried with one that does not exist."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, assert_never

from rotord.core.authentication import Level, Verdict
from rotord.core.lookups import Found, Missing, Sought, Trouble, Unclear
from rotord.daemon import LOOK_UPS, build_look_ups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotord.cli.check_report import Report
    from rotord.core.lookups import Finding
    from rotord.db.check import Domain
    from rotord.settings import Settings

#: the time in which the message that does not exist was sent
_AGO_S = 3600.0


async def check_look_ups(report: Report, settings: Settings, domains: Sequence[Domain]) -> None:
    """Ask every API once, all at the same time, about a domain that goes by it; without one there is nothing to ask about."""
    look_ups = build_look_ups(settings)
    first = {name: domain.name for domain in reversed(domains) for name in domain.providers}
    try:
        async with asyncio.TaskGroup() as group:
            asked = {
                name: group.create_task(look_up.ask(_nobody(first[name])), name=f"look-up {name}")
                for name, look_up in look_ups.items()
                if name in first
            }
    finally:
        for look_up in look_ups.values():
            await look_up.close()
    for name, config in settings.providers.items():
        if name in asked:
            report.add("look-up", name, _verdict(asked[name].result()))
        elif config.kind in LOOK_UPS and name not in look_ups:
            says = "never asked (look_ups_per_minute is 0): a message whose answer was lost waits for an event or a person"
            report.add("look-up", name, Verdict(Level.OK, says))


def _nobody(domain: str) -> Sought:
    now = time.time()
    return Sought(0, 0, f"<rotord-check@{domain}>", f"rotord-check@{domain}", f"rotord-check@{domain}", now - _AGO_S, now)


def _verdict(finding: Finding) -> Verdict:
    match finding:
        case Found() | Missing():
            return Verdict(Level.OK, "a message whose answer was lost can be looked up")
        case Unclear(reason):
            return Verdict(Level.WARN, f"its answer says nothing: {reason}", "messages whose answer was lost may need a person")
        case Trouble(reason, _, lasting):
            remedy = "until then messages whose answer was lost wait for an event or a person" if lasting else "try again"
            return Verdict(Level.WARN, reason, remedy)
        case _:
            assert_never(finding)
