"""`rotord campaign`: what campaigns there are, what became of them, and a person's word on each."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, Final

from rotord.cli.arguments import add_json
from rotord.cli.database import check_client, open_database
from rotord.cli.errors import CommandError
from rotord.cli.output import plural, print_json, print_table
from rotord.core.window import parse_window
from rotord.db import bulk, campaigns, control
from rotord.fleet.addresses import MAX_LIMIT
from rotord.handwritten import nearest

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from collections.abc import Sequence

    from asyncpg import Connection, Record

    from rotord.cli.output import Cell

RULES: Final = ("status", "sending_window", "per_hour", "per_day", "stop_on_reply", "queued")
SPANS: Final = {"per_hour": "60 minutes", "per_day": "24 hours"}
COUNTS: Final = ("sent", "delivered", "bounced", "complained", "replied", "unsubscribed")


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `campaign` and what it can do."""
    parser = subparsers.add_parser("campaign", help="campaigns: list, stats, set, pause, resume, cancel")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    show = verbs.add_parser("list", help="show campaigns; one that has nothing left to send is done (what was sent: about a minute behind)")
    show.add_argument("--client", metavar="SLUG", help="only this client's")
    show.set_defaults(handler=_list)
    stats = verbs.add_parser("stats", help="what became of one, day by day in its client's time zone (about a minute behind)")
    stats.set_defaults(handler=_stats)
    change = verbs.add_parser("set", help="give one a sending window or limits, or stop it for who replies; also before its first message")
    change.add_argument("--window", metavar="WINDOW", help='beside its client\'s, such as "mon-fri 09:00-17:00"; "" takes it away')
    change.add_argument("--per-hour", metavar="N", type=_limit, help="at most so many in any 60 minutes; none takes it away")
    change.add_argument("--per-day", metavar="N", type=_limit, help="at most so many in any 24 hours; none takes it away")
    change.add_argument("--stop-on-reply", choices=("yes", "no"), help="whether a recipient who replied gets no more of it")
    change.set_defaults(handler=_set)
    pause = verbs.add_parser("pause", help="hold its messages, within a second")
    pause.set_defaults(handler=_word, word="pause")
    resume = verbs.add_parser("resume", help="send them again")
    resume.set_defaults(handler=_word, word="resume")
    cancel = verbs.add_parser("cancel", help="call back what is queued, and whatever is inserted later")
    cancel.set_defaults(handler=_cancel)
    for verb in (stats, change, pause, resume, cancel):
        verb.add_argument("campaign", metavar="CLIENT/CAMPAIGN")
    for verb in (show, stats, change, pause, resume, cancel):
        add_json(verb)


async def _list(arguments: Namespace) -> int:
    async with open_database(arguments) as session:
        await check_client(session.conn, arguments.client)
        rows = await campaigns.find(session.conn, arguments.client)
    if arguments.json:
        print_json({"campaigns": [dict(row) for row in rows]})
    elif not rows:
        print("there is no campaign: the first message that names one makes it")
    else:
        print_table(
            ("CAMPAIGN", "STATUS", "WINDOW", "PER HOUR", "PER DAY", "STOPS ON REPLY", "QUEUED", *map(str.upper, COUNTS)),
            [(f"{r['client']}/{r['campaign']}", *(r[rule] for rule in RULES), *_counts(r)) for r in rows],
        )
    return 0


def _counts(row: Record) -> list[int]:
    return [int(row[count]) for count in COUNTS]


async def _stats(arguments: Namespace) -> int:
    async with open_database(arguments) as session:
        client, name = await _known(session.conn, arguments.campaign)
        [row] = await campaigns.find(session.conn, client, name)
        days = await campaigns.days(session.conn, client, name)
    if arguments.json:
        print_json({**dict(row), "days": [{**dict(day), "day": day["day"].isoformat()} for day in days]})
        return 0
    print(f"{arguments.campaign}: {row['status']}, {plural(row['queued'], 'message')} queued")
    table: list[Sequence[Cell]] = [(day["day"].isoformat(), *_counts(day)) for day in days]
    print_table(("DAY", *map(str.upper, COUNTS)), [*table, ("all", *_counts(row))])
    return 0


