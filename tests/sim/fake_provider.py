"""A provider in virtual time, and the receiver behind it, whose log is the judge.

What becomes of an attempt follows from its id and the seed alone, so that nothing depends on who asks first. What has left the node is
seen by the receiver whatever becomes of the node: a killed sender's message arrives, a lost answer's too.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rotord.core.model import Blame, Outcome, Reply
from rotord.providers.base import ProviderStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotord.providers.base import Envelope

TIMEOUT_S = 60.0
PROBE_S = 10.0
_ACCEPTED = Reply(Outcome.ACCEPTED, None, "250", "kept")
_DOWN = Reply(Outcome.NOT_SENT, Blame.NETWORK, "", "connection refused")
_GREYLISTED = Reply(Outcome.DEFERRED, Blame.RECIPIENT, "450 4.2.0", "greylisted, try again later")
_BUSY = Reply(Outcome.DEFERRED, Blame.PROVIDER, "451 4.3.0", "try again later")
_REJECTED = Reply(Outcome.REJECTED, Blame.RECIPIENT, "550 5.1.1", "no such user")
_LOST = Reply(Outcome.UNCERTAIN, Blame.NETWORK, "", "the answer was lost")


class Seen(NamedTuple):
    """A message that the receiver has, and when it came to have it."""

    at: float
    provider: str
    attempt_id: int
    outbox_id: int
    address: str


@dataclass(frozen=True, slots=True)
class Fate:
    """`arrives_s` after the body left the provider has the request, `answers_s` after it the node has `reply`. `kept`: it is delivered."""

    connect_s: float
    arrives_s: float
    answers_s: float
    kept: bool
    reply: Reply


class Receiver:
    """The far side of one provider: one for all nodes. `slow` is the part of answers that take seconds."""

    def __init__(self, name: str, seed: int, clock: Callable[[], float], slow: float = 0.05) -> None:
        self.name = name
        self.seen: list[Seen] = []
        self.requests: list[float] = []
        self.taken_at: dict[int, float] = {}
        self.looked_up = 0
        self.told_of: set[int] = set()
        self.is_up = True
        self.clock = clock
        self._seed = seed
        self._slow = slow

    def fate(self, attempt_id: int) -> Fate:
        draw = random.Random(f"{self._seed}/{self.name}/{attempt_id}")
        connect_s = draw.uniform(0.001, 0.05)
        answers_s = draw.uniform(2.0, 30.0) if draw.random() < self._slow else draw.uniform(0.02, 0.6)
        chance = draw.random()
        if chance < 0.01:  # it hangs until its time is over; the provider may have the message, at any moment
            left = TIMEOUT_S - connect_s
            return Fate(connect_s, draw.uniform(0.0, left), left, draw.random() < 0.5, _LOST)
        kinds = [(0.02, kept, _LOST) for kept in (True, False)] + [
            (0.03, False, _GREYLISTED),
            (0.03, False, _BUSY),
            (0.02, False, _REJECTED),
        ]
        chance -= 0.01
        for share, kept, reply in kinds:
            if chance < share:
                return Fate(connect_s, draw.uniform(0.0, answers_s), answers_s, kept, reply)
            chance -= share
        return Fate(connect_s, draw.uniform(0.0, answers_s), answers_s, kept=True, reply=_ACCEPTED)

    def arrive(self, attempt_id: int, outbox_id: int, address: str, *, kept: bool) -> None:
        now = self.clock()
        self.requests.append(now)
        if kept:
            self.taken_at[attempt_id] = now
            self.seen.append(Seen(now, self.name, attempt_id, outbox_id, address))


class SimProvider:
    """`rotord.providers.base.Provider` of one process. `moment` is told what happens, and raises when the process is dead."""

    kind = "sandbox"
    writes_mail = False
    attempt_timeout_s = TIMEOUT_S

    def __init__(self, receiver: Receiver, capacity: int, moment: Callable[[str], None]) -> None:
        self.name = receiver.name
        self.receiver = receiver
        self.moment = moment
        self._capacity = capacity
        self._in_flight = 0
        self._up = True
        self._went_down = asyncio.Event()
        self._wake: Callable[[], None] = lambda: None

    def ready(self) -> int:
        return self._capacity - self._in_flight if self._up else 0

    def want(self, slots: int) -> None:
        """Nothing has to be opened."""

    def on_ready(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def take(self) -> SimSlot | None:
        if self.ready() <= 0:
            return None
        self._in_flight += 1
        return SimSlot(self)

    def status(self) -> ProviderStatus:
        return ProviderStatus(self._up, self.ready(), self._in_flight, self._capacity)

    def freed(self) -> None:
        self._in_flight -= 1
        self._wake()

    def went_down(self) -> None:
        self._up = False
        self._went_down.set()

    async def run(self) -> None:
        while True:
            await self._went_down.wait()
            self._went_down.clear()
            while not self.receiver.is_up:  # noqa: ASYNC110 - a probe, as over a network
                await asyncio.sleep(PROBE_S)
            self._up = True
            self._wake()

    async def close(self) -> None:
        """Nothing is open."""


class SimSlot:
    """One place."""

    def __init__(self, provider: SimProvider) -> None:
        self._provider = provider
        self._envelope: Envelope | None = None
        self._body_left = False

    @property
    def body_left(self) -> bool:
        return self._body_left

    def prepare(self, envelope: Envelope) -> None:
        self._envelope = envelope

    def give_back(self) -> None:
        self._provider.freed()

    async def send(self, leaving: Callable[[], None]) -> Reply:
        envelope = self._envelope
        assert envelope is not None
        loop, provider = asyncio.get_running_loop(), self._provider
        started = loop.time()
        fate = provider.receiver.fate(envelope.attempt_id)
        try:
            provider.moment("connect")
            await asyncio.sleep(fate.connect_s)
            provider.moment("send")
            left = TIMEOUT_S - (loop.time() - started)  # less than was drawn when the node was frozen meanwhile
            if not provider.receiver.is_up or left <= 0:
                provider.went_down()
                return _DOWN
            leaving()
            self._body_left = True
            loop.call_later(
                min(fate.arrives_s, left),
                _arrive,
                provider.receiver,
                envelope.attempt_id,
                envelope.message.id,
                envelope.sender.email,
                fate.kept,
            )
            await asyncio.sleep(min(fate.answers_s, left))
            return fate.reply
        finally:
            provider.freed()


def _arrive(receiver: Receiver, attempt_id: int, outbox_id: int, address: str, kept: bool) -> None:
    receiver.arrive(attempt_id, outbox_id, address, kept=kept)
