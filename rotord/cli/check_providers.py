"""What `rotord check` says of the providers and of the directories of this node: tried, not guessed."""

from __future__ import annotations

import asyncio
import ipaddress
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rotord.cli.accounts import domains_of, survey, with_account
from rotord.core.authentication import Level, Verdict
from rotord.core.model import Blame
from rotord.daemon import smtp_config
from rotord.providers.smtp_connection import HandshakeError, SmtpConfig, SmtpConnection, tls_context
from rotord.settings import Sandbox, Smtp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rotord.cli.check_report import Report
    from rotord.db.check import Domain
    from rotord.settings import Settings

#: a person waits; a relay that takes longer to greet is not well
CONNECT_S: Final = 10.0


async def check_providers(report: Report, settings: Settings) -> None:
    """Open a session with every relay, all at once, and look at the sandboxes' directories."""
    if not settings.providers:
        report.add(
            "provider", "", Verdict(Level.FAIL, "none is configured, so nothing can be sent", "add [providers.NAME] to the configuration")
        )
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(survey(settings, dict.fromkeys(with_account(settings), ())), name="check accounts")
        tried = {
            name: group.create_task(_relay(smtp_config(name, config)), name=f"check {name}")
            for name, config in settings.providers.items()
            if isinstance(config, Smtp)
        }
    accounts = asked.result()
    for name, config in settings.providers.items():
        match config:
            case Smtp():
                verdict = tried[name].result()
            case Sandbox():
                verdict = await writable(settings.sandbox_directory(name))
                verdict = verdict._replace(says=f"sandbox: nothing leaves this machine; {verdict.says}")
            case _:
                verdict = accounts[name][0].verdict
        report.add("provider", name, verdict)


async def check_accounts(report: Report, settings: Settings, domains: Sequence[Domain]) -> None:
    """Ask every API that lets us in about its domains, its webhook and its inbound route."""
    let_in = {line.name for line in report.lines if line.kind == "provider" and line.verdict.level is not Level.FAIL}
    by_provider = {name: own for name in with_account(settings) if name in let_in and (own := domains_of(domains, name))}
    for findings in (await survey(settings, by_provider)).values():
        for finding in findings:
            if finding.kind != "provider" or finding.verdict.level is Level.FAIL:
                report.add(finding.kind, finding.name, finding.verdict)


async def _relay(config: SmtpConfig) -> Verdict:
    loop = asyncio.get_running_loop()
    config = replace(config, connect_timeout_s=min(config.connect_timeout_s, CONNECT_S))
    try:
        context = await asyncio.to_thread(tls_context, config)
    except OSError as error:
        return Verdict(Level.FAIL, f"ca_file {config.ca_file}: {error.strerror or error}", "give a file of certificates in PEM form")
    try:
        connection = await SmtpConnection.open(config, context, loop.time)
    except HandshakeError as error:
        return Verdict(Level.FAIL, str(error), _remedy(config, error))
    offers = ", ".join(f"{word.upper()} {rest}".strip() for word, rest in sorted(connection.client.esmtp_extensions.items()))
    await connection.quit()
    encrypted = {"none": "no encryption", "starttls": "STARTTLS, certificate verified", "implicit": "TLS, certificate verified"}[config.tls]
    let_in = f"let in as {config.username}" if config.username else "no authentication"
    says = f"{config.host}:{config.port}: {encrypted}; {let_in}; offers {offers or 'nothing'}"
    if config.tls == "none" and not _is_near(config.host):
        return Verdict(Level.WARN, says, "mail and password cross the network in plain text: set tls to starttls or implicit")
    return Verdict(Level.OK, says)


def _remedy(config: SmtpConfig, error: HandshakeError) -> str:
    if "certificate" in str(error):
        return "name the host as its certificate does, or give the authority of a private relay as ca_file"
    if error.reply.blame is Blame.ACCOUNT:
        return f"check username and password of [providers.{config.name}]"
    return f"check host, port and tls of [providers.{config.name}], and that a firewall lets this machine out"


def _is_near(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host


async def writable(directory: Path) -> Verdict:
    """Write a file where the directory is, or will be made."""

    def write() -> None:
        existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass

    try:
        await asyncio.to_thread(write)
    except OSError as error:
        says = f"{directory} cannot be written to: {error.strerror}"
        return Verdict(Level.FAIL, says, "give the directory to the user that runs rotord, or name another")
    return Verdict(Level.OK, f"{directory} can be written to")
