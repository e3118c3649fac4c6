"""What `rotord check` says of the sinks of alerts: each is asked whether it could be told, and nobody gets a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotord.core.authentication import Level, Verdict
from rotord.daemon import build_sinks

if TYPE_CHECKING:
    from rotord.cli.check_report import Report
    from rotord.settings import Settings


async def check_alerts(report: Report, settings: Settings) -> None:
    """Ask every sink that is configured."""
    for sink in build_sinks(settings):
        if sink.name == "telegram" and not settings.alerts.telegram.chat_id:
            report.add("alerts", sink.name, Verdict(Level.FAIL, "it has a token but no chat_id", "set alerts.telegram.chat_id"))
            continue
        told = await sink.check()
        if told.is_told:
            report.add("alerts", sink.name, Verdict(Level.OK, "it would take a message (none was sent)"))
        else:
            level = Level.FAIL if told.is_final else Level.WARN
            report.add("alerts", sink.name, Verdict(level, f"it would not take a message: {told.error}", f"check [alerts.{sink.name}]"))
