"""Lanes, what may be said of one, and the rules of those whose messages may leave from one address only.

A sender pin is a person's: it waits for its address however long, and fails when that cannot send for the client any more. A thread waits a
while, then moves to another address of the same domain. A retry (greylisting wants the same sender again) does not wait at all.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from rotord.core.model import Health, Kind, Status
from rotord.core.senders import Gate, Wait, known_after

if TYPE_CHECKING:
    from rotord.core.senders import AddressState, DomainState


class Lane(NamedTuple):
    """What the claim asks for: messages that meet the same gates. `pin_kind`: '' rotation, sender, thread or retry."""

    client: str
    stream: str
    kind: Kind
    campaign: str = ""
    pin: str = ""
    pin_kind: str = ""


class Open(NamedTuple):
    """Up to `places` messages of a lane may begin now (`choose` may still find less: it looks at addresses)."""

    places: int


class Move(NamedTuple):
    """A lane's pinned address is no more; its messages go on from `pin` ('' = rotation)."""

    pin: str


class Fail(NamedTuple):
    """A lane's messages can never be sent, and why."""

    reason: str


def ask(
    lane: Lane, address: AddressState | None, domain: DomainState | None, now: float, thread_wait_s: float
) -> Open | Wait | Move | Fail:
    """Say whether messages of a pinned lane could begin now. `domain` is that of the pin, if it is in the fleet."""
    if address is None or not _owns(lane, address) or _is_disabled(address) or _rests_too_long(lane, address, now, thread_wait_s):
        return _succession(lane, address, domain, now)
    until = max(address.open_at(now, lane.kind), address.domain.open_at(now, lane.kind))
    if until > now:
        return Wait(Gate.STICKY, until, "address", lane.pin)
    gates = address.domain.route.open_gates(now)
    if not gates:
        return Wait(Gate.SLOTS, known_after(address.domain.route.opens_at(now), now), "domain", address.domain.value.name)
    room = min(state.cap.room(now, lane.kind) for state in (address, address.domain, address.domain.client))
    return Open(int(min(sum(gate.slots for gate in gates), room)))


def _rests_too_long(lane: Lane, address: AddressState, now: float, thread_wait_s: float) -> bool:
    if lane.pin_kind == "sender":
        return False
    patience = thread_wait_s if lane.pin_kind == "thread" else 0.0
    return any(
        value.health is Health.COOLING and (inf if value.health_until is None else value.health_until) - now > patience
        for value in (address.value, address.domain.value)
    )


def _succession(lane: Lane, address: AddressState | None, domain: DomainState | None, now: float) -> Move | Fail:
    if lane.pin_kind == "retry":
        return Move("")
    if lane.pin_kind == "sender":
        if address is not None and _owns(lane, address):
            return Fail(f"sender {lane.pin} is disabled")
        return Fail(f"sender {lane.pin} is not an address of {lane.client}/{lane.stream}")
    heirs = [] if domain is None else [heir for heir in domain.addresses.values() if _owns(lane, heir) and _is_able(heir)]
    if not heirs:
        return Fail(f"the thread's address {lane.pin} is gone and no other address of its domain can take over")
    # The one with the most quota left keeps the pool even, and every message of the thread finds the same one.
    return Move(min(heirs, key=lambda heir: (heir.cap.use(now)[1] / heir.weight, heir.value.email)).value.email)


def _owns(lane: Lane, address: AddressState) -> bool:
    return address.domain.value.client == lane.client and address.domain.value.stream == lane.stream


def _is_disabled(address: AddressState) -> bool:
    values = (address.value, address.domain.value)
    return any(value.status is Status.DISABLED or value.health is Health.DISABLED for value in values)


def _is_able(address: AddressState) -> bool:
    values = (address.value, address.domain.value)
    return all(value.status is Status.ACTIVE and value.health not in {Health.DISABLED, Health.COOLING} for value in values)
