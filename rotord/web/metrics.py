"""`/metrics`, for Prometheus. Counters live here; everything else is read when it is asked for. No recipient, no secret, no message."""

from __future__ import annotations

from collections import Counter as Tally
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from rotord.web.ports import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from aiohttp.web import BaseRequest
    from prometheus_client import Metric

    from rotord.core.model import Outcome
    from rotord.web.cached import Cached
    from rotord.web.health import LoopLag
    from rotord.web.ports import Depth, Pulse, ReadSlots, Source

#: clients with a series of their own; the ones after them are counted together
CLIENTS: Final = 200
OTHERS: Final = "(others)"


class Counters:
    """What has happened since the process began. Every function may be called from any task of the loop."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._clients: set[str] = set()
        self._messages: Tally[tuple[str, str, str]] = Tally()
        self._unsubscribes: Tally[tuple[str]] = Tally()
        self._requests: Tally[tuple[str, str]] = Tally()
        self._posts: Tally[tuple[str, str]] = Tally()
        self._database_errors = 0

    def landed(self, client: str, provider: str, outcome: Outcome) -> None:
        """An attempt ended."""
        if client not in self._clients:
            if len(self._clients) >= CLIENTS:
                client = OTHERS
            else:
                self._clients.add(client)
        self._messages[client, provider, outcome.value] += 1

    def unsubscribed(self, source: Source) -> None:
        """A person has unsubscribed, perhaps again."""
        self._unsubscribes[source.value,] += 1

    def answered(self, route: str, status: int) -> None:
        """A request was answered; `route` is "" for one that came to none."""
        self._requests[route, str(status)] += 1

    def posted(self, provider: str, outcome: str, count: int = 1) -> None:
        """A provider's post was answered: stored, known, or why not; or (foreign) its events were of messages that another took."""
        self._posts[provider, outcome] += count

    def database_failed(self) -> None:
        """The listener's question went unanswered."""
        self._database_errors += 1

    def families(self) -> Iterator[Metric]:
        """All of it, as Prometheus counts it."""
        yield _counted(
            "rotord_messages",
            "Messages whose attempt ended on this node, by outcome; one that is tried again counts each time",
            ("client", "provider", "outcome"),
            self._messages,
        )
        yield _counted("rotord_unsubscribes", "Unsubscribe posts that were acted on", ("source",), self._unsubscribes)
        yield _counted("rotord_http_requests", "Requests answered", ("route", "status"), self._requests)
        yield _counted("rotord_webhook_posts", "Posts of providers, by what became of them", ("provider", "outcome"), self._posts)
        yield CounterMetricFamily(
            "rotord_http_database_errors", "Questions of the HTTP listener that the database did not answer", value=self._database_errors
        )


def _counted(name: str, says: str, labels: tuple[str, ...], tally: Mapping[Any, int]) -> Metric:
    family = CounterMetricFamily(name, says, labels=labels)
    for values, count in tally.items():
        family.add_metric(values, count)
    return family


class MetricsRoute:
    """The handler; reads the database at most as often as `pulse` and `depth` do."""

    def __init__(
        self, counters: Counters, lag: LoopLag, pulse: Cached[Pulse], depth: Cached[Depth], slots: ReadSlots, leads: Callable[[], bool]
    ) -> None:
        self._counters = counters
        self._lag = lag
        self._pulse = pulse
        self._depth = depth
        self._slots = slots
        self._leads = leads
        self._process = ProcessCollector(registry=None)

    async def show(self, _request: BaseRequest, _tail: str) -> web.Response:
        """Write all of it in the text format. Without the database its figures are missing, not old."""
        pulse = await self._pulse.get()
        try:
            depth = await self._depth.get() if pulse.database and pulse.usable else None
        except UnavailableError:
            depth = None
        registry = CollectorRegistry()
        registry.register(_Families([*self._counters.families(), *self._families(pulse, depth)]))
        registry.register(self._process)
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _families(self, pulse: Pulse, depth: Depth | None) -> Iterator[Metric]:
        build = GaugeMetricFamily("rotord_build_info", "Always 1", labels=["version"])
        build.add_metric([self._counters.version], 1)
        yield build
        yield GaugeMetricFamily("rotord_leader", "1 on the node that leads", value=float(self._leads()))
        yield GaugeMetricFamily("rotord_loop_lag_seconds", "The latest waking of the last 10 s", value=self._lag.worst_s)
        yield GaugeMetricFamily("rotord_database_up", "1 while the database answers and its schema fits", value=float(pulse.usable))
        yield from self._of_providers()
        if pulse.database:
            yield GaugeMetricFamily("rotord_lease_epoch", "The newest term of any node", value=pulse.epoch)
        if depth is not None:
            queue = GaugeMetricFamily("rotord_queue_messages", "Messages that are not settled, by state", labels=["state"])
            for state, count in depth.states.items():
                queue.add_metric([state], count)
            yield queue
            yield GaugeMetricFamily(
                "rotord_queue_oldest_due_seconds", "How long the oldest ready message has been due", value=depth.oldest_due_s
            )
            yield GaugeMetricFamily("rotord_webhook_unfolded_posts", "Stored posts that wait to be folded", value=depth.unfolded_posts)
            yield GaugeMetricFamily("rotord_webhook_fold_lag_seconds", "How long the oldest of them has waited", value=depth.fold_lag_s)

    def _of_providers(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("rotord_provider_up", "1 while it can be reached; missing until it was tried", labels=["provider"])
        flying = GaugeMetricFamily("rotord_in_flight_messages", "Messages on the wire from this node", labels=["provider"])
        ready = GaugeMetricFamily("rotord_ready_slots", "Slots in which a message could leave now", labels=["provider"])
        capacity = GaugeMetricFamily("rotord_slots", "Slots at most", labels=["provider"])
        for name, slots in self._slots().items():
            if slots.up is not None:
                up.add_metric([name], float(slots.up))
            flying.add_metric([name], slots.in_flight)
            ready.add_metric([name], slots.ready)
            capacity.add_metric([name], slots.capacity)
        yield from (up, flying, ready, capacity)


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
