"""`rotord suppress`: who gets no more mail, added, lifted, listed, and moved in and out as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotord.cli import suppress_sync, suppression_csv
from rotord.cli.arguments import add_json, positive
from rotord.cli.database import check_client, open_database
from rotord.cli.errors import CommandError
from rotord.cli.output import plural, print_json, print_table
from rotord.core.suppression_lists import REASONS
from rotord.db import suppressions
from rotord.db.suppressions import Suppression
from rotord.settings import ApiProvider

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `suppress` and what it can do."""
    parser = subparsers.add_parser("suppress", help="who gets no more mail: add, remove, list, import, export, sync")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    add = verbs.add_parser("add", help="send nothing more to a recipient, from the next attempt on")
    add.add_argument("recipient", metavar="RECIPIENT")
    add.add_argument("--client", metavar="SLUG", help="only mail of this client; default: everybody's")
    add.add_argument("--reason", choices=REASONS, default="manual", help="default: manual")
    add.set_defaults(handler=_add)

    remove = verbs.add_parser("remove", help="lift a recipient's suppressions of one scope")
    remove.add_argument("recipient", metavar="RECIPIENT")
    remove.add_argument("--client", metavar="SLUG", help="this client's; default: the ones for everybody")
    remove.add_argument("--reason", choices=REASONS, help="only this one; default: all of them")
    remove.set_defaults(handler=_remove)

    show = verbs.add_parser("list", help="show suppressions")
    show.add_argument("--client", metavar="SLUG", help="only this client's")
    show.add_argument("--recipient", help="only of this recipient, in any scope")
    show.add_argument("--limit", type=positive, default=1000, metavar="N", help="at most so many; default: 1000")
    show.set_defaults(handler=_list)

    load = verbs.add_parser("import", help="add those of a CSV file, all or none")
    load.add_argument("file", metavar="FILE.csv", help=f"{suppression_csv.HEADER_TEXT}; `-`: standard input")
    load.set_defaults(handler=_import)

    save = verbs.add_parser("export", help="write all of them to a CSV file that import reads")
    save.add_argument("file", metavar="FILE.csv", help="`-`: standard output")
    save.set_defaults(handler=_export)
    for verb in (add, remove, show, load, save):
        add_json(verb)
    suppress_sync.register(verbs)


async def _add(arguments: Namespace) -> int:
    recipient = _recipient(arguments.recipient)
    async with open_database(arguments) as session:
        await check_client(session.conn, arguments.client)
        row = Suppression(recipient, arguments.client, arguments.reason, source="cli")
        added = await suppressions.add(session.conn, [row])
    if arguments.json:
        print_json({"recipient": recipient, "client": row.client, "reason": row.reason, "added": bool(added)})
    else:
        print(f"{recipient} is {'' if added else 'already '}suppressed for {_scope(row.client)} ({row.reason})")
    return 0


async def _remove(arguments: Namespace) -> int:
    recipient = _recipient(arguments.recipient)
    async with open_database(arguments) as session:
        await check_client(session.conn, arguments.client)
        removed = await suppressions.remove(session.conn, recipient, arguments.client, arguments.reason)
        left = await suppressions.find(session.conn, recipient=recipient, limit=20)
    others = ", ".join(f"for {_scope(row['client'])} ({row['reason']})" for row in left)
    if not removed:
        where = f"; it is {others}: name that scope and reason" if others else ""
        raise CommandError(f"{recipient} is not suppressed for {_scope(arguments.client)}{where}")
    if arguments.json:
        print_json({"recipient": recipient, "client": arguments.client, "removed": removed})
    else:
        print(f"{recipient} is no longer suppressed for {_scope(arguments.client)}")
        if others:
            print(f"it still is {others}")
        elif any(isinstance(one, ApiProvider) for one in session.settings.providers.values()):
            print("a provider that lists it gives it no mail, and the next exchange brings it back: lift it there as well")
    return 0


async def _list(arguments: Namespace) -> int:
    async with open_database(arguments) as session:
        await check_client(session.conn, arguments.client)
        chosen = {"client": arguments.client, "recipient": arguments.recipient}
        total = await suppressions.count(session.conn, **chosen)
        rows = await suppressions.find(session.conn, **chosen, limit=arguments.limit)
    if arguments.json:
        print_json({"total": total, "suppressions": [dict(row) for row in rows]})
        return 0
    if not rows:
        print("nobody is suppressed" if not any(chosen.values()) else "no suppression matches")
        return 0
    print_table(
        ("RECIPIENT", "CLIENT", "REASON", "SOURCE", "SINCE"),
        [(r["recipient"], r["client"] or "(all)", r["reason"], r["source"], r["created_at"]) for r in rows],
    )
    if total > len(rows):
        print(f"... and {total - len(rows):,} more: --limit, or `rotord suppress export`")
    return 0


async def _import(arguments: Namespace) -> int:
    async with open_database(arguments) as session:
        read, added = await suppression_csv.load(session.conn, arguments.file)
    if arguments.json:
        print_json({"rows": read, "added": added})
    else:
        print(f"{plural(added, 'suppression')} added; {read - added:,} of {plural(read, 'row')} were there already")
    return 0


async def _export(arguments: Namespace) -> int:
    if arguments.json and arguments.file == "-":
        raise CommandError("--json and `-` both want standard output", code=2)
    async with open_database(arguments) as session:
        written = await suppression_csv.save(session.conn, arguments.file)
    if arguments.json:
        print_json({"file": arguments.file, "rows": written})
    elif arguments.file != "-":
        print(f"{plural(written, 'suppression')} written to {arguments.file}")
    return 0


def _scope(client: str | None) -> str:
    return f"client {client}" if client else "everybody"


def _recipient(text: str) -> str:
    if not suppression_csv.is_recipient(text):
        raise CommandError(f"{text!r} is not an e-mail address", code=2)
    return text.lower()
