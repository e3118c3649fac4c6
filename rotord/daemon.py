"""The composition root: settings become objects, objects become a tree of tasks, a signal ends it in order.

Tree: database server (if it is rotord's own), providers, HTTP listener, notifications, alerts, watchdog; leadership; inside it one term
after the other. The listener's socket is opened first and is the last input to close. Any task that fails ends the process with an
error, and systemd starts it anew: only the database's absence is waited out inside.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, assert_never

import structlog

from rotord.alerts.slack import Slack
from rotord.alerts.telegram import Telegram
from rotord.core.dkim import Signer
from rotord.core.settling import RetryPolicy
from rotord.core.unsubscribe import mailto, rehearsal_key, token
from rotord.db.connect import open_pool
from rotord.db.event_store import PostgresEvents
from rotord.db.keys import unsubscribe_key
from rotord.db.list_store import PostgresLists
from rotord.db.notify import listen
from rotord.db.retention import PostgresRetention, Rules
from rotord.db.store import PostgresStore
from rotord.engine.alerter import Alerter
from rotord.engine.dispatcher import EngineConfig
from rotord.engine.ingester import Ingester
from rotord.engine.leadership import Leadership, Lease, LeaseConfig
from rotord.engine.list_sync import ListSync
from rotord.engine.preparation import Preparation
from rotord.engine.retention import Retention
from rotord.engine.term import TermConfig, Terms
from rotord.engine.waiting import wait
from rotord.http_side import HttpSide
from rotord.journal import Journal
from rotord.opening import StartError, open_database
from rotord.posting import by_route, parsers, sources
from rotord.providers.http import ApiConfig
from rotord.providers.look_up import HttpLookUp, LookUpConfig
from rotord.providers.mailgun import mailgun
from rotord.providers.mailgun_events import MailgunEvents
from rotord.providers.sandbox import SandboxConfig, SandboxProvider
from rotord.providers.sendgrid import sendgrid
from rotord.providers.sendgrid_logs import SendgridLogs
from rotord.providers.smtp import SmtpProvider
from rotord.providers.smtp2go import smtp2go
from rotord.providers.smtp2go_activity import Smtp2goActivity
from rotord.providers.smtp_connection import SmtpConfig
from rotord.providers.suppression_list import PER_MINUTE, HttpLists, ListConfig
from rotord.providers.suppression_mailgun import MailgunLists
from rotord.providers.suppression_sendgrid import SendgridLists
from rotord.providers.suppression_smtp2go import Smtp2goLists
from rotord.settings import Mailgun, Sandbox, Sendgrid, Smtp, Smtp2go
from rotord.systemd import Systemd
from rotord.web.listener import ListenError, bind
from rotord.web.metrics import Counters

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import asyncpg

    from rotord.alerts.base import Sink
    from rotord.core.lookups import Timetable
    from rotord.providers.base import LookUp, Provider
    from rotord.providers.look_up import LookUpApi
    from rotord.providers.suppression_list import ListApi
    from rotord.settings import Settings

_log = structlog.get_logger(__name__)
# What is left of drain_seconds after the wire was given its time: to write the last replies, resign and close.
CLOSING_S = 2.0
# A process that cannot end by itself after its drain (a database that is away has the last replies) ends without them: their attempts
# stay unfinished in the ledger, and the next start makes them uncertain.
OVERTIME_S = 10.0


@dataclass(frozen=True, slots=True)
class Node:
    """A running daemon, for whoever embeds it (the demo, tests): its store and its pool of connections."""

    pool: asyncpg.Pool[asyncpg.Record]
    url: str


async def run(settings: Settings, *, started: Callable[[Node], Awaitable[None]] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 0 after a drain. A second signal skips the drain. `started` is awaited once it leads or stands by."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    systemd = Systemd()
    loop = asyncio.get_running_loop()
    _stop_on_signals(stop, hurry, systemd)
    async with AsyncExitStack() as stack:
        bound = stack.enter_context(_bind(settings))
        opened = await open_database(settings, stack, stop)
        if opened is None:
            return 0
        url, embedded = opened
        pool = await stack.enter_async_context(await open_pool(url))
        key = await unsubscribe_key(pool)
        # Before the providers: its lock is given back only when no connection is left.
        journal = stack.enter_context(closing(Journal(settings.state.dir)))
        providers, look_ups, lists = build_providers(settings, key), build_look_ups(settings), build_lists(settings)
        asked: list[HttpLookUp | HttpLists] = [*look_ups.values(), *lists.values()]
        for close in [*(provider.close for provider in providers.values()), *(one.close for one in asked)]:
            stack.push_async_callback(close)
        store, counters = PostgresStore(pool), Counters(version("rotord"))
        ingester = _ingester(settings, pool, key, counters)
        terms = Terms(
            store,
            providers,
            build_preparation(settings, key),
            replace(_term_config(settings, hurry, counters, look_ups), lists=_list_sync(settings, pool, lists)),
            loop.time,
            ingester,
            journal,
            Retention(PostgresRetention(pool, _rules(settings)).steps()),
        )
        leadership = Leadership(store, _lease_config(settings), f"{socket.gethostname()}/{os.getpid()}", loop.time)
        wakers = {"rotord_outbox": terms.rows, "rotord_fleet": terms.fleet, "rotord_lease": leadership.wake.set}
        async with asyncio.TaskGroup() as services:
            tasks = [services.create_task(provider.run(), name=f"provider-{name}") for name, provider in providers.items()]
            tasks.append(services.create_task(listen(url, wakers), name="notifications"))
            tasks += [
                services.create_task(_watch(systemd), name="watchdog"),
                services.create_task(Alerter(pool, build_sinks(settings), lambda: leadership.is_leader).run(), name="alerts"),
            ]
            http = HttpSide(bound, counters, providers, by_route(_posting_keys(settings), key)).run(url, key, lambda: leadership.is_leader)
            tasks.append(services.create_task(http, name="http"))
            if embedded is not None:
                tasks.append(services.create_task(embedded.supervise(), name="database"))
            overtime = services.create_task(_end_overtime(stop, settings.engine.drain_seconds), name="overtime")
            if started is not None:
                tasks.append(services.create_task(_run_started(started, Node(pool, url)), name="started"))
            systemd.ready("running")
            _log.info("started", providers=sorted(providers), database="embedded" if embedded else "external")

            async def lead(lease: Lease) -> None:
                await terms.run(lease, stop)

            await leadership.run(stop, lead)
            for task in [*tasks, overtime]:
                task.cancel()
    _log.info("stopped")
    return 0


def _stop_on_signals(stop: asyncio.Event, hurry: asyncio.Event, systemd: Systemd) -> None:
    def on_signal() -> None:
        if stop.is_set():
            hurry.set()
        else:
            _log.info("stopping")
            systemd.stopping("draining")
            stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)


def build_providers(settings: Settings, key: bytes = b"") -> dict[str, Provider]:
    """Every configured provider, by name; `key` makes the return paths of those that have them."""
    providers: dict[str, Provider] = {}
    rehearsal = bool(settings.engine.redirect_all_to)
    paths = rehearsal_key(key) if rehearsal else key
    for name, config in settings.providers.items():
        match config:
            case Smtp():
                providers[name] = SmtpProvider(replace(smtp_config(name, config), return_path_key=paths, is_rehearsal=rehearsal))
            case Sandbox():
                providers[name] = SandboxProvider(
                    SandboxConfig(
                        name=name,
                        directory=settings.sandbox_directory(name),
                        max_in_flight=config.slots,
                        latency_ms=config.latency_ms,
                        deferred=config.outcomes.get("deferred", 0.0),
                        rejected=config.outcomes.get("rejected", 0.0),
                        not_sent=config.outcomes.get("not_sent", 0.0),
                        uncertain=config.outcomes.get("uncertain", 0.0),
                    )
                )
            case Mailgun():
                providers[name] = mailgun(api_config(name, config))
            case Sendgrid():
                providers[name] = sendgrid(api_config(name, config))
            case Smtp2go():
                providers[name] = smtp2go(api_config(name, config))
            case _:
                assert_never(config)
    return providers


LOOK_UPS: Final[Mapping[str, Callable[[ApiConfig], LookUpApi]]] = {
    "mailgun": MailgunEvents,
    "sendgrid": SendgridLogs,
    "smtp2go": Smtp2goActivity,
}


def build_look_ups(settings: Settings) -> dict[str, HttpLookUp]:
    """The look-up of every provider that has one and may be asked, by name. Relays and sandboxes have none."""
    return {
        name: HttpLookUp(
            name,
            LOOK_UPS[config.kind](api_config(name, config)),
            LookUpConfig(
                connect_timeout_s=config.connect_timeout_seconds,
                grace_s=settings.reconcile.grace_seconds,
                per_minute=config.look_ups_per_minute,
                redirect_to=settings.engine.redirect_all_to,
            ),
        )
        for name, config in settings.providers.items()
        if isinstance(config, Mailgun | Sendgrid | Smtp2go) and config.look_ups_per_minute
    }


LISTS: Final[Mapping[str, Callable[[ApiConfig], ListApi]]] = {
    "mailgun": MailgunLists,
    "sendgrid": SendgridLists,
    "smtp2go": Smtp2goLists,
}


def build_lists(settings: Settings) -> dict[str, HttpLists]:
    """The suppression lists of every provider that has some, by name; none in a rehearsal, whose bounces are its tester's."""
    if settings.engine.redirect_all_to:
        return {}
    return {
        name: HttpLists(
            name,
            LISTS[config.kind](api_config(name, config)),
            ListConfig(config.look_ups_per_minute or PER_MINUTE, config.connect_timeout_seconds),
        )
        for name, config in settings.providers.items()
        if isinstance(config, Mailgun | Sendgrid | Smtp2go)
    }


