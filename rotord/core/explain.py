"""Why a message waits: the gate that holds it, with the numbers, and when it opens. For people, so it may look at everything.

Asks the same pool that decides, rebuilt from the same ledger, so what it says is what the daemon does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import floor, inf
from typing import TYPE_CHECKING

from rotord.core.breaker import Breaker
from rotord.core.limits import DAY, HOUR
from rotord.core.model import Health, Kind, Status
from rotord.core.past import past_of
from rotord.core.pool import Fail, Lane, Move, Open, SenderPool
from rotord.core.rebuilding import rebuild
from rotord.core.senders import Gate, Wait, resting_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rotord.core.limits import RollingCap
    from rotord.core.model import Address, Campaign, Client, Domain
    from rotord.core.past import LedgerRow
    from rotord.core.routing import ProviderGate
    from rotord.core.senders import AddressState, DomainState, Pace

_WORDS: Mapping[Gate, str] = {
    Gate.HOUR: "at an hourly limit",
    Gate.DAY: "at a daily limit",
    Gate.PACING: "paced",
    Gate.PAUSED: "paused",
    Gate.DISABLED: "disabled",
    Gate.COOLING: "cooling",
    Gate.BREAKER: "behind a provider that fails",
    Gate.PROVIDER_DOWN: "behind a provider that is down",
    Gate.PROVIDER_LIMIT: "behind a provider's limit",
    Gate.SLOTS: "waiting for a slot",
    Gate.NO_ADDRESS: "without a provider",
}
# What a person's word on an address or a domain closes.
_STOPPED = {Status.PAUSED: Gate.PAUSED, Status.DISABLED: Gate.DISABLED}


@dataclass(frozen=True, slots=True)
class Finding:
    """A gate and its sentence. `until` is None when no clock opens it; `numbers` are the ones in the sentence."""

    gate: Gate
    scope: str
    name: str
    sentence: str
    until: float | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProviderNews:
    """What the leader last published of a provider: down with a reason, or up."""

    down: bool
    reason: str = ""
    next_try_at: float | None = None


def is_limited(pool: SenderPool, client: str) -> bool:
    """Say whether anything of this client has a limit, so that its ledger matters."""
    domains = [domain for domain in pool.domains.values() if domain.value.client == client]
    values: list[Client | Domain | Address | Campaign] = [pool.clients[client].value, *pool.gates.caps_of(client)]
    values += [domain.value for domain in domains]
    values += [address.value for domain in domains for address in domain.addresses.values()]
    return any(value.per_hour is not None or value.per_day is not None for value in values)


def restore(pool: SenderPool, rows: Iterable[LedgerRow], of_others: Iterable[tuple[str, bool, float, int]]) -> None:
    """Count the ledger as the leader does: what is on the wire is held, for its answer may come at any moment; the rest is used.

    `of_others`: provider, on the wire, counts at, how many; the requests of clients that are not asked about.
    """
    for provider, on_the_wire, counts_at, count in of_others:
        cap = pool.providers[provider].cap
        if on_the_wire:
            cap.hold(count)
        else:
            cap.restore(counts_at, count)
    finished = []
    for row in rows:
        if row.outcome is not None:
            finished.append(row)
        else:
            _hold(pool, row)
    rebuild(pool, past_of(finished))
    for gate in pool.providers.values():
        gate.breaker = Breaker()  # one client's answers are a part of what it goes by: what the leader says of it stands


def _hold(pool: SenderPool, row: LedgerRow) -> None:
    if (gate := pool.providers.get(row.provider)) is not None:
        gate.cap.hold()
    if row.campaign:
        pool.gates.count(row.client, row.campaign).hold()
    for state in (pool.addresses.get(row.address), pool.domains.get(row.domain), pool.clients.get(row.client)):
        if state is not None:
            state.cap.hold()
            if state.pace is not None:
                state.pace.take(row.began_at)


def explain(pool: SenderPool, lane: Lane, now: float, news: Mapping[str, ProviderNews]) -> Finding:
    """Say what holds a queued message of this lane at `now`; gate READY when nothing does."""
    of_client = explain_client(pool, lane, now)
    if of_client is not None:
        return of_client
    if lane.pin:
        return _pinned_finding(pool, lane, now, news)
    addresses = [
        address
        for domain in pool.domains.values()
        if domain.value.client == lane.client and domain.value.stream == lane.stream
        for address in domain.addresses.values()
    ]
    stream = f"{lane.client}/{lane.stream}"
    if not addresses:
        return Finding(Gate.NO_ADDRESS, "stream", stream, f"{stream} has no address: give it one (rotord fleet apply)")
    findings = [explain_address(address, lane.kind, now, news) for address in addresses]
    first = min(findings, key=lambda found: -inf if found.gate is Gate.READY else _when(found))
    if first.gate is Gate.READY:
        return Finding(
            Gate.READY, "stream", stream, f"nothing holds it: {_count(findings, Gate.READY)} of {len(findings)} addresses are free"
        )
    if len(findings) == 1:
        return first
    reasons = ", ".join(f"{count} {_WORDS[gate]}" for gate, count in Counter(found.gate for found in findings).most_common())
    return Finding(
        first.gate, first.scope, first.name, f"none of {stream}'s {len(findings)} addresses is free ({reasons}); next: {first.sentence}",
        first.until, first.numbers,
    )  # fmt: skip


def explain_address(address: AddressState, kind: Kind, now: float, news: Mapping[str, ProviderNews]) -> Finding:
    """Say what holds mail of `kind` from this address: itself, its domain, then its providers. Its client's gates are not looked at."""
    domain = address.domain
    reserve = domain.client.value.transactional_reserve if kind is Kind.BULK else 0.0
    own = _entity("address", address.value.email, address, kind, reserve, now)
    above = _entity("domain", domain.value.name, domain, kind, reserve, now)
    held = [found for found in (own, above) if found is not None]
    if held:
        return max(held, key=_when)
    return _route_finding(domain, now, news) or Finding(Gate.READY, "address", address.value.email, f"{address.value.email} may send now")


