"""A day of rotord in one process: nodes that run the real engine, one database, two providers, and what befalls them."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import structlog

from rotord.core.model import Health, Status

from .fake_provider import Receiver
from .memory_store import Trip
from .memory_tables import Tables
from .node import Plant, Process
from .simloop import FREEZER, SimLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from .scenario import Event, Scenario

# What rotord.daemon and systemd give a stop before it becomes a kill.
OVERTIME_S = 30.0
# Without trouble, after the last event: everything that can go must go within it.
QUIET_S = 1200.0
STALL_S = 180.0
WATCH_S = 60.0
# An armed event that waits for its moment longer than this happens anyway.
PATIENCE_S = 1800.0
_IDLE = {"fleet_changes", "expire", "ripen", "stranded", "lanes"}


@dataclass(slots=True)
class Outage:
    """What is wrong between a node (or "all") and the database."""

    mode: str
    node: int | str


@dataclass
class Counts:
    kills: int = 0
    stops: int = 0
    freezes: int = 0
    outages: int = 0
    lost_answers: int = 0
    found: int = 0


@dataclass(slots=True)
class Armed:
    event: Event
    until: float


class World:
    """Runs a scenario; afterwards `tables`, `receivers` and `history` tell what happened."""

    def __init__(self, scenario: Scenario, plant: Plant | None = None) -> None:
        self.scenario = scenario
        self.plant = plant or Plant()
        self.draw = random.Random(f"world/{scenario.seed}")
        self.loop = asyncio.get_running_loop()
        self.tables = Tables(self.now)
        self.tables.notify = self._notify
        self.receivers = {limits.name: Receiver(limits.name, scenario.seed, self.now, scenario.slow) for limits in scenario.limits}
        self.history: list[tuple[float, str]] = []
        self.counts = Counts()
        self.processes: list[Process | None] = [None] * scenario.nodes
        self.stalled: list[int] = []
        self.left_behind: set[int] = set()
        self.crashes: list[str] = []
        self._outages: list[Outage] = []
        self._losing: dict[int, int] = {}
        self._armed: list[Armed] = []
        self._over = False

    def now(self) -> float:
        return self.scenario.starts_at + self.loop.time()

    def note(self, what: str) -> None:
        self.history.append((self.now(), what))

    async def run(self) -> None:
        self.tables.put_fleet(self.scenario.clients, self.scenario.domains, self.scenario.addresses)
        for campaign in self.scenario.campaigns:
            self.tables.put_campaign(campaign)
        async with asyncio.TaskGroup() as group:
            self._group = group
            for node in range(self.scenario.nodes):
                self._start(node)
            watch = group.create_task(self._watch(), name="watch")
            for event in self.scenario.events:
                await asyncio.sleep(max(0.0, event.at - self.loop.time()))
                self._arm(event)
            await asyncio.sleep(max(0.0, self.scenario.hours * 3600.0 - self.loop.time()))
            await self._calm_down()
            self._over = True
            watch.cancel()
            for node in range(self.scenario.nodes):
                self._stop_process(node, None)

    async def _calm_down(self) -> None:
        """End all trouble, then see whether anything stands still that could go."""
        self._armed.clear()
        self._outages.clear()
        self._losing.clear()
        for receiver in self.receivers.values():
            receiver.is_up = True
        await asyncio.sleep(QUIET_S)
        ready, since = self._could_go(), self.now()
        await asyncio.sleep(STALL_S)
        busy = {attempt.client for attempt in self.tables.attempts.values() if attempt.began_at > since}
        self.stalled = sorted(outbox_id for outbox_id in ready & self._could_go() if self.tables.queue[outbox_id].client not in busy)

    async def _watch(self) -> None:
        """Nothing stays on the wire after its deadline while the term that began it goes on."""
        suspects: set[int] = set()
        while True:
            await asyncio.sleep(WATCH_S)
            late = {row.id for row in self.tables.queue.values() if row.state == "sending" and self._is_late(row.attempt)}
            self.left_behind |= late & suspects
            suspects = late

    def _is_late(self, attempt_id: int | None) -> bool:
        attempt, lease, now = self.tables.attempts[attempt_id or 0], self.tables.lease, self.now()
        leads = lease is not None and lease.epoch == attempt.epoch and lease.expires_at > now
        return leads and attempt.deadline_at + WATCH_S < now and not self._outages

    def _could_go(self) -> set[int]:
        from .judge import could_go  # noqa: PLC0415 - the judge reads the world

        return could_go(self)

    # -- processes ---------------------------------------------------------------------------------------------------------------

    def _start(self, node: int) -> None:
        if self._over or self.processes[node] is not None:
            return
        process = self.processes[node] = Process(self, node, self.plant)
        self.note(f"node {node} starts")
        token = FREEZER.set(process.freezer if self.scenario.nodes > 1 else None)
        process.task = self._group.create_task(self._live(process), name=f"node-{node}")
        FREEZER.reset(token)

    async def _live(self, process: Process) -> None:
        try:
            await process.run()
        except asyncio.CancelledError:
            if not process.dead:
                raise
        except BaseException as error:  # noqa: BLE001 - the judge reads it; systemd would start it anew
            self.crashes.append(f"{self.now():.3f} node {process.node}: {error!r} {_causes(error)}")
            self.note(f"node {process.node} crashes: {error!r}")
        process.dead = True
        if self.processes[process.node] is process:
            self.processes[process.node] = None
            self.loop.call_later(1.0, self._start, process.node)

    def _kill(self, node: int, back_in: float) -> None:
        process = self.processes[node]
        if process is None:
            return
        self.counts.kills += 1
        self.note(f"node {node} is killed")
        self.processes[node] = None
        process.dead = True
        process.freezer.thaw()
        assert process.task is not None
        process.task.cancel()
        self.loop.call_later(back_in, self._start, node)

    def _stop_process(self, node: int, back_in: float | None) -> None:
        process = self.processes[node]
        if process is None:
            return
        self.counts.stops += 1
        self.note(f"node {node} is told to stop")
        process.stop.set()
        self.loop.call_later(OVERTIME_S, self._overtime, process, back_in or 1.0)

    def _overtime(self, process: Process, back_in: float) -> None:
        if self.processes[process.node] is process:
            self._kill(process.node, back_in)

    # -- events ------------------------------------------------------------------------------------------------------------------

    def _arm(self, event: Event) -> None:
        if not event.moment:
            self._happen(event)
            return
        armed = Armed(event, self.loop.time() + PATIENCE_S)
        self._armed.append(armed)
        self.loop.call_at(armed.until, self._at_last, armed)

    def _at_last(self, armed: Armed) -> None:
        if armed in self._armed:
            self._armed.remove(armed)
            self._happen(armed.event)

    def moment(self, name: str, node: int) -> None:
        """A process does something; what was armed for it happens at once, or a moment later."""
        for armed in [
            armed for armed in self._armed if armed.event.moment == name and armed.event.arguments.get("node") in {None, "all", node}
        ]:
            self._armed.remove(armed)
            if armed.event.what == "lose_answers":
                self._happen(armed.event, node)
            else:
                delay = self.draw.choice([0.0, self.draw.uniform(0, 0.02), self.draw.uniform(0, 2.0)])
                self.loop.call_later(delay, self._happen, armed.event, node)

    def _happen(self, event: Event, node: int | None = None) -> None:
        arguments = dict(event.arguments)
        if "node" in arguments and arguments["node"] is None:
            arguments["node"] = self._leader() if node is None else node
        getattr(self, f"_on_{event.what}")(**arguments)

    def _leader(self) -> int:
        leaders = [process.node for process in self.processes if process is not None and process.leadership.is_leader]
        return leaders[0] if leaders else 0

    def _on_insert(self, *, send_in: float | None = None, expires_in: float | None = None, **columns: Any) -> None:
        now = self.now()
        if send_in is not None:
            columns["send_after"] = now + send_in
        if expires_in is not None:
            columns["expires_at"] = now + expires_in
        self.tables.insert(**columns)

    def _on_suppress(self, recipient: str, client: str | None, reason: str) -> None:
        self.tables.suppress(recipient, client, reason)

    def _on_cancel(self, pick: float) -> None:
        if self.tables.queue:
            ids = list(self.tables.queue)
            self.tables.cancel(ids[int(pick * len(ids))])

    def _on_lock(self, pick: float, for_s: float) -> None:
        if self.tables.queue:
            ids = list(self.tables.queue)
            locked = ids[int(pick * len(ids))]
            self.tables.locked.add(locked)
            self.loop.call_later(for_s, self.tables.locked.discard, locked)

    def _on_pause(self, kind: str, name: str, *, over: bool = False) -> None:
        self.note(f"{kind} {name} is {'resumed' if over else 'paused'}")
        self.tables.pause(kind, name, paused=not over)

    def _on_address(self, email: str, status: str, *, over: bool = False) -> None:
        original = next(address for address in self.scenario.addresses if address.email == email)
        self.note(f"address {email}: {'as it was' if over else status}")
        if over:
            self.tables.put_fleet(addresses=[original])
        elif status == "gone":
            if email in self.tables.addresses:
                self.tables.remove_address(email)
        elif status == "cooling":
            self.tables.put_fleet(addresses=[replace(original, health=Health.COOLING, health_until=self.now() + 3600)])
        else:
            self.tables.put_fleet(addresses=[replace(original, status=Status(status))])

    def _on_kill(self, node: int, back_in: float) -> None:
        self._kill(node, back_in)

    def _on_terminate(self, node: int, back_in: float) -> None:
        self._stop_process(node, back_in)

    def _on_freeze(self, node: int, for_s: float) -> None:
        process = self.processes[node]
        if process is not None and not process.freezer.frozen:
            self.counts.freezes += 1
            self.note(f"node {node} is frozen for {for_s:.1f} s")
            process.freezer.freeze()
            self.loop.call_later(for_s, self._thaw, process)

    def _thaw(self, process: Process) -> None:
        self.note(f"node {process.node} goes on")
        process.freezer.thaw()

    def _on_relay(self, name: str, *, up: bool) -> None:
        self.note(f"{name} is {'up' if up else 'down'}")
        self.receivers[name].is_up = up

    def _on_lose_answers(self, node: int, count: int) -> None:
        self._losing[node] = count

    def _on_outage(self, mode: str, node: int | str, for_s: float) -> None:
        self.counts.outages += 1
        self.note(f"database {mode} for {'every node' if node == 'all' else f'node {node}'}, {for_s:.1f} s")
        outage = Outage(mode, node)
        self._outages.append(outage)
        self.loop.call_later(for_s, self._outage_over, outage)

    def _outage_over(self, outage: Outage) -> None:
        self.note(f"database {outage.mode}: over")
        if outage in self._outages:
            self._outages.remove(outage)

    # -- the network -------------------------------------------------------------------------------------------------------------

    def trip(self, name: str, node: int) -> Trip:
        if self._losing.get(node, 0) > 0 and name not in _IDLE:
            self._losing[node] -= 1
            self.counts.lost_answers += 1
            self.note(f"node {node}: the answer to {name} is lost")
            return Trip(self.draw.uniform(0.001, 0.1), None, cut_s=self.draw.uniform(0.0, 0.1))
        for outage in self._outages:
            if outage.node in {"all", node}:
                return self._broken(outage.mode)
        if name in _IDLE and self.draw.random() < 0.9:
            return Trip()
        return Trip(self.draw.uniform(0.0005, 0.004), self.draw.uniform(0.0005, 0.004))

    def _broken(self, mode: str) -> Trip:
        draw = self.draw
        match mode:
            case "refused":
                raise ConnectionRefusedError(mode)
            case "silent":
                return Trip(None, None)
            case "lossy":
                if draw.random() < 0.4:
                    raise ConnectionResetError(mode)
                return Trip(draw.uniform(0.001, 0.1), None if draw.random() < 0.4 else 0.01, cut_s=None)
            case "late":
                return Trip(draw.uniform(0.0, 7.0), draw.uniform(0.0, 4.0))
        raise AssertionError(mode)

    def _notify(self, channel: str) -> None:
        for process in self.processes:
            if process is not None and self.draw.random() < 0.9:
                self.loop.call_later(0.002, process.notified, channel)


@dataclass
class Result:
    """What a run came to. `violations` are sentences, each with its story."""

    seed: int
    messages: int
    counts: Counts
    uncertain: int
    digest: str
    violations: list[str] = field(default_factory=list)


def simulate(scenario: Scenario, plant: Plant | None = None, judge: Callable[[World], Result] | None = None) -> Result:
    """Run a scenario in a loop of its own and judge it."""
    from .judge import judge as judging  # noqa: PLC0415 - the judge reads the world

    async def main() -> World:
        world = World(scenario, plant)
        await world.run()
        return world

    random.seed(scenario.seed)  # tenacity's jitter comes from there
    configured = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        with asyncio.Runner(loop_factory=SimLoop) as runner:
            return (judge or judging)(runner.run(main()))
    finally:
        structlog.configure(**configured)


def _causes(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return " ".join(f"[{inner!r} {_causes(inner)}]" for inner in error.exceptions)
    trace = error.__traceback__
    where = ""
    while trace is not None:
        where = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return where