def look_up_times(settings: Settings) -> dict[str, Timetable]:
    """When messages are asked after, by provider; those that are not asked are missing."""
    return {name: look_up.timetable for name, look_up in build_look_ups(settings).items()}


def build_sinks(settings: Settings) -> list[Sink]:
    """Whom alerts are told to; those without their secret are off."""
    telegram, slack = settings.alerts.telegram, settings.alerts.slack
    sinks: list[Sink] = []
    if telegram.token.get_secret_value():
        sinks.append(Telegram(telegram.base_url, telegram.token.get_secret_value(), telegram.chat_id))
    if slack.webhook_url.get_secret_value():
        sinks.append(Slack(slack.webhook_url.get_secret_value()))
    return sinks


def smtp_config(name: str, config: Smtp) -> SmtpConfig:
    """A relay's settings as its provider takes them."""
    return SmtpConfig(
        name=name,
        host=config.host,
        port=config.port,
        tls=config.tls,
        username=config.username,
        password=config.password.get_secret_value(),
        connections=config.slots,
        ca_file=str(config.ca_file) if config.ca_file else "",
        return_path=config.return_path,
        hello_name=config.hello_name or socket.getfqdn(),
        connect_timeout_s=config.connect_timeout_seconds,
        command_timeout_s=config.command_timeout_seconds,
        final_dot_timeout_s=config.final_timeout_seconds,
        idle_s=config.idle_seconds,
        probe_max_s=config.probe_max_seconds,
    )


