"""`rotord retry` and `rotord cancel`: many messages at once, by client, campaign, status and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotord.cli.arguments import add_json, moment
from rotord.cli.database import check_client, open_database, since
from rotord.cli.errors import CommandError
from rotord.cli.output import plural, print_json, print_table
from rotord.db import bulk

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from collections.abc import Iterable, Sequence

    from asyncpg import Connection

#: without --status: what a person means by "again", and what can still be stopped
RETRY_DEFAULT: Final = ("failed", "queued")
CANCEL_DEFAULT: Final = ("queued",)


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `retry` and `cancel`."""
    retry = subparsers.add_parser(
        "retry",
        help="try failed messages again, and deferred ones now",
        description="Puts failed messages back into the queue, and makes deferred ones due now. Needs a filter.",
    )
    _add_filters(
        retry,
        bulk.RETRYABLE,
        "failed and queued; queued are those that were deferred",
        "failed or suppressed since then, or for queued ones: inserted since then",
    )
    retry.set_defaults(handler=_retry)

    cancel = subparsers.add_parser(
        "cancel",
        help="call messages back that are not on the wire yet",
        description="Calls messages back as an app does by setting cancelled_at: what is queued never leaves; what is "
        "on the wire or uncertain is not sent again. Needs a filter.",
    )
    _add_filters(cancel, bulk.CANCELLABLE, "queued", "inserted since then")
    cancel.set_defaults(handler=_cancel)


def _add_filters(parser: ArgumentParser, statuses: Iterable[str], default: str, since_means: str) -> None:
    parser.add_argument("--client", metavar="SLUG", help="only this client's")
    parser.add_argument("--campaign", metavar="NAME", help="only this campaign's")
    parser.add_argument("--status", choices=[*statuses], action="append", help=f"may be repeated; default: {default}")
    parser.add_argument("--since", type=moment, metavar="TIME", help=f"{since_means}: a time, or how long ago (2h)")
    parser.add_argument("--dry-run", action="store_true", help="count them and show a few; change nothing")
    add_json(parser)


async def _retry(arguments: Namespace) -> int:
    async with open_database(arguments) as session:
        chosen = await _filter(arguments, session.conn, RETRY_DEFAULT)
        if arguments.dry_run:
            preview = await bulk.preview_retry(session.conn, chosen)
        else:
            done = await bulk.retry(session.conn, chosen)
    if arguments.dry_run:
        return _show(arguments, preview, "would be tried again")
    if arguments.json:
        print_json({"requeued": done.requeued, "woken": done.woken})
    elif not done.requeued and not done.woken:
        print("no message matches")
    else:
        print(f"{plural(done.requeued, 'message')} back in the queue, {plural(done.woken, 'deferred message')} due now")
    return 0


async def _cancel(arguments: Namespace) -> int:
    async with open_database(arguments) as session:
        chosen = await _filter(arguments, session.conn, CANCEL_DEFAULT)
        if arguments.dry_run:
            preview = await bulk.preview_cancel(session.conn, chosen)
        else:
            cancelled = await bulk.cancel(session.conn, chosen)
    if arguments.dry_run:
        return _show(arguments, preview, "would be called back")
    if arguments.json:
        print_json({"cancelled": cancelled})
    else:
        print(f"{plural(cancelled, 'message')} called back" if cancelled else "no message matches")
    return 0


async def _filter(arguments: Namespace, conn: Connection, statuses: Sequence[str]) -> bulk.Filter:
    """Read the filters; an empty line must not mean everything."""
    if not (arguments.client or arguments.campaign or arguments.status or arguments.since):
        raise CommandError("name at least one of --client, --campaign, --status, --since", code=2)
    await check_client(conn, arguments.client)
    return bulk.Filter(
        client=arguments.client,
        campaign=arguments.campaign,
        statuses=frozenset(arguments.status or statuses),
        since=await since(conn, arguments.since),
    )


def _show(arguments: Namespace, preview: bulk.Preview, would: str) -> int:
    if arguments.json:
        print_json({"count": preview.count, "sample": [dict(row) for row in preview.sample]})
        return 0
    if not preview.count:
        print("no message matches")
        return 0
    print(f"{plural(preview.count, 'message')} {would}{', for example' if preview.count > len(preview.sample) else ''}:")
    print_table(
        ("ID", "CLIENT", "CAMPAIGN", "RECIPIENT", "STATUS", "ATTEMPTS", "LAST ERROR"),
        [
            (
                str(row["id"]),
                row["client"],
                row["campaign"],
                row["recipient"],
                row["status"],
                row["attempts"],
                (row["last_error"] or "")[:60],
            )
            for row in preview.sample
        ],
    )
    return 0
