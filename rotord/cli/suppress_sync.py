"""`rotord suppress sync`: the exchange with the providers' own suppression lists, shown (`plan`) or done now (`apply`)."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from rotord.cli.arguments import add_json
from rotord.cli.database import open_database
from rotord.cli.errors import CommandError
from rotord.cli.output import plural, print_json
from rotord.handwritten import nearest

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from rotord.db.list_sync import PushKey
    from rotord.engine.list_sync import Read, Round, Sent

#: of a list, for a plan: 20,000 addresses at Mailgun, half a minute
PLAN_PAGES: Final = 20


def register(verbs: _SubParsersAction[ArgumentParser]) -> None:
    """Add `sync plan` and `sync apply` to `suppress`."""
    parser = verbs.add_parser("sync", help="exchange with the lists of Mailgun, SendGrid and SMTP2GO; the daemon does it by itself too")
    words = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, says in (
        ("plan", "read their lists and show what apply would do; changes nothing"),
        ("apply", "suppress whom they list, add ours to theirs; takes nothing off, may be repeated"),
    ):
        word = words.add_parser(name, help=says)
        word.add_argument("--provider", metavar="NAME", help="this one only")
        add_json(word)
        word.set_defaults(handler=_sync, applies=name == "apply")


async def _sync(arguments: Namespace) -> int:
    from rotord.daemon import build_lists  # noqa: PLC0415 - half a second, for every command
    from rotord.db.list_store import PostgresLists, Weighing  # noqa: PLC0415
    from rotord.engine.list_sync import ListSync  # noqa: PLC0415

    async with open_database(arguments) as session, AsyncExitStack() as stack:
        settings = session.settings
        if settings.engine.redirect_all_to:
            raise CommandError("this is a rehearsal (engine.redirect_all_to): nothing is exchanged, since its bounces are the tester's")
        lists = build_lists(settings)
        for one in lists.values():
            stack.push_async_callback(one.close)
        if arguments.provider is not None:
            if arguments.provider not in lists:
                raise CommandError(f"there is no API provider {arguments.provider}{nearest(arguments.provider, lists)}", code=2)
            lists = {arguments.provider: lists[arguments.provider]}
        weighing = Weighing(session.conn)
        store = PostgresLists(session.conn) if arguments.applies else weighing
        sync = ListSync(store, lists, settings.suppressions.pushed, 0.0, **({} if arguments.applies else {"most_pages": PLAN_PAGES}))
        # all are read before any is added to, so that each hears of what the others list
        done = {name: await sync.read(one) for name, one in lists.items()}
        for name, one in lists.items():
            if done[name].trouble is None:
                done[name] = (await sync.add(one))._replace(read=done[name].read)
    if arguments.json:
        print_json(_document(done, weighing.waiting, applied=arguments.applies))
    else:
        _show(done, weighing.waiting, applied=arguments.applies)
    return 1 if any(map(_failed, done.values())) else 0


def _failed(one: Round) -> bool:
    return one.trouble is not None or any(read.fault for read in one.read) or any(sent.fault for sent in one.sent)


def _show(done: dict[str, Round], waiting: list[tuple[PushKey, int]], *, applied: bool) -> None:
    if not done:
        print("nothing to exchange: the configuration has no provider of kind mailgun, sendgrid or smtp2go")
    for name, one in done.items():
        for read in one.read:
            print(_read(name, read, applied=applied))
        for key, count in [entry for entry in waiting if entry[0].provider == name]:
            print(f"add     {plural(count, 'suppression')} of {_whose(key)} ({key.reason}) to {_where(name, key.domain)}")
        for sent in one.sent:
            print(_sent(name, sent))
        if one.trouble is not None:
            print(f"fail    {name}: {one.trouble.reason}")
        elif not one.read and not one.sent:
            print(f"ok      {name}: no domain of the fleet goes by it")
    if done and not applied:
        print("to do it: rotord suppress sync apply")


def _read(name: str, read: Read, *, applied: bool) -> str:
    where = f"{read.key.name} of {_where(name, read.key.domain)}"
    if read.fault:
        return f"fail    {where}: {read.fault}"
    count = f"{'' if read.complete else 'at least '}{plural(read.entries, 'address', 'addresses')}"
    new = f"{plural(read.new, 'suppression')} {'added' if applied else 'new'} here" if read.new else "nothing new here"
    left_out = f"; {read.others:,} left out (a whole domain, or a reason that is not known)" if read.others else ""
    return f"read    {where}: {count}, {new}{left_out}"


def _sent(name: str, sent: Sent) -> str:
    where = _where(name, sent.key.domain)
    refused = f"; {sent.refused:,} refused: {sent.fault}" if sent.refused else f"; {sent.fault}" if sent.fault else ""
    return f"added   {plural(sent.taken, 'suppression')} of {_whose(sent.key)} ({sent.key.reason}) to {where}{refused}"


def _where(name: str, domain: str) -> str:
    return f"{name} {domain}".rstrip()


def _whose(key: PushKey) -> str:
    return f"client {key.client}" if key.client else "everybody"


def _document(done: dict[str, Round], waiting: list[tuple[PushKey, int]], *, applied: bool) -> dict[str, Any]:
    return {
        "applied": applied,
        "read": [
            {
                "provider": name,
                "list": read.key.name,
                "domain": read.key.domain or None,
                "entries": read.entries,
                "new": read.new,
                "left_out": read.others,
                "complete": read.complete,
                "fault": read.fault or None,
            }
            for name, one in done.items()
            for read in one.read
        ],
        "to_add": [{**_pushed(key), "count": count} for key, count in waiting],
        "added": [
            {**_pushed(sent.key), "count": sent.taken, "refused": sent.refused, "fault": sent.fault or None}
            for one in done.values()
            for sent in one.sent
        ],
        "failures": {name: one.trouble.reason for name, one in done.items() if one.trouble is not None},
    }


def _pushed(key: PushKey) -> dict[str, str | None]:
    return {"provider": key.provider, "domain": key.domain or None, "client": key.client or None, "reason": key.reason}
