"""Watches what a person should know of, and tells the sinks. Beside the engine, never in its way: it shares the database, nothing else.

Every node runs one; only the leader's acts. A message that was sent and not written down as such, because of a crash in between, is
sent again (at least once). While a sink fails, nothing piles up: it hears afterwards how things stand.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import structlog

from rotord.core.alerting import Alert, Severity, change, told_by, words
from rotord.core.conditions import ASSESSED, DATABASE_AWAY, SINK_FAILING, assess
from rotord.db import alerts, watch
from rotord.db.connect import transient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rotord.alerts.base import Sink, Told
    from rotord.db.executor import Executor

_log = structlog.get_logger(__name__)
WATCH_S: Final = 2.0
#: an absence of the database that is worth a message
AWAY_S: Final = 5.0
#: a report of it that has found no leader for so long is another node's to make
REPORT_WITHIN_S: Final = 60.0
FORGET_S: Final = 3600.0
FIRST_RETRY_S: Final = 5.0
LONGEST_RETRY_S: Final = 600.0
#: what only a person can mend is tried again this often
FINAL_RETRY_S: Final = 3600.0
#: so many failures in a row are told to the other sinks
FAILING_AFTER: Final = 3


class Alerter:
    """`run` until cancelled."""

    def __init__(self, db: Executor, sinks: Sequence[Sink], is_leader: Callable[[], bool]) -> None:
        self._db = db
        self._sinks = sinks
        self._is_leader = is_leader
        self._clock = time.monotonic
        self._away_since: float | None = None
        self._report: tuple[float, float] | None = None  # how long it was away, when it came back

    async def run(self) -> None:
        """Watch, and tell every sink, each at its own pace."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="alerts-watch")
            for sink in self._sinks:
                group.create_task(self._tell(sink), name=f"alerts-{sink.name}")

    async def _watch(self) -> None:
        forget_at = self._clock() + FORGET_S
        while True:
            try:
                seen = await watch.read(self._db)
                self._came_back()
                if self._is_leader():
                    await self._report_absence()
                    hold, unknown = assess(seen)
                    await alerts.keep(self._db, ASSESSED, hold, unknown)
                    if self._clock() >= forget_at:
                        forget_at += FORGET_S
                        await alerts.forget(self._db)
            except Exception as error:
                if not transient(error):
                    raise
                if self._away_since is None:
                    self._away_since = self._clock()
            await asyncio.sleep(WATCH_S)

    def _came_back(self) -> None:
        if self._away_since is not None:
            away_s, self._away_since = self._clock() - self._away_since, None
            if away_s >= AWAY_S:
                self._report = (away_s, self._clock())

    async def _report_absence(self) -> None:
        if self._report is None:
            return
        away_s, back_at = self._report
        if self._clock() - back_at < REPORT_WITHIN_S:
            text = f"the database could not be reached for about {away_s:.0f} s; nothing new began meanwhile"
            await alerts.raise_alert(self._db, Alert(DATABASE_AWAY, "database", Severity.WARNING, text, "see its own log"))
            await alerts.resolve(self._db, DATABASE_AWAY, "database", "it answers again")
        self._report = None

    async def _tell(self, sink: Sink) -> None:
        failures = 0
        while True:
            pause_s = sink.every_s
            try:
                if self._is_leader():
                    told = await self._tell_next(sink)
                    if told is not None:
                        failures = 0 if told.is_told or told.wait_s is not None else failures + 1
                        pause_s = max(pause_s, await self._note(sink, told, failures))
            except Exception as error:
                if not transient(error):
                    raise
            await asyncio.sleep(pause_s)

    async def _tell_next(self, sink: Sink) -> Told | None:
        """Tell the most urgent thing there is to tell; None when there is nothing."""
        for delivery in await alerts.deliveries(self._db, sink.name):
            standing = delivery.standing
            what = change(standing, delivery.told, delivery.at)
            if what is None:
                continue
            told = await sink.tell(words(what, standing, delivery.at))
            if told.is_told:
                await alerts.told(self._db, sink.name, standing.alert, told_by(what, standing, delivery.at))
                _log.info("alert_told", sink=sink.name, what=standing.alert.what, subject=standing.alert.subject, change=what.value)
            else:
                retry_s = _retry_s(told, delivery.attempts + 1)
                await alerts.failed(self._db, sink.name, standing.alert, retry_s, told.error)
                _log.warning("alert_not_told", sink=sink.name, what=standing.alert.what, error=told.error, retry_in_s=round(retry_s))
            return told
        return None

    async def _note(self, sink: Sink, told: Told, failures: int) -> float:
        """Let the others know of a sink that fails, or that it works again; gives how long to leave it alone."""
        if told.is_told:
            await alerts.resolve(self._db, SINK_FAILING, sink.name, "it takes messages again")
            return 0.0
        if told.is_final or failures >= FAILING_AFTER:
            text = f"alerts do not reach it: {told.error}"
            remedy = f"mend [alerts.{sink.name}] and see rotord check"
            await alerts.raise_alert(self._db, Alert(SINK_FAILING, sink.name, Severity.WARNING, text, remedy))
        return _retry_s(told, max(1, failures))


def _retry_s(told: Told, failures: int) -> float:
    if told.wait_s is not None:
        return told.wait_s
    if told.is_final:
        return FINAL_RETRY_S
    return min(FIRST_RETRY_S * 2.0 ** min(failures - 1, 20), LONGEST_RETRY_S)