async def _set(arguments: Namespace) -> int:
    if all(value is None for value in (arguments.window, arguments.per_hour, arguments.per_day, arguments.stop_on_reply)):
        raise CommandError("say what to set: --window, --per-hour, --per-day, --stop-on-reply", code=2)
    if arguments.window:
        try:
            parse_window(arguments.window)
        except ValueError as error:
            raise CommandError(f"--window: {error}", code=2) from None
    client, name = _parts(arguments.campaign)
    stop = None if arguments.stop_on_reply is None else arguments.stop_on_reply == "yes"
    async with open_database(arguments) as session:
        await check_client(session.conn, client)
        await campaigns.make(session.conn, client, name)
        row = await campaigns.change(
            session.conn,
            client,
            name,
            window=arguments.window,
            stop_on_reply=stop,
            per_hour=arguments.per_hour,
            per_day=arguments.per_day,
        )
    assert row is not None  # noqa: S101 - it has just been made, and nothing deletes one
    if arguments.json:
        print_json({"campaign": arguments.campaign, **dict(row)})
    else:
        window = f"sends {row['sending_window']}" if row["sending_window"] else "has no window of its own"
        limits = [f"{row[limit]:,} in any {span}" for limit, span in SPANS.items() if row[limit] is not None]
        most = f"at most {' and '.join(limits)}" if limits else "no limits of its own"
        reply = "stops it for its sender" if row["stop_on_reply"] else "stops nothing"
        print(f"campaign {arguments.campaign} {window}; {most}; a reply {reply}")
    return 0


def _limit(text: str) -> int:
    if text == "none":
        return campaigns.NO_LIMIT
    if not (text.isascii() and text.isdecimal() and int(text) <= MAX_LIMIT):
        raise ArgumentTypeError(f"wanted a whole number from 0 to {MAX_LIMIT}, or none, got {text!r}")
    return int(text)


async def _word(arguments: Namespace) -> int:
    async with open_database(arguments) as session:
        await _known(session.conn, arguments.campaign)
        act = control.pause if arguments.word == "pause" else control.resume
        try:
            change = await act(session.conn, control.Target.CAMPAIGN, arguments.campaign)
        except control.DisabledError as error:
            raise CommandError(f"{error}, which resume does not undo") from None
    if arguments.json:
        print_json({"campaign": arguments.campaign, "before": change.before, "status": change.after})
    else:
        print(f"campaign {arguments.campaign} {'is' if change.changed else 'was already'} {change.after}")
    return 0


async def _cancel(arguments: Namespace) -> int:
    async with open_database(arguments) as session:
        client, name = await _known(session.conn, arguments.campaign)
        await campaigns.change(session.conn, client, name, status="cancelled")  # first, so that nothing more begins
        back = await bulk.cancel(session.conn, bulk.Filter(frozenset({"queued"}), client=client, campaign=name))
    if arguments.json:
        print_json({"campaign": arguments.campaign, "status": "cancelled", "cancelled": back})
    else:
        print(f"campaign {arguments.campaign} is cancelled: {plural(back, 'message')} called back; what is on the wire may still arrive")
    return 0


def _parts(campaign: str) -> tuple[str, str]:
    client, _, name = campaign.partition("/")
    if not client or not name:
        raise CommandError("a campaign is named CLIENT/CAMPAIGN, such as acme/spring", code=2)
    return client, name


async def _known(conn: Connection, campaign: str) -> tuple[str, str]:
    client, name = _parts(campaign)
    names = [row["name"] for row in await campaigns.names(conn, client)]
    if name not in names:
        await check_client(conn, client)
        raise CommandError(f"client {client} has no campaign {name}{nearest(name, names)}")
    return client, name
