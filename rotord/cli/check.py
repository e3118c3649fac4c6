"""`rotord check`: everything that can be known before mail is lost or refused; a line each, with the remedy.

Tries what the daemon will do (connect, log in, write) and asks the DNS what receivers will ask. Sends nothing, changes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import re
from typing import TYPE_CHECKING, Final

from rotord.cli.arguments import add_json
from rotord.cli.check_alerts import check_alerts
from rotord.cli.check_fleet import check_clients, check_dns, check_domains
from rotord.cli.check_hosts import check_hosts
from rotord.cli.check_look_ups import check_look_ups
from rotord.cli.check_providers import check_accounts, check_providers, writable
from rotord.cli.check_report import Report
from rotord.cli.database import load_settings, open_database
from rotord.cli.errors import CommandError
from rotord.cli.output import span
from rotord.core.authentication import Level, Verdict
from rotord.core.dkim import Signer
from rotord.db import check, migrate, status
from rotord.db.connect import is_pooler
from rotord.resolver import Resolver, ResolverError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from rotord.cli.database import Session
    from rotord.settings import Settings

POSTGRES: Final = 15
#: a message costs three round trips, shared by a batch; above this the daemon stands in the wrong place
FAR_MS: Final = 50.0


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `check`."""
    parser = subparsers.add_parser("check", help="configuration, database, providers, each domain's SPF/DKIM/DMARC; exit 1 if one fails")
    parser.add_argument("--no-dns", action="store_true", help="ask no DNS, and no unsubscribe host of a client")
    parser.add_argument("--resolver", type=_server, metavar="ADDRESS:PORT", help="ask this DNS server; default: the system's")
    add_json(parser)
    parser.set_defaults(handler=_check)


def _server(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    is_port = re.fullmatch(r"[0-9]{1,5}", port) is not None and 0 < int(port) < 1 << 16
    try:
        address = str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        address = ""
    if not address or not is_port:
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDRESS:PORT, such as 9.9.9.9:53 or [2620:fe::fe]:53")
    return address, int(port)


async def _check(arguments: Namespace) -> int:
    report = Report()
    try:
        settings = load_settings(arguments)
    except CommandError as error:
        for line in error.lines:
            report.add("configuration", "", Verdict(Level.FAIL, line))
        report.show(as_json=arguments.json)
        return error.code
    signers = await _check_settings(report, settings)
    await check_providers(report, settings)
    await check_alerts(report, settings)
    try:
        async with open_database(arguments, any_schema=True) as session:
            await _check_database(report, session, arguments, signers)
    except CommandError as error:
        report.add("database", "", Verdict(Level.FAIL, " ".join(error.lines)))
    report.show(as_json=arguments.json)
    return 1 if report.failed else 0


async def _check_settings(report: Report, settings: Settings) -> dict[str, tuple[Signer, bytes]]:
    """Judge what needs no database; gives the DKIM keys that sign, with their PEM."""
    report.add("configuration", "", Verdict(Level.OK, "read without a fault"))
    if not settings.http.public_url:
        says = "http.public_url is empty, so bulk mail has no List-Unsubscribe header, which Gmail and Yahoo want"
        report.add("unsubscribe", "", Verdict(Level.WARN, says, "set it to how the world reaches http.listen"))
    if settings.engine.redirect_all_to:
        says = f"rehearsal: every message goes to {settings.engine.redirect_all_to}"
        report.add("rehearsal", "", Verdict(Level.WARN, says, "empty engine.redirect_all_to before you go live"))
    report.add("release", "", _later(settings))
    report.add("state", "", await writable(settings.state.dir))
    signers = {}
    for name, key in settings.dkim.items():
        try:
            pem = await asyncio.to_thread(key.key_file.read_bytes) if key.key_file else key.private_key.get_secret_value().encode()
            signers[key.domain] = (Signer(key.domain, key.selector, pem), pem)
        except OSError as error:
            report.add(
                "dkim", name, Verdict(Level.FAIL, f"{key.key_file} cannot be read: {error.strerror}", "rotord run would not start: mend it")
            )
        except ValueError as error:
            report.add("dkim", name, Verdict(Level.FAIL, str(error), "rotord run would not start: give another key"))
    return signers


def _later(settings: Settings) -> Verdict:
    says = "backups are not in this release"
    if settings.backup.directory:
        return Verdict(Level.WARN, f"{says}, though backup.directory is set", "back up PostgreSQL yourself, with pg_dump for instance")
    return Verdict(Level.OK, f"{says}: back up PostgreSQL yourself")


async def _check_database(report: Report, session: Session, arguments: Namespace, signers: dict[str, tuple[Signer, bytes]]) -> None:
    version, number = await check.version(session.conn)
    pooler = not session.settings.database.is_embedded and is_pooler(session.settings.database.url.get_secret_value())
    latency_ms = await _latency_ms(session)
    says = f"PostgreSQL {version}, {latency_ms:.1f} ms away" + (
        ", behind a pooler: polled, for it passes no notifications" if pooler else ""
    )
    if number < POSTGRES:
        report.add("database", "", Verdict(Level.FAIL, says, f"install PostgreSQL {POSTGRES} or newer"))
        return
    far = Verdict(Level.WARN, says, "run rotord nearer to its database")
    report.add("database", "", far if latency_ms > FAR_MS else Verdict(Level.OK, says))
    state = await migrate.check(session.conn)
    level = Level.FAIL if not state.usable else Level.WARN if state.remedy else Level.OK
    report.add("schema", "", Verdict(level, state.sentence, state.remedy))
    if not state.usable:
        return
    report.add("leader", "", await _leader(session))
    clients, domains = await check.clients(session.conn), await check.domains(session.conn)
    if not clients:
        report.add("fleet", "", Verdict(Level.WARN, "it is empty", "rotord fleet apply FILE"))
    check_clients(report, clients)
    check_domains(report, domains, session.settings.providers)
    await check_accounts(report, session.settings, domains)
    await check_look_ups(report, session.settings, domains)
    if not arguments.no_dns:
        await check_hosts(report, clients)
    if not arguments.no_dns and domains:
        try:
            await check_dns(report, domains, Resolver(arguments.resolver), signers)
        except ResolverError as error:
            report.add("dns", "", Verdict(Level.WARN, str(error), "name one (--resolver ADDRESS:PORT), or --no-dns"))


async def _latency_ms(session: Session) -> float:
    """Take the least of three: the others say more about this machine than about the way."""
    clock = asyncio.get_running_loop().time
    rounds = []
    for _ in range(3):
        began = clock()
        await session.conn.execute("SELECT 1")
        rounds.append((clock() - began) * 1000)
    return min(rounds)


async def _leader(session: Session) -> Verdict:
    now = await status.read(session.conn)
    if now.leader is None or not now.leader.is_leading:
        since = (
            "none has run yet"
            if now.leader is None
            else f"the last, {now.leader.node}, led until {span(now.at - now.leader.expires_at)} ago"
        )
        return Verdict(Level.WARN, f"no daemon leads, so nothing is sent: {since}", "rotord run")
    return Verdict(Level.OK, f"{now.leader.node or 'a node without a name'} leads (epoch {now.leader.epoch})")
