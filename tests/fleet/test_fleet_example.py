"""The example fleet is what the demo and the first hour of an operator stand on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rotord.core.model import Pacing, Status
from rotord.fleet import FleetFile, apply, plan, read

EXAMPLE = Path(__file__).parents[2] / "config" / "fleet.toml"


def capacity(fleet: FleetFile, slug: str, stream: str = "main") -> int:
    """How many messages of a client's stream may leave in an hour: the least of what its levels allow."""
    client = next(client for client in fleet.clients if client.slug == slug)
    allowed: Counter[str] = Counter()
    for address in fleet.addresses:
        if address.status in {None, Status.ACTIVE}:
            allowed[address.domain] += address.per_hour
    domains = [domain for domain in fleet.domains if (domain.client, domain.stream) == (slug, stream)]
    return min(client.per_hour, sum(min(domain.per_hour, allowed[domain.name]) for domain in domains))


async def test_it_applies_as_it_stands(db):
    fleet = read(EXAMPLE, {"relay", "sandbox"})

    await apply(db, fleet)

    assert (await plan(db, fleet)).is_empty
    assert (len(fleet.clients), len(fleet.domains), len(fleet.addresses)) == (12, 48, 1200)


def test_at_any_hour_more_than_4_000_messages_may_leave():
    fleet = read(EXAMPLE)
    always = [client.slug for client in fleet.clients if not client.sending_window and client.pacing is Pacing.NONE]

    assert len(always) >= 8
    assert sum(capacity(fleet, slug) for slug in always) > 4_000


def test_it_shows_streams_windows_providers_and_time_zones():
    fleet = read(EXAMPLE)

    assert len({domain.client for domain in fleet.domains if domain.stream != "main"}) == 2
    assert {name for domain in fleet.domains for name in domain.providers} == {"relay", "sandbox"}
    assert sum(client.sending_window is not None for client in fleet.clients) == 3
    assert len({client.timezone for client in fleet.clients}) >= 10
    assert all(domain.name.endswith(".example") for domain in fleet.domains)
    assert all(row.per_hour <= row.per_day for row in (*fleet.clients, *fleet.domains, *fleet.addresses))
