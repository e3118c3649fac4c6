"""What stands before all of a client's messages: what a person paused, sending windows, the client's own caps and pace, its campaign's.

`SenderPool` owns it and asks it first. Of its campaigns a client has only what a person said of them (a window, caps, a pause), and what
each has sent: counted whether it has caps or not, because a person may give it some in the middle of a day.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from rotord.core.limits import RollingCap
from rotord.core.model import Kind, Status
from rotord.core.senders import Gate, Wait, window_clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rotord.core.model import Campaign
    from rotord.core.pins import Lane
    from rotord.core.senders import ClientState
    from rotord.core.window import WindowClock

_BULK = Kind.BULK
#: from so many campaigns on those that sent nothing for a day are forgotten
_MANY: Final = 1000


class ClientGates:
    """`clients` is the pool's own and read only here. `paused`: see `SenderPool.set_paused`."""

    __slots__ = ("_campaigns", "_clients", "_clocks", "_counts", "_many", "paused")

    def __init__(self, clients: Mapping[str, ClientState]) -> None:
        self._clients = clients
        self.paused: frozenset[tuple[str, str]] = frozenset()
        self._campaigns: dict[tuple[str, str], Campaign] = {}
        self._clocks: dict[tuple[str, str], tuple[WindowClock, str]] = {}
        self._counts: dict[tuple[str, str], RollingCap] = {}
        self._many = _MANY

    def set_campaigns(self, campaigns: Iterable[Campaign]) -> None:
        """Take the campaigns that have a window or caps of their own; what any has sent stays counted."""
        self._campaigns = {(campaign.client, campaign.name): campaign for campaign in campaigns}
        for key, count in self._counts.items():
            if key not in self._campaigns:
                count.set_limits(None, None)
        for key, campaign in self._campaigns.items():
            self.count(*key).set_limits(campaign.per_hour, campaign.per_day)
        self.forget_clocks()

    def count(self, client: str, campaign: str) -> RollingCap:
        """What a campaign has sent, and its caps."""
        count = self._counts.get((client, campaign))
        if count is None:
            count = self._counts[client, campaign] = RollingCap()
        return count

    def count_of(self, lane: Lane, now: float) -> RollingCap | None:
        """What counts the lane's messages for their campaign; None when they have none."""
        if not lane.campaign:
            return None
        if len(self._counts) > self._many:
            idle = [key for key, count in self._counts.items() if key not in self._campaigns and not count.held and not count.use(now)[1]]
            for key in idle:
                del self._counts[key]
            self._many = max(_MANY, 2 * len(self._counts))
        return self.count(lane.client, lane.campaign)

    def caps_of(self, client: str) -> list[Campaign]:
        """The campaigns of a client that have caps."""
        return [
            campaign
            for campaign in self._campaigns.values()
            if campaign.client == client and (campaign.per_hour, campaign.per_day) != (None, None)
        ]

    def room(self, lane: Lane, now: float) -> float:
        """How many messages of the lane its campaign's caps let go now."""
        if (lane.client, lane.campaign) not in self._campaigns:
            return inf
        return self.count(lane.client, lane.campaign).room(now, lane.kind)

    def forget_clocks(self) -> None:
        """Read the campaigns' windows anew: a client's time zone may be another one."""
        self._clocks.clear()

    def wait(self, lane: Lane, now: float) -> Wait | None:
        """The gate of everything, the client, its stream, its campaign, its window, its caps, the campaign's, its pace, in this order."""
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
        if self._campaigns and (lane.client, lane.campaign) in self._campaigns:
            free_at = self.count(lane.client, lane.campaign).free_at(now, lane.kind)
            if free_at > now:
                return Wait(Gate.HOUR, free_at, "campaign", f"{lane.client}/{lane.campaign}")
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
        if campaign is None or campaign.sending_window is None:
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
