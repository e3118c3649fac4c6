"""What `rotord check` says of the fleet: clients that cannot send, domains without a way out, and what their DNS shows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rotord.core.authentication import Level, Verdict, dkim, dkim_name, dmarc, dmarc_names, is_dmarc, spf
from rotord.handwritten import nearest
from rotord.resolver import ResolverError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Mapping, Sequence

    from rotord.cli.check_report import Report
    from rotord.core.dkim import Signer
    from rotord.db.check import Client, Domain
    from rotord.resolver import Resolver

#: of a list of names; the rest is a number
NAMES_SHOWN: Final = 5


def check_clients(report: Report, clients: Sequence[Client]) -> None:
    """Judge time zones (on this node) and who has nothing to send from."""
    for client in clients:
        if not client.addresses:
            says = "it has no active address, so its mail waits"
            report.add("client", client.slug, Verdict(Level.WARN, says, "give it one in the fleet file, or resume what is paused"))
        elif not _is_zone(client.timezone):
            says = f"this machine knows no time zone {client.timezone}"
            report.add("client", client.slug, Verdict(Level.FAIL, says, "install tzdata (apt install tzdata, or pip install tzdata)"))
        else:
            report.add("client", client.slug, Verdict(Level.OK, f"{client.addresses:,} active addresses, {client.timezone}"))


def check_domains(report: Report, domains: Sequence[Domain], configured: Collection[str]) -> None:
    """Judge by which providers each can leave."""
    for domain in domains:
        missing = [name for name in domain.providers if name not in configured]
        if not domain.providers:
            verdict = Verdict(Level.FAIL, "it has no provider, so its mail waits", "give it one in the fleet file")
        elif len(missing) == len(domain.providers):
            says = f"none of its providers is configured ({', '.join(missing)})"
            verdict = Verdict(Level.FAIL, says, f"add [providers.{missing[0]}]{nearest(missing[0], configured)}")
        elif missing:
            remedy = f"add [providers.{missing[0]}], or mend the fleet file{nearest(missing[0], configured)}"
            verdict = Verdict(Level.WARN, f"not configured: {', '.join(missing)}; it goes by the others", remedy)
        else:
            verdict = Verdict(Level.OK, f"goes by {', '.join(domain.providers)}")
        report.add("domain", domain.name, verdict)
    ramps = [domain.name for domain in domains if domain.warmup != "none"]
    if ramps:
        says = f"this release does not ramp up, {_names(ramps)} may send up to its limits at once"
        report.add("warmup", "", Verdict(Level.WARN, says, "set per_hour and per_day low yourself"))


async def check_dns(report: Report, domains: Sequence[Domain], resolver: Resolver, signers: Mapping[str, tuple[Signer, bytes]]) -> None:
    """Judge SPF and DMARC of every domain, and DKIM where a key of ours signs; all at once, as far as the resolver lets them."""
    async with asyncio.TaskGroup() as group:
        asked = [
            (kind, domain.name, group.create_task(_known(verdict), name=f"{kind} {domain.name}"))
            for domain in domains
            for kind, verdict in _questions(domain.name, resolver, signers)
        ]
    for kind, name, task in asked:
        report.add(kind, name, task.result())


def _questions(domain: str, resolver: Resolver, signers: Mapping[str, tuple[Signer, bytes]]) -> list[tuple[str, Awaitable[Verdict]]]:
    questions: list[tuple[str, Awaitable[Verdict]]] = [("spf", _spf(domain, resolver)), ("dmarc", _dmarc(domain, resolver))]
    if domain in signers:
        questions.append(("dkim", _dkim(resolver, *signers[domain])))
    return questions


async def _known(verdict: Awaitable[Verdict]) -> Verdict:
    try:
        return await verdict
    except ResolverError as error:
        return Verdict(Level.WARN, f"not known: {error}", "ask again later, or another resolver (--resolver ADDRESS:PORT)")


async def _spf(domain: str, resolver: Resolver) -> Verdict:
    return spf(domain, await resolver.texts(domain))


async def _dmarc(domain: str, resolver: Resolver) -> Verdict:
    for inherited, name in enumerate(dmarc_names(domain)):
        texts = [text for text in await resolver.texts(name) if is_dmarc(text)]
        if texts:
            return dmarc(domain, texts, inherited=bool(inherited))
    return dmarc(domain, [])


async def _dkim(resolver: Resolver, signer: Signer, pem: bytes) -> Verdict:
    place = dkim_name(signer.domain, signer.selector)
    return dkim(place, await resolver.texts(place), pem)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
