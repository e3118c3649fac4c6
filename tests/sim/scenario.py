"""What a seed stands for: a fleet whose limits bite at each level, a day's mail, and a day's trouble."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from rotord.core.model import Address, Campaign, Client, Domain, Pacing, ProviderLimits

# Noon of a month's last day on every fourth seed, so that a month ends within the run; else a Tuesday's midnight.
MONTHS_END = 1_796_040_000.0  # 2026-11-30 12:00 UTC
TUESDAY = 1_795_478_400.0  # 2026-11-24 00:00 UTC
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens at `at` (seconds after the start), once the process concerned reaches `moment` ("" = at once)."""

    at: float
    what: str
    arguments: dict[str, Any] = field(default_factory=dict)
    moment: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A seed, spelled out. `slow` is the part of a provider's answers that take seconds."""

    seed: int
    starts_at: float
    hours: float
    nodes: int
    limits: tuple[ProviderLimits, ...]
    clients: tuple[Client, ...]
    domains: tuple[Domain, ...]
    addresses: tuple[Address, ...]
    events: tuple[Event, ...]
    slow: float = 0.05
    campaigns: tuple[Campaign, ...] = ()


POOLS = {("acme", "main"): 3, ("acme", "news"): 1, ("beta", "main"): 2, ("gamma", "main"): 2}
# Moments at which a kill or a lost answer is worth most: right after the statement or the step was asked for.
MOMENTS = (
    "begin",
    "begin",
    "begin",
    "settle",
    "settle",
    "connect",
    "send",
    "send",
    "candidates",
    "recover",
    "past",
    "promote",
    "read_back",
    "",
)


def make_scenario(seed: int, hours: float = 24.0) -> Scenario:
    draw = random.Random(f"scenario/{seed}")
    starts_at = MONTHS_END if seed % 4 == 3 else TUESDAY
    clients, domains, addresses = _fleet(draw, starts_at)
    nodes = 1 + seed % 2
    span = hours * 3600.0
    events = [*_mail(draw, span, addresses), *_people(draw, span, addresses), *_trouble(draw, span, nodes)]
    limits = (
        ProviderLimits("relay_a", per_hour=draw.randint(60, 110), per_day=draw.randint(900, 1300), max_in_flight=20, per_second=20.0),
        ProviderLimits("relay_b", per_hour=draw.randint(50, 90), per_day=draw.randint(700, 1100), per_month=1500, max_in_flight=6),
    )
    return Scenario(
        seed,
        starts_at,
        hours,
        nodes,
        limits,
        tuple(clients),
        tuple(domains),
        tuple(addresses),
        tuple(sorted(events, key=lambda event: event.at)),
        slow=0.3 if seed % 3 == 0 else 0.05,
        campaigns=_campaigns(random.Random(f"campaigns/{seed}")),
    )


def _campaigns(draw: random.Random) -> tuple[Campaign, ...]:
    """Caps that bite for some of the day; gamma's have none."""
    capped = [(client, name) for client in ("acme", "beta") for name in ("spring", "autumn")]
    return tuple(Campaign(client, name, per_hour=draw.randint(4, 12), per_day=draw.randint(60, 140)) for client, name in capped)


def _fleet(draw: random.Random, starts_at: float) -> tuple[list[Client], list[Domain], list[Address]]:
    clients = [
        Client("acme", per_hour=draw.randint(60, 100), per_day=draw.randint(900, 1200), transactional_reserve=0.1),
        Client("beta", per_hour=draw.randint(30, 50), per_day=draw.randint(400, 600), weight=2.0),
        Client(
            "gamma",
            timezone="Europe/Berlin",
            per_hour=draw.randint(20, 40),
            per_day=draw.randint(300, 500),
            sending_window="daily 05:00-23:30",
            pacing=draw.choice([Pacing.EVEN, Pacing.NONE]),
        ),
    ]
    domains, addresses = [], []
    for (client, stream), count in POOLS.items():
        for number in range(count):
            name = f"{client}-{stream}-{number}.example"
            providers = draw.choice([("relay_a", "relay_b"), ("relay_b", "relay_a"), ("relay_a",)])
            domains.append(Domain(name, client, stream, providers, per_hour=draw.randint(14, 30), per_day=draw.randint(170, 320)))
            for letter in "abcdef"[: draw.randint(4, 6)]:
                address = Address(f"{letter}@{name}", name, per_hour=draw.randint(3, 8), per_day=draw.randint(40, 80))
                if draw.random() < 0.2:
                    address = replace(address, used_day=draw.randint(5, 30), used_day_at=starts_at - draw.uniform(0, DAY))
                addresses.append(address)
    return clients, domains, addresses


def _mail(draw: random.Random, span: float, addresses: list[Address]) -> list[Event]:
    """Bursts, and single messages all day; about 2,200 on a day."""
    pools = list(POOLS)
    bursts = [(draw.uniform(0, span * 0.9), draw.choice(pools), draw.randint(20, 100)) for _ in range(round(span / 3600))]
    singles = [(draw.uniform(0, span * 0.98), draw.choice(pools), 1) for _ in range(round(span / 100))]
    return [
        Event(at + draw.uniform(0, 2), "insert", _message(draw, pool, addresses))
        for at, pool, count in [*bursts, *singles]
        for _ in range(count)
    ]


