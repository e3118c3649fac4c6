"""`rotord migrate`: the database to this version's schema, or what it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotord.cli.arguments import add_json
from rotord.cli.database import open_database
from rotord.cli.errors import CommandError
from rotord.cli.output import print_json
from rotord.db import migrate

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `migrate`."""
    parser = subparsers.add_parser("migrate", help="bring the database to this version's schema")
    parser.add_argument("--check", action="store_true", help="only say how it stands; exit 1 if a migration is due")
    add_json(parser)
    parser.set_defaults(handler=_migrate)


async def _migrate(arguments: Namespace) -> int:
    applied: list[int] = []
    async with open_database(arguments, any_schema=True) as session:
        state = await migrate.check(session.conn)
        if state.standing is migrate.Standing.BREAKING and not arguments.check:
            raise CommandError(f"{state.sentence}: {state.remedy}")
        if not arguments.check:
            applied = await migrate.migrate(session.conn)
            state = await migrate.check(session.conn)
    if arguments.json:
        print_json({"schema": state.standing, "database": state.database, "code": state.code, "applied": applied})
    else:
        if applied:
            print(f"applied {', '.join(f'{version:04}' for version in applied)}")
        print(state.sentence + (f": {state.remedy}" if state.remedy else ""))
    return 0 if state.usable else 1