def api_config(name: str, config: Mailgun | Sendgrid | Smtp2go) -> ApiConfig:
    """An API's settings as its provider takes them."""
    return ApiConfig(
        name=name,
        base_url=config.base_url,
        api_key=config.api_key.get_secret_value(),
        max_in_flight=config.slots,
        tracking=config.tracking,
        connect_timeout_s=config.connect_timeout_seconds,
        total_timeout_s=config.timeout_seconds,
        probe_max_s=config.probe_max_seconds,
    )


def build_preparation(settings: Settings, key: bytes) -> Preparation:
    """How messages are rendered: links, DKIM keys, the rehearsal's recipient."""
    signers = {}
    for name, dkim in settings.dkim.items():
        pem = dkim.key_file.read_bytes() if dkim.key_file is not None else dkim.private_key.get_secret_value().encode()
        try:
            signers[dkim.domain] = Signer(dkim.domain, dkim.selector, pem)
        except ValueError as error:
            raise StartError(f"dkim.{name}: {error}") from error
    base, by_mail = settings.http.public_url.rstrip("/"), settings.http.unsubscribe_mailto
    link_key = rehearsal_key(key) if settings.engine.redirect_all_to else key

    def unsubscribe_url(outbox_id: int, host: str) -> str:
        place = f"https://{host}" if host else base
        return f"{place}/u/{token(link_key, outbox_id)}" if place else ""

    return Preparation(
        unsubscribe_url=unsubscribe_url,
        unsubscribe_mailto=(lambda outbox_id: mailto(by_mail, token(link_key, outbox_id))) if by_mail else (lambda _: ""),
        signers=signers,
        redirect_to=settings.engine.redirect_all_to,
    )


