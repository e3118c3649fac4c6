"""What stands before all of a client's messages: what a person paused, sending windows, the client's own caps and pace.

`SenderPool` owns it and asks it first. Of its campaigns a client has only what a person said of them: a window of their own, a pause.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from rotord.core.model import Kind, Status
from rotord.core.senders import Gate, Wait, window_clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rotord.core.model import Campaign
    from rotord.core.pins import Lane
    from rotord.core.senders import ClientState
    from rotord.core.window import WindowClock

_BULK = Kind.BULK


class ClientGates:
    """`clients` is the pool's own and read only here. `paused`: see `SenderPool.set_paused`."""

    __slots__ = ("_campaigns", "_clients", "_clocks", "paused")

    def __init__(self, clients: Mapping[str, ClientState]) -> None:
        self._clients = clients
        self.paused: frozenset[tuple[str, str]] = frozenset()
        self._campaigns: dict[tuple[str, str], Campaign] = {}
        self._clocks: dict[tuple[str, str], tuple[WindowClock, str]] = {}

    def set_campaigns(self, campaigns: Iterable[Campaign]) -> None:
        """Take the campaigns that have a window of their own."""
        self._campaigns = {(campaign.client, campaign.name): campaign for campaign in campaigns}
        self.forget_clocks()

    def forget_clocks(self) -> None:
        """Read the campaigns' windows anew: a client's time zone may be another one."""
        self._clocks.clear()

    def wait(self, lane: Lane, now: float) -> Wait | None:
        """The gate of everything, the client, its stream, its campaign, its window, its caps and its pace, in this order."""
        client = self._clients.get(lane.client)
        if client is None or not client.is_active or self.paused:
            wait = self._pause(client, lane)
            if wait is not None:
                return wait
            client = self._clients[lane.client]
        if (client.timed or self._campaigns) and lane.kind is _BULK:
            wait = self._window(client, lane, now)
            if wait is not None:
                return wait
        free_at = client.cap.free_at(now, lane.kind)
        if free_at > now:
            return Wait(Gate.HOUR, free_at, "client", lane.client)
        if client.pace is not None and lane.kind is _BULK:
            paced_at = client.pace.opens_at(now)
            if paced_at > now:
                return Wait(Gate.PACING, paced_at, "client", lane.client)
        return None

    def _pause(self, client: ClientState | None, lane: Lane) -> Wait | None:
        if ("all", "") in self.paused:
            return Wait(Gate.PAUSED, inf, "all", "all")
        if client is None:
            return Wait(Gate.NO_ADDRESS, inf, "client", lane.client, "it is not in the fleet")
        if client.value.status is not Status.ACTIVE:
            gate = Gate.PAUSED if client.value.status is Status.PAUSED else Gate.DISABLED
            return Wait(gate, inf, "client", lane.client)
        stream = f"{lane.client}/{lane.stream}"
        if ("stream", stream) in self.paused:
            return Wait(Gate.PAUSED, inf, "stream", stream)
        campaign = f"{lane.client}/{lane.campaign}"
        if lane.campaign and ("campaign", campaign) in self.paused:
            return Wait(Gate.PAUSED, inf, "campaign", campaign)
        return None

    def _window(self, client: ClientState, lane: Lane, now: float) -> Wait | None:
        """The client's sending window, then the campaign's own; a message waits for both."""
        if client.fault:
            return Wait(Gate.WINDOW, inf, "client", lane.client, client.fault)
        opens_at = client.clock.opens_at(now) if client.timed else now
        if opens_at > now:
            return Wait(Gate.WINDOW, opens_at, "client", lane.client, f"sends {client.value.sending_window} {client.value.timezone}")
        key = (lane.client, lane.campaign)
        campaign = self._campaigns.get(key)
        if campaign is None:
            return None
        if key not in self._clocks:
            self._clocks[key] = window_clock(f"campaign {lane.campaign}", client.value.timezone, campaign.sending_window)
        clock, fault = self._clocks[key]
        name = f"{lane.client}/{lane.campaign}"
        if fault:
            return Wait(Gate.WINDOW, inf, "campaign", name, fault)
        opens_at = clock.opens_at(now)
        if opens_at <= now:
            return None
        return Wait(Gate.WINDOW, opens_at, "campaign", name, f"sends {campaign.sending_window} {client.value.timezone}")