def explain_client(pool: SenderPool, lane: Lane, now: float) -> Finding | None:
    """Say what holds a lane before any address is looked at: everything, its client, stream or campaign paused; their limits."""
    wait = pool.gates.wait(lane, now)
    return None if wait is None else _client_finding(pool, lane, wait, now)


def _client_finding(pool: SenderPool, lane: Lane, wait: Wait, now: float) -> Finding:
    client = pool.clients.get(lane.client)
    match wait.gate:
        case Gate.HOUR if wait.scope == "campaign":
            cap = pool.gates.count(lane.client, lane.campaign)
            capped = _cap_finding("campaign", wait.name, cap, (cap.per_hour, cap.per_day), 0.0, now)
            return capped or Finding(Gate.READY, "campaign", wait.name, f"campaign {wait.name} has a place again this moment")
        case Gate.HOUR if client is not None:
            reserve = client.value.transactional_reserve if lane.kind is Kind.BULK else 0.0
            capped = _cap_finding("client", lane.client, client.cap, (client.value.per_hour, client.value.per_day), reserve, now)
            return capped or Finding(Gate.READY, "client", lane.client, f"client {lane.client} has a place again this moment")
        case Gate.WINDOW:
            sentence = wait.detail if wait.until == inf else f"the sending window of {wait.scope} {wait.name} is closed (it {wait.detail})"
        case Gate.PACING:
            sentence = f"client {lane.client} is paced: its mail is spread evenly over its sending window"
        case Gate.PAUSED:
            what = "everything" if wait.scope == "all" else f"{wait.scope} {wait.name}"
            sentence = f"{what} is paused by a person (rotord resume {wait.scope}{'' if wait.scope == 'all' else f' {wait.name}'})"
        case Gate.DISABLED:
            sentence = f"client {wait.name} is disabled by a person (set its status to active)"
        case _:
            sentence = f"{wait.scope} {wait.name}: {wait.detail}"
    return Finding(wait.gate, wait.scope, wait.name, sentence, _known(wait.until))


def _pinned_finding(pool: SenderPool, lane: Lane, now: float, news: Mapping[str, ProviderNews]) -> Finding:
    verdict = pool.lane(lane, now)
    address = pool.addresses.get(lane.pin)
    match verdict:
        case Fail(reason):
            return Finding(Gate.NO_ADDRESS, "address", lane.pin, f"{reason}; it fails at the next turn")
        case Move(pin):
            return Finding(
                Gate.READY, "address", lane.pin, f"it moves from {lane.pin} to {pin or 'whichever address is next'} at the next turn"
            )
        case Open() | Wait():
            pass
    if address is None:
        return Finding(Gate.NO_ADDRESS, "address", lane.pin, f"{lane.pin} is not in the fleet")
    found = explain_address(address, lane.kind, now, news)
    if found.gate is Gate.READY:
        return found
    why = {"sender": "its row names this sender", "thread": "its thread keeps its address", "retry": "greylisting keeps its address"}
    # Not its own fault but its address's: the message is one that may not go from another.
    return Finding(
        Gate.STICKY, found.scope, found.name, f"{why.get(lane.pin_kind, 'it is pinned')}: {found.sentence}", found.until, found.numbers
    )


def _entity(scope: str, name: str, state: AddressState | DomainState, kind: Kind, reserve: float, now: float) -> Finding | None:
    value = state.value
    if value.status is not Status.ACTIVE:
        remedy = "set its status to active" if value.status is Status.DISABLED else f"rotord resume {scope} {name}"
        return Finding(_STOPPED[value.status], scope, name, f"{scope} {name} is {value.status.value} by a person ({remedy})")
    rests = resting_until(value.health, value.health_until)
    if rests > now:
        gate = Gate.DISABLED if value.health is Health.DISABLED else Gate.COOLING
        word = "disabled by rotord" if gate is Gate.DISABLED else "cooling"
        return Finding(gate, scope, name, f"{scope} {name} is {word}", _known(rests))
    limits = (value.per_hour, value.per_day)
    return _cap_finding(scope, name, state.cap, limits, reserve, now) or _pace_finding(scope, name, state.pace, kind, now)


