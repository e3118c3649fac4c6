"""Health, readiness and metrics, as a load balancer and Prometheus see them."""

import asyncio
import json
import socket

from prometheus_client.parser import text_string_to_metric_families

from rotord.core.model import Outcome
from rotord.db.migrate import shipped
from rotord.http_side import PULSE_S
from rotord.providers.sandbox import SandboxConfig, SandboxProvider
from rotord.web.cached import Cached
from rotord.web.health import SICK_S, HealthRoutes, LoopLag
from rotord.web.metrics import CLIENTS, OTHERS, Counters
from rotord.web.ports import Pulse
from tests.web.site import ONE_CLICK, cancelled_at_end, running_site


async def samples(site):
    """Every sample by its name and labels."""
    async with site.client.get(site.url("/metrics")) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        families = list(text_string_to_metric_families(await answer.text()))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation for family in families)
    return {(sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples}


# -- health -------------------------------------------------------------------------------------------------------------------------


async def test_a_node_is_alive_while_its_loop_turns():
    now = [0.0]
    lag = LoopLag(lambda: now[0])

    async def pulse():
        return Pulse(database=False)

    routes = HealthRoutes(lag, Cached(pulse, 1.0, lambda: now[0]), lambda: True)
    assert (await routes.alive(None, "")).status == 200
    lag.saw(SICK_S + 0.1)
    assert (await routes.alive(None, "")).status == 503
    for _ in range(20):
        lag.saw(-0.001)
    assert (await routes.alive(None, "")).status == 200


async def test_the_lag_of_the_loop_is_measured():
    times = iter([10.0, 13.5])
    lag = LoopLag(lambda: next(times, 0.0))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(lag.run())
        while not lag.worst_s:
            await asyncio.wait([task], timeout=0.05)
        task.cancel()

    assert lag.worst_s == 3.0


async def test_a_value_is_read_once_at_a_time_and_kept_for_its_time():
    now, readings = [0.0], []

    async def read():
        readings.append(now[0])
        await asyncio.sleep(0)
        if len(readings) == 3:
            raise OSError
        return len(readings)

    cached = Cached(read, 1.0, lambda: now[0])
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(cached.get()) for _ in range(5)]
    assert [one.result() for one in asked] == [1] * 5
    now[0] = 0.99
    assert await cached.get() == 1
    now[0] = 1.0
    assert await cached.get() == 2
    now[0] = 2.0
    try:
        await cached.get()
    except OSError:
        assert await cached.get() == 4
    assert readings == [0.0, 1.0, 2.0, 2.0]


# -- readiness ----------------------------------------------------------------------------------------------------------------------


async def test_a_node_with_a_database_is_ready_in_its_role(site, db):
    await db.execute("INSERT INTO rotord.lease VALUES ('main', gen_random_uuid(), 7, now(), now())")
    site.leads[0] = True
    async with site.client.get(site.url("/readyz")) as answer:
        assert answer.content_type == "application/json"
        document = await answer.json()

    assert (answer.status, document) == (200, {"ready": True, "role": "leader", "database": "reachable", "schema": "current", "epoch": 7})
    site.leads[0] = False
    assert json.loads((await site.get("/readyz"))[1])["role"] == "standby"


async def test_a_database_without_the_schema_is_not_ready(empty_database_url):
    async with running_site(empty_database_url) as site:
        status, text = await site.get("/readyz")
        metrics = await samples(site)

    assert (status, json.loads(text)["schema"], json.loads(text)["ready"]) == (503, "missing", False)
    assert metrics["rotord_database_up",] == 0


async def test_a_schema_that_breaks_us_is_not_ready(db, database_url):
    await db.execute("INSERT INTO rotord.schema_version (version, breaking) VALUES ($1, true)", len(shipped()) + 1)
    async with running_site(database_url) as site:
        status, text = await site.get("/readyz")

    assert (status, json.loads(text)["schema"]) == (503, "breaking")


async def test_readiness_is_asked_of_the_database_once_a_second(site, db):
    for _ in range(20):
        assert (await site.get("/readyz"))[0] == 200
    await db.execute("SELECT pg_stat_force_next_flush()")
    connections = await db.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rotord-http'")

    assert connections <= 2


