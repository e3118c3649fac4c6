"""`rotord status`: who leads, what waits, what was sent, and what stands in the way."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final

from rotord.cli.arguments import add_json
from rotord.cli.database import open_database
from rotord.cli.output import plural, print_json, print_table, span, when
from rotord.db import status

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from datetime import datetime

    from asyncpg import Record

    from rotord.cli.output import Cell
    from rotord.db.status import Status

#: between two pictures of --watch: a person reads no faster, and one costs well below a second
REDRAW_S: Final = 2.0
#: home and clear: the next picture stands where the last one stood
CLEAR: Final = "\x1b[H\x1b[2J\x1b[3J"

#: of what is open; the picture stays on a screen
ALERTS_SHOWN: Final = 10

COUNTS: Final = ("queued", "scheduled", "deferred", "waiting", "sending", "uncertain")


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `status`."""
    parser = subparsers.add_parser("status", help="leader, queue by client, sent, addresses by state, providers")
    parser.add_argument("--watch", action="store_true", help="draw it again every 2 s until Ctrl-C")
    add_json(parser)
    parser.set_defaults(handler=_status)


async def _status(arguments: Namespace) -> int:
    async with open_database(arguments) as session:
        while True:
            now = await status.read(session.conn)
            if arguments.watch and not arguments.json and sys.stdout.isatty():
                print(CLEAR, end="")
            if arguments.json:
                print_json(_document(now))
            else:
                _draw(now)
            if not arguments.watch:
                return 0
            sys.stdout.flush()
            await asyncio.sleep(REDRAW_S)


def _document(now: Status) -> dict[str, Any]:
    leader = now.leader
    return {
        "at": now.at,
        "leader": leader
        and {
            "node": leader.node,
            "epoch": leader.epoch,
            "since": leader.elected_at,
            "expires_at": leader.expires_at,
            "is_leading": leader.is_leading,
        },
        "queue": [dict(row) for row in now.queue],
        "queue_is_estimated": now.queue_is_estimated,
        "uncertain": sum(row["uncertain"] for row in now.queue),
        "oldest_due_at": _oldest(now),
        "sent": [dict(row) for row in now.sent],
        "addresses": {row["state"]: row["addresses"] for row in now.addresses},
        "providers": [dict(row) for row in now.providers],
        "paused": [dict(row) for row in now.pauses],
        "alerts": [dict(row) for row in now.alerts],
        "bodies_blanked_upto": now.bodies_blanked_upto,
    }


def _draw(now: Status) -> None:
    print(f"time       {when(now.at)}")
    print(f"leader     {_leader(now)}")
    print(f"addresses  {_addresses(now)}")
    print(f"paused     {', '.join(_paused(row) for row in now.pauses) or 'nothing'}")
    _draw_alerts(now)
    if now.bodies_blanked_upto is not None:
        print(f"retention  bodies of what was settled up to {when(now.bodies_blanked_upto)} are blanked")
    print()
    _draw_clients(now)
    print()
    _draw_providers(now)
    uncertain = sum(row["uncertain"] for row in now.queue)
    if uncertain:
        print(f"\n{plural(uncertain, 'message')} uncertain: rotord uncertain list")


def _draw_alerts(now: Status) -> None:
    print(f"alerts     {f'{len(now.alerts)} open' if now.alerts else 'none open'}")
    for row in now.alerts[:ALERTS_SHOWN]:
        name = f"{row['severity']} {row['what'].replace('_', ' ')} {row['subject']}"
        print(f"           {name} (for {span(now.at - row['since'])}): {row['text']}")
    if len(now.alerts) > ALERTS_SHOWN:
        print(f"           ... and {len(now.alerts) - ALERTS_SHOWN} more: --json has all")


def _leader(now: Status) -> str:
    leader = now.leader
    if leader is None:
        return "none yet: no daemon has run on this database"
    name = leader.node or "a node without a name"
    if not leader.is_leading:
        return f"none: {name} (epoch {leader.epoch}) led until {span(now.at - leader.expires_at)} ago: rotord run"
    term = f"for {span(now.at - leader.elected_at)}, lease runs {span(leader.expires_at - now.at)} more"
    return f"{name} (epoch {leader.epoch}) {term}"


def _paused(row: Record) -> str:
    return "everything" if row["kind"] == "all" else f"{row['kind']} {row['name']}"


def _addresses(now: Status) -> str:
    counts = ", ".join(f"{row['addresses']:,} {row['state']}" for row in now.addresses)
    return counts or "none in the fleet yet: rotord fleet apply FILE"


def _draw_clients(now: Status) -> None:
    queue = {row["client"]: row for row in now.queue}
    sent = {row["client"]: row for row in now.sent}
    clients = sorted(queue.keys() | sent.keys())
    if not clients:
        print("the queue is empty, and nothing was sent in the last 24 hours")
        return
    rows = [_client_row(client, queue.get(client), sent.get(client), now) for client in clients]
    if len(rows) > 1:
        oldest = _oldest(now)
        rows.append(
            (
                "(all)",
                *(sum(row[name] for row in now.queue) for name in COUNTS),
                *(sum(row[name] for row in now.sent) for name in ("last_hour", "last_day")),
                span(now.at - oldest) if oldest else None,
            )
        )
    headers = [f"~{name}" if now.queue_is_estimated and name in COUNTS[:-1] else name for name in COUNTS]
    print_table(["CLIENT", *map(str.upper, headers), "SENT 1H", "SENT 24H", "LONGEST DUE"], rows)
    if now.queue_is_estimated:
        print("(~ estimated from a sample of the queue)")


def _client_row(client: str, queue: Record | None, sent: Record | None, now: Status) -> tuple[Cell, ...]:
    oldest = queue["oldest_due_at"] if queue else None
    return (
        client,
        *(queue[name] if queue else 0 for name in COUNTS),
        sent["last_hour"] if sent else 0,
        sent["last_day"] if sent else 0,
        span(now.at - oldest) if oldest else None,
    )


def _draw_providers(now: Status) -> None:
    if not now.providers:
        print("no provider has reported yet")
        return
    print_table(
        ("PROVIDER", "KIND", "STATE", "FOR", "IN FLIGHT", "CAPACITY", "NEXT TRY IN", "WHY", "REPORTED"),
        [
            (
                row["provider"],
                row["kind"],
                {True: "up", False: "DOWN", None: "not tried"}[row["up"]],
                span(now.at - row["since"]),
                row["in_flight"],
                row["capacity"],
                span(row["next_try_at"] - now.at) if row["next_try_at"] else None,
                row["reason"][:60],
                f"{span(now.at - row['updated_at'])} ago",
            )
            for row in now.providers
        ],
    )


def _oldest(now: Status) -> datetime | None:
    return min((row["oldest_due_at"] for row in now.queue if row["oldest_due_at"]), default=None)
