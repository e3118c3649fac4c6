"""`rotord events`: what providers posted, folded again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotord.cli.arguments import add_json, moment
from rotord.cli.database import open_database, since
from rotord.cli.output import plural, print_json
from rotord.db import posts

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `events` and what it can do."""
    parser = subparsers.add_parser("events", help="what providers posted: replay")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    replay = verbs.add_parser(
        "replay",
        help="fold stored posts again",
        description="Have the leader fold the stored posts again. Events that are known stay as they are; what could not be read before, "
        "or had a name that no rotord knew, becomes events now.",
    )
    replay.add_argument("--since", type=moment, metavar="TIME", help="only those received since: a time, or how long ago (2h)")
    replay.set_defaults(handler=_replay)
    add_json(replay)


async def _replay(arguments: Namespace) -> int:
    async with open_database(arguments) as session:
        count = await posts.replay(session.conn, await since(session.conn, arguments.since))
    if arguments.json:
        print_json({"posts": count})
    else:
        print(f"{plural(count, 'post')} will be folded again")
    return 0
