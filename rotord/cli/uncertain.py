"""`rotord uncertain`: messages whose fate is not known, and a person's verdict on them."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rotord.cli.arguments import add_json, duration, positive
from rotord.cli.database import check_client, open_database
from rotord.cli.errors import CommandError
from rotord.cli.output import plural, print_json, print_table, span
from rotord.db import uncertain
from rotord.db.uncertain import Verdict
from rotord.handwritten import nearest

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from collections.abc import Mapping

    from asyncpg import Record

    from rotord.cli.database import Session
    from rotord.core.lookups import Timetable
    from rotord.settings import Settings


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `uncertain` and what it can do."""
    parser = subparsers.add_parser("uncertain", help="messages whose fate is not known: list, resolve")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    show = verbs.add_parser("list", help="show them, the oldest first")
    show.add_argument("--client", metavar="SLUG", help="only this client's")
    show.add_argument("--provider", metavar="P", help="only those given to this provider")
    show.add_argument("--older-than", type=duration, metavar="2h", help="only those whose attempt began before that")
    show.add_argument("--limit", type=positive, default=1000, metavar="N", help="at most so many; default: 1000")
    show.set_defaults(handler=_list)

    settle = verbs.add_parser(
        "resolve",
        help="say what became of them",
        usage="rotord uncertain resolve [--json] ID [ID ...] sent|not-sent\n"
        "       rotord uncertain resolve [--json] --all --older-than 2h [--provider P] sent|not-sent",
        description="Settle messages by id, or all of an age. `sent`: the provider has it, it counts as sent. "
        "`not-sent`: the provider proves it has not; it goes back into the queue and WILL BE SENT AGAIN.",
    )
    # one argument, for argparse gives ids no room of their own before a verdict once an option stands between
    settle.add_argument("words", metavar="WORD", nargs="+", help="message ids if any, then sent or not-sent")
    settle.add_argument("--all", action="store_true", help="all of them; needs --older-than")
    settle.add_argument("--older-than", type=duration, metavar="2h", help="with --all: whose attempt began before that")
    settle.add_argument("--provider", metavar="P", help="with --all: only those given to this provider")
    settle.set_defaults(handler=_resolve)
    for verb in (show, settle):
        add_json(verb)


async def _list(arguments: Namespace) -> int:
    async with open_database(arguments) as session:
        await check_client(session.conn, arguments.client)
        await _check_provider(session, arguments.provider)
        rows = await uncertain.find(
            session.conn,
            client=arguments.client,
            provider=arguments.provider,
            older_than=arguments.older_than,
            limit=arguments.limit,
        )
        times = _look_up_times(session.settings) if rows else {}
    nexts = [_next_look_up(row, times.get(row["provider"])) for row in rows]
    if arguments.json:
        shown = [{name: value for name, value in row.items() if name != "now"} for row in rows]
        print_json({"messages": [row | {"next_look_up_at": at} for row, at in zip(shown, nexts, strict=True)]})
        return 0
    if not rows:
        print("no messages are uncertain")
        return 0
    print_table(
        ("ID", "AGE", "CLIENT", "RECIPIENT", "SENDER", "PROVIDER", "LOOKED UP", "NEXT LOOK-UP", "IF NOTHING IS FOUND", "LAST WORDS"),
        [
            (
                str(row["id"]),
                span(row["age"]) if row["age"] else None,
                row["client"],
                row["recipient"],
                row["sender"],
                row["provider"],
                f"{row['look_ups']}x, {span(row['now'] - row['looked_up_at'])} ago" if row["look_ups"] else None,
                None if at is None else f"in {span(at - row['now'])}" if at > row["now"] else "due",
                "cancelled" if row["cancelled"] else row["on_uncertain"],
                " ".join(filter(None, (row["code"], row["reply"])))[:60],
            )
            for row, at in zip(rows, nexts, strict=True)
        ],
    )
    print(f"{plural(len(rows), 'message')}{' shown, --limit for more' if len(rows) == arguments.limit else ''}; ", end="")
    print("look at the provider's log, then: rotord uncertain resolve ID... sent|not-sent")
    return 0


def _look_up_times(settings: Settings) -> Mapping[str, Timetable]:
    from rotord.daemon import look_up_times  # noqa: PLC0415 - half a second, for an empty list too

    return look_up_times(settings)


def _next_look_up(row: Record, times: Timetable | None) -> datetime | None:
    """When its provider is asked next; None when nobody will: it has no look-up, or has forgotten it by then."""
    if times is None or row["over_at"] is None:
        return None
    looked_up_at = row["looked_up_at"].timestamp() if row["look_ups"] else 0.0
    at = times.due_at(row["over_at"].timestamp(), row["look_ups"], looked_up_at)
    return None if at is None else datetime.fromtimestamp(at, UTC)


async def _resolve(arguments: Namespace) -> int:
    ids, verdict = _ids_and_verdict(arguments)
    async with open_database(arguments) as session:
        await _check_provider(session, arguments.provider)
        if arguments.all:
            found = await uncertain.find(session.conn, provider=arguments.provider, older_than=arguments.older_than, limit=None)
            ids = [row["id"] for row in found]
        done = await uncertain.resolve(session.conn, ids, verdict)
    missed = sorted(set(ids) - done.ids)
    if arguments.json:
        print_json({"sent": done.sent, "queued": done.queued, "cancelled": done.cancelled, "not_uncertain": missed})
    else:
        if not ids:
            print("no messages are uncertain, or none is so old")
        for count, became in (
            (len(done.sent), "counted as sent"),
            (len(done.queued), "back in the queue, due now"),
            (len(done.cancelled), "cancelled, as was asked while it was on the wire"),
        ):
            if count:
                print(f"{plural(count, 'message')} {became}")
    if missed and not arguments.json:
        raise CommandError(f"not uncertain, so left alone: {', '.join(map(str, missed))}")
    return 1 if missed else 0


async def _check_provider(session: Session, name: str | None) -> None:
    """Refuse a provider that neither the configuration nor an uncertain message knows."""
    if name is None or name in session.settings.providers:
        return
    known = {*session.settings.providers, *await uncertain.providers(session.conn)}
    if name not in known:
        raise CommandError(f"there is no provider {name}{nearest(name, known)}", code=2)


def _ids_and_verdict(arguments: Namespace) -> tuple[list[int], Verdict]:
    """Read what was typed: no ids with --all, at least one without."""
    *words, verdict = arguments.words
    if verdict not in [*Verdict]:
        raise CommandError(f"end with what you found out, {' or '.join(Verdict)}, not {verdict!r}", code=2)
    if arguments.all and (words or arguments.older_than is None):
        raise CommandError("--all goes with --older-than and without ids: --all --older-than 2h [--provider P]", code=2)
    if not arguments.all and (not words or arguments.older_than or arguments.provider):
        raise CommandError("name the ids, or say --all --older-than 2h [--provider P]", code=2)
    try:
        return sorted({positive(word) for word in words}), Verdict(verdict)
    except ArgumentTypeError as error:
        raise CommandError(f"a message's id: {error}", code=2) from None
