"""`rotord forget`: erases a person, and sees to it that they get no more mail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotord.cli import suppression_csv
from rotord.cli.arguments import add_json
from rotord.cli.database import open_database
from rotord.cli.errors import CommandError
from rotord.cli.output import plural, print_json

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from rotord.db.forget import Erased, Preview

STAYS = "Not here to erase: copies at providers, in backups and in logs, and other people's messages that name them."


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `forget`."""
    parser = subparsers.add_parser(
        "forget",
        help="erase a person; they get no more mail",
        description="Erases what tells of a recipient: address, name, subject, bodies, headers, metadata, replies, events' details, "
        "posts of providers. Message ids, times and counts stay, and a suppression as a keyed hash, so that nothing is sent to them any "
        "more (rotord suppress remove RECIPIENT lifts it). There is no way back.",
    )
    parser.add_argument("recipient", metavar="RECIPIENT", help="an e-mail address, in upper or lower case")
    parser.add_argument("--dry-run", action="store_true", help="count what would be erased; change nothing")
    add_json(parser)
    parser.set_defaults(handler=_forget)


async def _forget(arguments: Namespace) -> int:
    from rotord.db import forget  # noqa: PLC0415 - `rotord --help` must not wait for it

    recipient = arguments.recipient
    if not suppression_csv.is_recipient(recipient):
        raise CommandError(f"{recipient!r} is not an e-mail address", code=2)
    async with open_database(arguments) as session:
        if arguments.dry_run:
            _show_preview(arguments, await forget.preview(session.conn, recipient))
        else:
            _show(arguments, await forget.forget(session.conn, recipient))
    return 0


def _show_preview(arguments: Namespace, found: Preview) -> None:
    if arguments.json:
        print_json(
            {
                "messages": found.messages,
                "ended": found.ended,
                "on_the_wire": found.live,
                "events": found.events,
                "suppressions": found.suppressions,
            }
        )
        return
    live = f", {found.live} on the wire or uncertain" if found.live else ""
    print(
        f"would be erased: {plural(found.messages, 'message')} ({found.ended} in the queue, which end as suppressed{live}), "
        f"{plural(found.events, 'event')}; {plural(found.suppressions, 'suppression')} kept as a keyed hash"
    )


def _show(arguments: Namespace, done: Erased) -> None:
    if arguments.json:
        print_json(
            {
                "name": done.name,
                "messages": done.messages,
                "ended": done.ended,
                "replies": done.replies,
                "events": done.events,
                "posts": done.posts,
                "suppressions": done.suppressions,
                "left": done.left,
            }
        )
        return
    print(
        f"erased: {plural(done.messages, 'message')} ({done.ended} in the queue, now suppressed), "
        f"{plural(done.replies, 'reply', 'replies')} passed on, {plural(done.events, 'event')}, {plural(done.posts, 'post')} of providers; "
        f"{plural(done.suppressions, 'suppression')} kept as a keyed hash"
    )
    print(f"nothing is sent to them any more; they are known as {done.name}")
    if done.left:
        print(f"{done.left} on the wire, uncertain or not read yet: the daemon that leads erases the rest of these when they are over")
    print(STAYS)