def _message(draw: random.Random, pool: tuple[str, str], addresses: list[Address]) -> dict[str, Any]:
    client, stream = pool
    columns: dict[str, Any] = {
        "client": client,
        "stream": stream,
        "kind": "transactional" if draw.random() < 0.25 else "bulk",
        "recipient": f"r{draw.randint(1, 500)}@example.org",
        "campaign": draw.choice([None, None, "spring", "autumn"]),
        "priority": draw.choice([0, 0, 0, 5, -5]),
    }
    own = [address.email for address in addresses if address.domain.startswith(f"{client}-{stream}-")]
    if draw.random() < 0.15:
        columns["thread_key"] = f"t{draw.randint(1, 30)}"
    if draw.random() < 0.05:
        columns["sender"] = draw.choice(own)
    if draw.random() < 0.1:
        columns["send_in"] = draw.uniform(1, 14_400)
    if draw.random() < 0.08:
        columns["expires_in"] = draw.uniform(60, 20_000)
    return columns


def _people(draw: random.Random, span: float, addresses: list[Address]) -> list[Event]:
    per_day = span / DAY
    events = []
    for _ in range(round(60 * per_day)):
        client = draw.choice([None, "acme", "beta", "gamma"])
        reason = draw.choice(["hard_bounce", "complaint", "unsubscribe", "manual"]) if client else "manual"
        recipient = f"r{draw.randint(1, 500)}@example.org"
        events.append(Event(draw.uniform(0, span), "suppress", {"recipient": recipient, "client": client, "reason": reason}, _moment(draw)))
    events += [Event(draw.uniform(0, span), "cancel", {"pick": draw.random()}, _moment(draw)) for _ in range(round(80 * per_day))]
    events += [
        Event(draw.uniform(0, span), "lock", {"pick": draw.random(), "for_s": draw.uniform(1, 60)}) for _ in range(round(20 * per_day))
    ]
    things = [("all", ""), ("provider", "relay_a"), ("provider", "relay_b"), ("stream", "acme/news"), ("campaign", "beta/spring")]
    for _ in range(round(8 * per_day)):
        kind, name = draw.choice(things)
        events += _spell(draw, span, "pause", {"kind": kind, "name": name}, 60, 1800)
    for _ in range(round(8 * per_day)):
        address = draw.choice(addresses)
        status = draw.choice(["paused", "disabled", "cooling", "gone"])
        events += _spell(draw, span, "address", {"email": address.email, "status": status}, 60, 10_000)
    return events


def _moment(draw: random.Random) -> str:
    return draw.choice(["", "begin", "candidates", "payloads"])


def _spell(draw: random.Random, span: float, what: str, arguments: dict[str, Any], shortest: float, longest: float) -> list[Event]:
    at = draw.uniform(0, span * 0.95)
    over = {**arguments, "over": True}
    return [Event(at, what, arguments), Event(min(span, at + draw.uniform(shortest, longest)), what, over)]


def _trouble(draw: random.Random, span: float, nodes: int) -> list[Event]:
    per_day = span / DAY

    def times(count: int) -> list[float]:
        return [draw.uniform(60, span * 0.97) for _ in range(max(1, round(count * per_day)))]

    def node() -> int | None:
        """One of them, mostly whichever leads (None)."""
        return draw.choice([None, None, None, draw.randrange(nodes)])

    events = [Event(at, "kill", {"node": node(), "back_in": draw.uniform(0.5, 40)}, draw.choice(MOMENTS)) for at in times(24)]
    events += [
        Event(at, "terminate", {"node": node(), "back_in": draw.uniform(0.5, 10)}, draw.choice(("", "send", "begin"))) for at in times(5)
    ]
    events += [
        Event(at, "lose_answers", {"node": node(), "count": draw.randint(1, 3)}, draw.choice(("", "begin", "begin", "settle")))
        for at in times(24)
    ]
    for at in times(8):
        mode = draw.choice(["refused", "silent", "lossy", "late"])
        where = draw.choice(["all", "all", node()])
        moment = draw.choice(("", "begin", "settle", "send"))
        events.append(
            Event(at, "outage", {"mode": mode, "node": where, "for_s": draw.choice([5, 20, 90, 400]) * draw.uniform(0.5, 1)}, moment)
        )
    for at in times(4):
        name = draw.choice(["relay_a", "relay_b"])
        events += [Event(at, "relay", {"name": name, "up": False}), Event(at + draw.uniform(20, 1500), "relay", {"name": name, "up": True})]
    for at in times(30) if nodes > 1 else []:  # alone, a frozen node is only a slow one
        moment = draw.choice(("begin", "candidates", "payloads", "send", "connect", ""))
        events.append(Event(at, "freeze", {"node": node(), "for_s": draw.choice([5, 15, 30, 60, 240]) * draw.uniform(0.8, 1.2)}, moment))
    return events