def _cap_finding(
    scope: str, name: str, cap: RollingCap, limits: tuple[int | None, int | None], reserve: float, now: float
) -> Finding | None:
    kind = Kind.BULK if reserve else Kind.TRANSACTIONAL
    until = cap.free_at(now, kind)
    if until <= now:
        return None
    hour, day = (_limit(limit, reserve) for limit in limits)
    used_hour, used_day = (used + cap.held for used in cap.use(now))
    is_day = used_day >= day and (used_hour < hour or _span(until, now) > HOUR)
    gate, used, limit, window = (Gate.DAY, used_day, day, "24 hours") if is_day else (Gate.HOUR, used_hour, hour, "60 minutes")
    sentence = f"{scope} {name} has used {used:,} of {int(limit):,} in the last {window}"
    if cap.held:
        sentence += f", {cap.held:,} of them on the wire (one that is refused gives its place back)"
    if reserve:
        sentence += f"; {reserve:.0%} of its limit is kept for transactional mail"
    return Finding(gate, scope, name, sentence, _known(until), {"used": used, "limit": int(limit), "on_the_wire": cap.held})


def _pace_finding(scope: str, name: str, pace: Pace | None, kind: Kind, now: float) -> Finding | None:
    if pace is None or kind is not Kind.BULK:
        return None
    until = pace.opens_at(now)
    if until <= now:
        return None
    return Finding(Gate.PACING, scope, name, f"{scope} {name} is paced: its mail is spread evenly over the sending window", _known(until))


def _route_finding(domain: DomainState, now: float, news: Mapping[str, ProviderNews]) -> Finding | None:
    gates = domain.route.gates
    name = domain.value.name
    if not gates:
        listed = ", ".join(domain.value.providers) or "none"
        return Finding(Gate.NO_ADDRESS, "domain", name, f"domain {name} names no configured provider (its providers: {listed})")
    findings = [_provider_finding(gate, now, news) for gate in gates]
    if any(found is None for found in findings):
        return None
    return min((found for found in findings if found is not None), key=_when)


def _provider_finding(gate: ProviderGate, now: float, news: Mapping[str, ProviderNews]) -> Finding | None:
    name = gate.limits.name
    if gate.paused:
        return Finding(Gate.PAUSED, "provider", name, f"provider {name} is paused by a person (rotord resume provider {name})")
    report = news.get(name)
    if report is not None and report.down:
        return Finding(Gate.PROVIDER_DOWN, "provider", name, _down(name, report), report.next_try_at)
    if (by := gate.breaker.tripped_by) is not None and gate.breaker.free_at() > now:
        until = _known(gate.breaker.free_at())
        return Finding(Gate.BREAKER, "provider", name, _failing(name, gate.breaker), until, by._asdict())
    until = gate.limits_open_at(now)
    if until > now:
        return _provider_limit(gate, name, until, now)
    if gate.slots <= 0:
        every = gate.limits.max_in_flight
        busy = f"all {every} slots of provider {name} are in use" if every > 1 else f"the only slot of provider {name} is in use"
        return Finding(Gate.SLOTS, "provider", name, f"{busy}; the next answer frees one")
    return None


def _down(name: str, report: ProviderNews) -> str:
    again = "" if report.next_try_at is None else " and is tried again"
    return f"provider {name} is down ({report.reason}){again}"


def _failing(name: str, breaker: Breaker) -> str:
    probe = "" if breaker.is_probing else "; the next message is a probe"
    return f"provider {name} is {breaker}{probe}"


def _provider_limit(gate: ProviderGate, name: str, until: float, now: float) -> Finding:
    if gate.month is not None and gate.month.free_at(now) > now:
        numbers = {"used": gate.month.used, "limit": gate.month.per_month}
        sentence = f"provider {name} has used the {gate.month.per_month:,} that its plan has a month"
        return Finding(Gate.PROVIDER_LIMIT, "provider", name, sentence, until, numbers)
    capped = _cap_finding("provider", name, gate.cap, (gate.limits.per_hour, gate.limits.per_day), 0.0, now)
    if capped is not None:
        return Finding(Gate.PROVIDER_LIMIT, "provider", name, capped.sentence, capped.until, capped.numbers)
    return Finding(Gate.PROVIDER_LIMIT, "provider", name, f"provider {name} is at its rate per second", until)


def _limit(limit: int | None, reserve: float) -> float:
    return inf if limit is None else float(floor(limit * (1 - reserve) + 1e-9))


def _span(until: float, now: float) -> float:
    return DAY if until == inf else until - now


def _known(until: float) -> float | None:
    return None if until == inf else until


def _when(found: Finding) -> float:
    return inf if found.until is None else found.until


def _count(findings: list[Finding], gate: Gate) -> int:
    return sum(found.gate is gate for found in findings)
