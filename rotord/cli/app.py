"""`rotord app`: which database role may insert mail for which clients."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING

from rotord.cli.arguments import add_json
from rotord.cli.database import open_database
from rotord.cli.errors import CommandError
from rotord.cli.output import print_json, print_table
from rotord.db import apps

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `app` and what it can do."""
    parser = subparsers.add_parser("app", help="which database role may insert for which clients: add, list, remove")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    add = verbs.add_parser("add", help="let a role insert for clients; the role is made if there is none")
    add.add_argument("role", metavar="ROLE")
    add.add_argument("--client", metavar="SLUG", action="append", required=True, dest="clients", help="may be repeated")
    add.add_argument("--password", action="store_true", help="ask for the role's password (or read it from a pipe) and set it")
    add.set_defaults(handler=_add)

    show = verbs.add_parser("list", help="show the roles and their clients")
    show.set_defaults(handler=_list)

    remove = verbs.add_parser("remove", help="take the right from a role; the role itself stays")
    remove.add_argument("role", metavar="ROLE")
    remove.add_argument("--client", metavar="SLUG", action="append", dest="clients", help="may be repeated; default: all")
    remove.set_defaults(handler=_remove)
    for verb in (add, show, remove):
        add_json(verb)


async def _add(arguments: Namespace) -> int:
    password = _password(arguments.role) if arguments.password else None
    async with open_database(arguments) as session:
        try:
            done = await apps.add_app(session.conn, arguments.role, arguments.clients, password)
        except apps.AppError as error:
            raise CommandError(str(error)) from None
    return _tell(arguments, done)


async def _list(arguments: Namespace) -> int:
    async with open_database(arguments) as session:
        found = await apps.list_apps(session.conn)
    if arguments.json:
        print_json({"apps": [{"role": app.role, "clients": app.clients} for app in found]})
    elif found:
        print_table(("ROLE", "CLIENTS"), [(app.role, ", ".join(app.clients)) for app in found])
    else:
        print("no app may insert yet: rotord app add ROLE --client SLUG")
    return 0


async def _remove(arguments: Namespace) -> int:
    async with open_database(arguments) as session:
        try:
            done = await apps.remove_app(session.conn, arguments.role, arguments.clients)
        except apps.AppError as error:
            raise CommandError(str(error)) from None
    return _tell(arguments, done)


def _tell(arguments: Namespace, done: str) -> int:
    if arguments.json:
        print_json({"role": arguments.role, "done": done})
    else:
        print(done)
    return 0


def _password(role: str) -> str:
    """Read it where no history and no process list sees it."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass(f"password of role {role}: ")
    if getpass.getpass("again: ") != password:
        raise CommandError("the two passwords differ")
    return password