# -- metrics ------------------------------------------------------------------------------------------------------------------------


async def test_metrics_say_what_there_is(site, message, db):
    await db.execute("INSERT INTO rotord.outbox (client, recipient, subject, body_text, send_after) "
                     "SELECT 'acme', 'r@example.org', 's', 'b', now() + interval '1 day' FROM generate_series(1, 3)")  # fmt: skip
    await db.execute("UPDATE rotord.queue SET due_at = now() - interval '1 hour' WHERE id = $1", message)
    for outcome in (Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.DEFERRED):
        site.counters.landed("acme", "relay", outcome)
    async with site.client.post(site.link(message), data=ONE_CLICK) as answer:
        assert answer.status == 200
    found = await samples(site)

    assert found["rotord_messages_total", ("client", "acme"), ("outcome", "accepted"), ("provider", "relay")] == 2
    assert found["rotord_messages_total", ("client", "acme"), ("outcome", "deferred"), ("provider", "relay")] == 1
    assert found["rotord_queue_messages", ("state", "queued")] == 1
    assert found["rotord_queue_messages", ("state", "scheduled")] == 3
    assert found["rotord_queue_messages", ("state", "uncertain")] == 0
    assert 3600 <= found["rotord_queue_oldest_due_seconds",] < 3700
    assert found["rotord_unsubscribes_total", ("source", "one-click")] == 1
    assert found["rotord_http_requests_total", ("route", "/u/"), ("status", "200")] == 1
    assert found["rotord_build_info", ("version", "0.test")] == 1
    assert (found["rotord_leader",], found["rotord_database_up",], found["rotord_lease_epoch",]) == (0, 1, 0)
    assert found["rotord_loop_lag_seconds",] < 60
    assert found["process_open_fds",] > 0


async def test_metrics_tell_no_recipient_and_no_token(site, message):
    async with site.client.get(site.link(message)):
        pass
    text = (await site.get("/metrics"))[1]

    assert "example.org" not in text.lower()
    assert site.link(message).rpartition("/")[2] not in text


async def test_providers_show_their_places(database_url, tmp_path):
    sandbox = SandboxProvider(SandboxConfig("box", tmp_path / "box", 5))
    ready = asyncio.Event()
    sandbox.on_ready(ready.set)
    async with running_site(database_url, {"box": sandbox}) as site:
        untried = await samples(site)
        async with cancelled_at_end(sandbox.run()), asyncio.timeout(10):
            await ready.wait()
            before = await samples(site)
            slot = sandbox.take()
            after = await samples(site)
            slot.give_back()
    await sandbox.close()

    label = ("provider", "box")
    assert ("rotord_provider_up", label) not in untried
    assert (before["rotord_provider_up", label], before["rotord_slots", label], before["rotord_ready_slots", label]) == (1, 5, 5)
    assert after["rotord_ready_slots", label] == 4
    assert before["rotord_in_flight_messages", label] == 0


async def test_clients_without_end_make_series_with_an_end():
    counters = Counters("x")
    for number in range(CLIENTS + 50):
        counters.landed(f"c{number}", "relay", Outcome.ACCEPTED)
        counters.landed("c0", "relay", Outcome.ACCEPTED)
    series = [sample for family in counters.families() for sample in family.samples if sample.name == "rotord_messages_total"]
    by_client = {sample.labels["client"]: sample.value for sample in series}

    assert len(by_client) == CLIENTS + 1
    assert (by_client[OTHERS], by_client["c0"]) == (50, CLIENTS + 51)


async def test_a_database_that_only_accepts_is_no_database():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        async with running_site(url) as site, asyncio.timeout(PULSE_S + 3), asyncio.TaskGroup() as group:
            ready = [group.create_task(site.get("/readyz")) for _ in range(10)]
            alive = group.create_task(site.get("/healthz"))

    assert {json.loads(text)["database"] for _, text in (one.result() for one in ready)} == {"unreachable"}
    assert {one.result()[0] for one in ready} == {503}
    assert alive.result()[0] == 200
