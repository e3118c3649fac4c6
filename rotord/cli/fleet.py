"""`rotord fleet`: the declared clients, domains and addresses against the database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rotord import fleet
from rotord.cli.arguments import add_json
from rotord.cli.database import load_settings, open_database
from rotord.cli.errors import CommandError
from rotord.cli.output import plural, print_json
from rotord.fleet.export import ADDRESSES_NAME, FLEET_NAME

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `fleet` and what it can do."""
    parser = subparsers.add_parser("fleet", help="declared clients, domains, addresses: plan, apply, export")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    plan = verbs.add_parser("plan", help="show what apply would change")
    plan.add_argument("file", metavar="FILE", type=Path, help="the fleet file; it names the addresses' file")
    plan.set_defaults(handler=_plan)

    apply = verbs.add_parser("apply", help="make the database what the file declares, in one transaction")
    apply.add_argument("file", metavar="FILE", type=Path, help="the fleet file; it names the addresses' file")
    apply.set_defaults(handler=_apply)

    export = verbs.add_parser("export", help=f"write {FLEET_NAME} and {ADDRESSES_NAME} from the database")
    export.add_argument("directory", metavar="DIR", type=Path, nargs="?", default=Path(), help="default: here")
    export.add_argument("--force", action="store_true", help="replace files that are there already")
    export.set_defaults(handler=_export)
    for verb in (plan, apply, export):
        add_json(verb)


async def _plan(arguments: Namespace) -> int:
    declared = _read(arguments)
    async with open_database(arguments) as session:
        steps = await fleet.plan(session.conn, declared)
    return _show(arguments, steps, applied=False)


async def _apply(arguments: Namespace) -> int:
    declared = _read(arguments)
    async with open_database(arguments) as session:
        steps = await fleet.apply(session.conn, declared)
    return _show(arguments, steps, applied=True)


async def _export(arguments: Namespace) -> int:
    directory: Path = arguments.directory
    there = [name for name in (FLEET_NAME, ADDRESSES_NAME) if (directory / name).exists()]
    if there and not arguments.force:
        raise CommandError(f"{directory} has {' and '.join(there)} already: name another directory, or --force")
    async with open_database(arguments) as session:
        try:
            written = await fleet.export(session.conn, directory)
        except ConnectionError:  # the database's trouble, not the directory's
            raise
        except OSError as error:
            raise CommandError(f"cannot write to {directory}: {error.strerror or error}") from None
    counts = {"clients": len(written.clients), "domains": len(written.domains), "addresses": len(written.addresses)}
    if arguments.json:
        print_json({"files": [str(directory / FLEET_NAME), str(directory / ADDRESSES_NAME)], **counts})
    else:
        held = f"{plural(counts['clients'], 'client')}, {plural(counts['domains'], 'domain')}"
        print(f"{directory / FLEET_NAME}: {held}")
        print(f"{directory / ADDRESSES_NAME}: {plural(counts['addresses'], 'address', 'addresses')}")
    return 0


def _read(arguments: Namespace) -> fleet.FleetFile:
    """Read the file before the database is touched; providers are those of the configuration."""
    settings = load_settings(arguments)
    try:
        return fleet.read(arguments.file, settings.providers.keys())
    except fleet.FleetError as error:
        raise CommandError(*error.lines) from None


def _show(arguments: Namespace, steps: fleet.FleetPlan, *, applied: bool) -> int:
    if arguments.json:
        print_json({"applied": applied, **fleet.as_json(steps)})
        return 0
    for line in fleet.lines(steps):
        print(line)
    if not steps.is_empty:
        print("applied" if applied else f"nothing is changed yet: rotord fleet apply {arguments.file}")
    return 0
