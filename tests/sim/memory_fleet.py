"""The fleet's tables in memory, with the log of their changes that triggers keep in the real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rotord.core.records import Fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rotord.core.model import Address, Campaign, Client, Domain


class FleetTables:
    """`notify` is told the channel of each notification."""

    def __init__(self) -> None:
        self.notify: Callable[[str], None] = lambda _channel: None
        self.clients: dict[str, Client] = {}
        self.domains: dict[str, Domain] = {}
        self.addresses: dict[str, Address] = {}
        self.paused: set[tuple[str, str]] = set()
        self.campaigns: list[Campaign] = []
        self.changes: list[tuple[str, str]] = []

    def put_fleet(self, clients: Iterable[Client] = (), domains: Iterable[Domain] = (), addresses: Iterable[Address] = ()) -> None:
        for kind, table, key, values in (
            ("client", self.clients, "slug", clients),
            ("domain", self.domains, "name", domains),
            ("address", self.addresses, "email", addresses),
        ):
            for value in values:
                table[getattr(value, key)] = value  # type: ignore[index]
                self.changes.append((kind, getattr(value, key)))
        self.notify("rotord_fleet")

    def put_campaign(self, campaign: Campaign) -> None:
        """Its rules; None of each takes them away."""
        others = [other for other in self.campaigns if (other.client, other.name) != (campaign.client, campaign.name)]
        self.campaigns = [*others, campaign]
        self.changes.append(("campaign", f"{campaign.client}/{campaign.name}"))
        self.notify("rotord_fleet")

    def remove_address(self, email: str) -> None:
        del self.addresses[email]
        self.changes.append(("address", email))
        self.notify("rotord_fleet")

    def pause(self, kind: str, name: str, *, paused: bool = True) -> None:
        (self.paused.add if paused else self.paused.discard)((kind, name))
        self.changes.append(("pause", f"{kind}:{name}"))
        self.notify("rotord_fleet")

    def fleet(self) -> Fleet:
        fleet = (list(self.clients.values()), list(self.domains.values()), list(self.addresses.values()))
        return Fleet(str(len(self.changes)), *fleet, paused=frozenset(self.paused), campaigns=self.campaigns)

    def fleet_changes(self, mark: str) -> Fleet:
        if int(mark) == len(self.changes):
            return Fleet(mark)
        named: dict[str, list[str]] = {}
        for kind, name in dict.fromkeys(self.changes[int(mark) :]):
            named.setdefault(kind, []).append(name)
        tables: list[tuple[str, dict[str, Any]]] = [("client", self.clients), ("domain", self.domains), ("address", self.addresses)]
        there = [[table[name] for name in named.get(kind, []) if name in table] for kind, table in tables]
        gone = [sorted(name for name in named.get(kind, []) if name not in table) for kind, table in tables]
        words = (frozenset(self.paused), self.campaigns) if {"pause", "campaign"} & named.keys() else (None, None)
        return Fleet(str(len(self.changes)), *there, *gone, *words)
