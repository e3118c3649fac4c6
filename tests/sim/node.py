"""One node: the daemon's tree of tasks (`rotord.daemon.run`) without its sockets, made of the real engine.

A kill cuts a process off first: nothing that it does after that, while its tasks unwind, reaches the database or a provider; what it had
already sent arrives all the same. Steps of a node's wall clock are not played: the engine reads none (it is given the loop's monotonic
clock, and the database's by each won lease).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

from rotord.core.settling import RetryPolicy
from rotord.engine.dispatcher import EngineConfig
from rotord.engine.leadership import Leadership, Lease, LeaseConfig
from rotord.engine.preparation import Preparation
from rotord.engine.term import TermConfig, Terms

from .fake_look_up import SimLookUp
from .fake_provider import SimProvider
from .memory_store import MemoryStore, Trip
from .simloop import Freezer

if TYPE_CHECKING:
    from .world import World

PREPARATION = Preparation(unsubscribe_url=lambda outbox_id, _host: f"https://u.example/{outbox_id}", signers={})
# Polls stand behind notifications, one in ten of which is lost here; less often than in life, for fewer turns a day.
ENGINE = EngineConfig(
    concurrency=50,
    poll_s=10.0,
    fleet_s=10.0,
    expire_s=20.0,
    read_back_s=5.0,
    publish_s=60.0,
    analyze_s=600.0,
    ask_again_s=5.0,
    ask_known_again_s=30.0,
)
LEASE = LeaseConfig(ttl_s=30.0, renew_s=8.0, query_s=1.5, margin_s=6.0)
DRAIN_S = 18.0


class Plant:
    """What a process is made of: no bug is planted. tests/sim/planted.py has the others."""

    store_type: type[MemoryStore] = MemoryStore
    terms_type: type[Terms] = Terms


class Process:
    """One life of a node. It is its store's wire, and its providers' teller of moments."""

    def __init__(self, world: World, node: int, plant: Plant) -> None:
        loop = asyncio.get_running_loop()
        self.world = world
        self.node = node
        self.dead = False
        self.freezer = Freezer()
        self.stop = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.store = plant.store_type(world.tables, self)
        providers = {
            limits.name: SimProvider(world.receivers[limits.name], limits.max_in_flight, self.moment) for limits in world.scenario.limits
        }
        # One of them is an API; the other, like a relay, cannot be asked.
        api = SimLookUp(world.receivers[world.scenario.limits[0].name], self.moment)
        config = TermConfig(world.scenario.limits, ENGINE, RetryPolicy(60, 3600, 14_400), DRAIN_S, look_ups={api.name: api})
        self.providers = providers
        self.terms = plant.terms_type(self.store, providers, PREPARATION, config, loop.time)
        self.leadership = Leadership(self.store, LEASE, f"node-{node}", loop.time)
        self.leadership.holder = UUID(int=world.draw.getrandbits(128))

    def moment(self, name: str) -> None:
        if self.dead:
            raise asyncio.CancelledError
        self.world.moment(name, self.node)

    def trip(self, name: str) -> Trip:
        self.moment(name)
        return self.world.trip(name, self.node)

    def notified(self, channel: str) -> None:
        if not self.dead:
            {"rotord_outbox": self.terms.rows, "rotord_fleet": self.terms.fleet, "rotord_lease": self.leadership.wake.set}[channel]()

    async def run(self) -> None:
        async def lead(lease: Lease) -> None:
            await self.terms.run(lease, self.stop)

        async with asyncio.TaskGroup() as services:
            tasks = [services.create_task(provider.run(), name=f"provider-{name}") for name, provider in self.providers.items()]
            await self.leadership.run(self.stop, lead)
            for task in tasks:
                task.cancel()