def _bind(settings: Settings) -> socket.socket:
    try:
        return bind(settings.http.listen)
    except ListenError as error:
        raise StartError(str(error)) from error


def _term_config(settings: Settings, hurry: asyncio.Event, counters: Counters, look_ups: Mapping[str, LookUp]) -> TermConfig:
    engine = settings.engine
    return TermConfig(
        limits=tuple(config.limits(name, prefer=settings.routing.prefer) for name, config in settings.providers.items()),
        engine=EngineConfig(engine.concurrency, engine.bytes_in_flight, engine.poll_seconds),
        retry=RetryPolicy(engine.retry_first_seconds, engine.retry_max_seconds, engine.retry_for_seconds),
        drain_s=max(engine.drain_seconds - CLOSING_S, engine.drain_seconds / 2),
        thread_wait_s=engine.thread_wait_seconds,
        hurry=hurry,
        observe=counters.landed,
        look_ups=look_ups,
    )


def _posting_keys(settings: Settings) -> dict[str, tuple[str, str]]:
    return {name: (one.kind, one.webhook_key.get_secret_value()) for name, one in settings.providers.items()}


def _list_sync(settings: Settings, pool: asyncpg.Pool[asyncpg.Record], lists: Mapping[str, HttpLists]) -> ListSync | None:
    every_s = settings.suppressions.sync_minutes * 60
    return ListSync(PostgresLists(pool), lists, settings.suppressions.pushed, every_s) if every_s else None


def _ingester(settings: Settings, pool: asyncpg.Pool[asyncpg.Record], key: bytes, counters: Counters) -> Ingester:
    keys = _posting_keys(settings)
    reporting = [name for name in sources(keys) if keys[name][1]]
    return Ingester(PostgresEvents(pool, reporting, counters.posted), parsers({name: kind for name, (kind, _) in keys.items()}, key))


def _rules(settings: Settings) -> Rules:
    kept = settings.retention
    return Rules(kept.body_days, kept.attempts_days, kept.events_days, kept.posts_days)


def _lease_config(settings: Settings) -> LeaseConfig:
    lease = settings.lease
    return LeaseConfig(lease.ttl_seconds, lease.renew_seconds, lease.query_timeout_seconds, lease.margin_seconds)


async def _run_started(started: Callable[[Node], Awaitable[None]], node: Node) -> None:
    await started(node)


async def _watch(systemd: Systemd) -> None:
    while systemd.watchdog_every_s is not None:
        systemd.watchdog()
        await asyncio.sleep(systemd.watchdog_every_s)


async def _end_overtime(stop: asyncio.Event, drain_s: float) -> None:
    await stop.wait()
    await wait(asyncio.Event(), drain_s + OVERTIME_S)
    _log.error("ended_without_last_replies")
    os._exit(1)
