"""`rotord provider sync`: creates at the providers what rotord needs there, and shows what to publish in the DNS. Deletes nothing."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from rotord.cli.accounts import account, domains_of, survey, with_account
from rotord.cli.arguments import add_json
from rotord.cli.database import open_database
from rotord.cli.errors import CommandError
from rotord.cli.output import plural, print_json
from rotord.cli.zone import zone
from rotord.core.authentication import Level
from rotord.db import check
from rotord.handwritten import nearest

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from rotord.providers.account import Finding, Record
    from rotord.settings import Settings


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `provider sync plan` and `provider sync apply`."""
    parser = subparsers.add_parser("provider", help="the providers' accounts: create what is missing there")
    sync = parser.add_subparsers(metavar="VERB", required=True).add_parser("sync", help="domains, webhooks, inbound routes, DNS records")
    verbs = sync.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, says in (("plan", "show what apply would create; changes nothing"), ("apply", "create it; never deletes, may be repeated")):
        verb = verbs.add_parser(name, help=says)
        verb.add_argument("--provider", metavar="NAME", help="this one only")
        add_json(verb)
        verb.set_defaults(handler=_sync, applies=name == "apply")


async def _sync(arguments: Namespace) -> int:
    async with open_database(arguments) as session:
        settings, fleet = session.settings, await check.domains(session.conn)
    names = with_account(settings)
    if arguments.provider is not None:
        if arguments.provider not in names:
            raise CommandError(f"there is no API provider {arguments.provider}{nearest(arguments.provider, names)}", code=2)
        names = [arguments.provider]
    domains = {name: domains_of(fleet, name) for name in names}
    found = await survey(settings, domains)
    done: dict[tuple[str, str, str], str] = {}
    if arguments.applies:
        for name, findings in found.items():
            done |= await _create(settings, name, findings)
        if done:  # a domain that was just created has records now
            found = await survey(settings, domains)
    if arguments.json:
        print_json(_document(found, done, applied=arguments.applies))
    else:
        _show(found, done, applied=arguments.applies)
    failed = any(done.values()) or any(of[0].verdict.level is Level.FAIL for of in found.values())
    return 1 if failed else 0


async def _create(settings: Settings, name: str, findings: list[Finding]) -> dict[tuple[str, str, str], str]:
    """Create domains first, then what hangs on them; what was done, with '' or why it failed."""
    done = {}
    async with account(settings, name) as there:
        for finding in sorted(findings, key=lambda finding: finding.kind != "sender"):
            if finding.create is not None:
                done[name, finding.kind, finding.name] = await there.create(finding)
    return done


def _show(found: dict[str, list[Finding]], done: dict[tuple[str, str, str], str], *, applied: bool) -> None:
    for (_, kind, name), failure in done.items():
        print(f"failed  {kind} {name}: {failure}" if failure else f"created {kind} {name}")
    missing = [(name, finding) for name, findings in found.items() for finding in findings if finding.create is not None]
    for findings in found.values():
        if findings[0].verdict.level is Level.FAIL:
            print(f"fail    provider {findings[0].name}: {findings[0].verdict.says}; {findings[0].verdict.remedy}")
        for finding in findings[1:]:
            if finding.kind != "sender" and finding.create is None and finding.verdict.level is not Level.OK:
                print(f"{finding.verdict.level:<7} {finding.kind} {finding.name}: {finding.verdict.says}; {finding.verdict.remedy}")
    if missing and not applied:
        for _, finding in missing:
            print(f"create  {finding.kind} {finding.name}: {finding.verdict.says}")
        print(f"{plural(len(missing), 'thing')} to create: rotord provider sync apply")
    if not done and not missing:
        _show_nothing(found)
    for lines in _zones(found).values():
        print()
        print("\n".join(lines))


def _show_nothing(found: dict[str, list[Finding]]) -> None:
    """Of an account that could not be asked nobody knows what it lacks."""
    if not found:
        print("nothing to create: the configuration has no provider of kind mailgun, sendgrid or smtp2go")
    elif all(of[0].verdict.level is not Level.FAIL for of in found.values()):
        print("nothing to create")


def _zones(found: dict[str, list[Finding]]) -> dict[str, list[str]]:
    records: defaultdict[str, list[tuple[str, Record]]] = defaultdict(list)
    for name, findings in found.items():
        for finding in findings:
            records[finding.name.partition(" ")[2]] += [(name, record) for record in finding.records]
    return {domain: zone(domain, wanted) for domain, wanted in sorted(records.items()) if domain and wanted}


def _document(found: dict[str, list[Finding]], done: dict[tuple[str, str, str], str], *, applied: bool) -> dict[str, Any]:
    return {
        "applied": applied,
        "created": [{"provider": name, "kind": kind, "name": what, "failure": why or None} for (name, kind, what), why in done.items()],
        "found": [
            {"provider": name, "kind": f.kind, "name": f.name, **f.verdict._asdict(), "to_create": f.create is not None}
            for name, findings in found.items()
            for f in findings
        ],
        "zones": _zones(found),
    }
