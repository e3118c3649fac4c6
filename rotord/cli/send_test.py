"""`rotord send-test`: one real message through the whole line, and what each step answered.

It never sends by itself: only the leader knows what the limits still allow. It inserts a row as an app does and watches
the daemon take it, by reading, since no step of a message notifies anybody.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rotord.cli.arguments import add_json, duration
from rotord.cli.database import open_database
from rotord.cli.errors import CommandError
from rotord.cli.output import print_json, span, when
from rotord.cli.why import explain_message
from rotord.db import explain, follow
from rotord.db.control import NAMES, Target
from rotord.handwritten import nearest

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from asyncpg import Record

    from rotord.cli.database import Session
    from rotord.core.explain import Finding
    from rotord.db.follow import Progress

#: one look by primary key; times come from the rows, so this only delays a line's appearance
LOOK_EVERY_S: Final = 0.05
#: how long after the time-out the message may still go out, if this command dies before it calls it back
GRACE: Final = timedelta(seconds=30)

SUBJECT: Final = "rotord test, {at}"
TEXT: Final = """This is a test of rotord, sent at {at}
from {sender} to {recipient}
by `rotord send-test`. It went the way that every message goes.
"""
HTML: Final = """<p>This is a test of rotord, sent at {at}<br>
from <b>{sender}</b> to <b>{recipient}</b><br>
by <code>rotord send-test</code>. It went the way that every message goes.</p>
"""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened to the message, `ms` after it was taken into the outbox."""

    ms: float
    step: str
    says: str


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `send-test`."""
    parser = subparsers.add_parser(
        "send-test",
        help="send one real message through the whole line, and show what each step answered",
        description="Inserts a transactional message, and shows what the running daemon does with it. Exit 0 when it was accepted.",
    )
    parser.add_argument("--from", dest="sender", metavar="ADDRESS", required=True, help="an active address of the fleet")
    parser.add_argument("--to", dest="recipient", metavar="ADDRESS", required=True, help="who gets it")
    parser.add_argument(
        "--timeout", type=duration, default=timedelta(seconds=60), metavar="SPAN", help="then say why, and call it back (60s)"
    )
    add_json(parser)
    parser.set_defaults(handler=_send_test)


async def _send_test(arguments: Namespace) -> int:
    async with open_database(arguments) as session:
        chosen = await _sender(session, arguments.sender)
        if not await follow.is_address(session.conn, arguments.recipient):
            raise CommandError(f"{arguments.recipient} is no address that mail can go to", code=2)
        await _check_leader(session)
        at = when(chosen["now"])
        text, html = (body.format(at=at, sender=chosen["email"], recipient=arguments.recipient) for body in (TEXT, HTML))
        subject = SUBJECT.format(at=at)
        expires_in = arguments.timeout + GRACE
        message, taken_at = await follow.insert(session.conn, chosen, arguments.recipient, subject, text, html, expires_in)
        seen: list[Step] = []
        try:
            progress = await _watch(session, message, taken_at, arguments, seen)
            finding = None if progress.is_over else await _why(session, message)
        finally:
            # also when a person loses patience (Ctrl-C): a test that nobody waits for is not to arrive in an hour
            last = await follow.call_back(session.conn, message)
    status = progress.status if progress.is_over else last.status
    if arguments.json:
        why = finding and {"gate": finding.gate, "sentence": finding.sentence}
        print_json({"message": message, "status": status, "steps": [asdict(step) for step in seen], "why": why})
    elif finding is not None:
        print(f"not sent within {span(arguments.timeout)}: {finding.gate}: {finding.sentence}")
        print(f"message {message}: {_AFTER_CALL_BACK.get(status, status)}")
    return 0 if status == "sent" else 1


#: what a final status means to the person who waits for the test
_ENDS: Final = {
    "sent": "final: the provider has it",
    "suppressed": "final: the recipient is suppressed (rotord suppress list)",
    "uncertain": "the provider may have it: look into its log, then rotord uncertain resolve",
    "cancelled": "somebody called it back",
}
_AFTER_CALL_BACK: Final = {
    "cancelled": "called back",
    "sending": "on the wire, too late to call it back; it is not tried again (`rotord why message` tells how it ends)",
}


async def _sender(session: Session, email: str) -> Record:
    """The address, if mail can go from it as things are; refuses with the word that stops it."""
    chosen = await follow.sender(session.conn, email)
    if chosen is None:
        known = [row[0] for row in await session.conn.fetch(NAMES[Target.ADDRESS], email)]
        raise CommandError(f"there is no address {email} in the fleet{nearest(email, known)}")
    names = {"address": chosen["email"], "domain": chosen["domain"], "client": chosen["client"]}
    for kind, name in names.items():
        if chosen[f"{kind}_status"] == "disabled":
            raise CommandError(f"{kind} {name} is disabled: set its status to active in the fleet file and apply it")
        if chosen[f"{kind}_status"] == "paused":
            raise CommandError(f"{kind} {name} is paused: rotord resume {kind} {name}")
        if kind != "client" and chosen[f"{kind}_health"] == "disabled":
            raise CommandError(f"rotord itself has disabled {kind} {name}: {chosen[f'{kind}_health_reason']}")
    for pause in chosen["pauses"]:
        raise CommandError(f"{pause.strip()} is paused: rotord resume {pause.strip()}")
    _check_providers(chosen, session.settings.providers)
    return chosen


def _check_providers(chosen: Record, configured: Collection[str]) -> None:
    domain, named = chosen["domain"], chosen["providers"]
    if not named:
        raise CommandError(f"domain {domain} has no provider: give it one in the fleet file and apply it")
    usable = [name for name in named if name in configured]
    if not usable:
        raise CommandError(f"the configuration has none of the providers of domain {domain} ({', '.join(named)})")
    if all(name in chosen["paused_providers"] for name in usable):
        raise CommandError(f"every provider of domain {domain} is paused: rotord resume provider {usable[0]}")


async def _check_leader(session: Session) -> None:
    leader = await explain.leader(session.conn)
    if leader is None or not leader["is_leading"]:
        raise CommandError("no daemon leads, and only a leader knows what the limits allow: start one with rotord run")


async def _watch(session: Session, message: int, taken_at: datetime, arguments: Namespace, seen: list[Step]) -> Progress:
    """Follow it until it is over or the time is up; new steps are printed as they are seen."""
    give_up_at = taken_at + arguments.timeout
    while True:
        progress = await follow.progress(session.conn, message)
        for step in list(_steps(message, taken_at, progress))[len(seen) :]:
            seen.append(step)
            if not arguments.json:
                print(f"{step.ms:>9,.1f} ms  {step.step:<9} {step.says}", flush=True)
        if progress.is_over or progress.now >= give_up_at:
            return progress
        await asyncio.sleep(LOOK_EVERY_S)


def _steps(message: int, taken_at: datetime, progress: Progress) -> Iterator[Step]:
    """All that has happened, in order: each look gives at least what the one before gave."""

    def step(at: datetime, name: str, says: str) -> Step:
        return Step(round((at - taken_at) / timedelta(milliseconds=1), 1), name, says)

    yield step(taken_at, "accepted", f"into the outbox, as message {message}")
    yield step(taken_at, "queued", "in the same transaction, and the daemon was notified")
    known_at = progress.settled_at or progress.now
    for attempt in progress.attempts:
        yield step(attempt["began_at"], "begun", f"attempt {attempt['number']} from {attempt['address']} through {attempt['provider']}")
        if attempt["outcome"] is None:
            return
        answer = " ".join(filter(None, (attempt["code"], attempt["reply"]))) or "nothing"
        blame = f"; to blame: {attempt['blame']}" if attempt["blame"] else ""
        again = (
            f"; tried again at {when(progress.due_at)}"
            if attempt is progress.attempts[-1] and progress.due_at and not progress.is_over
            else ""
        )
        # booked by the later edge of the leader's clock, which may run ahead of the row that says so
        answered_at = min(attempt["finished_at"] or known_at, known_at)
        yield step(answered_at, attempt["outcome"], f"{attempt['provider']} answered {answer}{blame}{again}")
    if progress.is_over:
        yield step(known_at, progress.status, _ENDS.get(progress.status, progress.last_error or "final"))


async def _why(session: Session, message: int) -> Finding | None:
    row = await explain.message(session.conn, message)
    return None if row is None else await explain_message(session, row)
